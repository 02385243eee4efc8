"""What a port-forward leads to is restarted; named so that the outer run leaves it."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra import Stack

HELLO = b"hello\n"
AT_MOST = 300.0


def in_node(node: str, *words: str) -> str:
    argv = ("docker", "exec", node, *words)
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


PID = r"""
for process in /proc/[0-9]*; do
  case "$(tr '\0' ' ' < $process/cmdline)" in
    kube-apiserver\ --*|/*/kube-apiserver\ --*) echo ${process#/proc/};;
  esac
done 2>/dev/null
"""


def api_server(node: str) -> str:
    """Return the id of its process in the kind node, empty if there is none."""
    return in_node(node, "sh", "-c", PID).strip()


def seconds_until(answers: Callable[[], bool]) -> str:
    """Return how long it took and how many tries failed before."""
    begun, failed = time.monotonic(), 0
    while time.monotonic() - begun < AT_MOST:
        with suppress(OSError):
            if answers():
                return f"{time.monotonic() - begun:.2f} s after {failed} that failed\n"
        failed += 1
        time.sleep(0.05)
    pytest.fail(f"no answer within {AT_MOST:g} s")


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - ours
        return bytes(answer.read())


@pytest.mark.kindinfra("web")
def test_an_endpoint_answers_again_when_its_pod_and_the_api_server_were_restarted(
    kindinfra: Stack,
) -> None:
    url, (node,) = kindinfra.url("web"), kindinfra.core.list_node().items
    assert url.startswith("http://127.0.0.1:")
    name = str(node.metadata.name if node.metadata else "")

    def pods() -> set[str]:
        found = kindinfra.core.list_namespaced_pod("shop", label_selector="app=web").items
        return {str(pod.metadata.uid) for pod in found if pod.metadata}

    old = pods()
    kindinfra.core.delete_collection_namespaced_pod("shop", label_selector="app=web")
    of_pods = seconds_until(lambda: old.isdisjoint(pods()) and fetch(url) == HELLO)

    before = api_server(name)
    in_node(name, "kill", "-KILL", before)
    of_server = seconds_until(lambda: fetch(url) == HELLO)

    assert api_server(name) not in {"", before}
    Path("restarts").write_text(f"pods: {of_pods}API server: {of_server}")
