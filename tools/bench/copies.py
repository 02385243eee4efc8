"""What a copy of each service for each worker costs, beside one stack for all of them.

Runs of pytest with a real kind cluster each, in turns: PostgreSQL, Redis and a static web server,
with `per = "worker"` and without. Printed are the seconds from the ready cluster until all services
were ready, those of the whole run, and the memory of the kind node at its end without page cache.

    tools/bench/copies.py [--workers 8] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from figures import quartiles

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "examples" / "databases" / "k8s"
WEB = ROOT / "tests" / "e2e" / "in_tests"
SERVICES = ("postgres", "redis", "web")
DECLARATION = """
[options]
timeout = 1200

[images.web]
context = "web"
"""
SERVICE = """
[services.{name}]
{per}
manifests = ["{name}.yaml"]
endpoints.it = {{ port = {port}, scheme = "tcp" }}
"""
TESTS = """
import pytest

@pytest.mark.parametrize("number", range({workers}))
@pytest.mark.kindinfra("postgres", "redis", "web")
def test_it(kindinfra, number):
    assert kindinfra.endpoint("postgres").port
"""
CONFTEST = """
import json
from pathlib import Path
import docker

def pytest_kindinfra_before_teardown(stack, directory):
    node = docker.from_env().containers.get(f"{stack.cluster}-control-plane")
    memory = node.stats(stream=False)["memory_stats"]
    found = memory["stats"]
    cache = found.get("total_inactive_file", found.get("inactive_file", 0))
    Path("memory.json").write_text(json.dumps(memory["usage"] - cache))
"""
MIB = 1 << 20


class Cost(NamedTuple):
    """What one run took.

    Attributes:
        ready: Seconds from the ready cluster until all services were ready.
        total: Seconds of the whole run.
        memory: MiB of the kind node at its end.
        load: The load average after it.
    """

    ready: float
    total: float
    memory: float
    load: float


def write_project(folder: Path, *, workers: int, copies: bool) -> None:
    """Write what one run needs."""
    per = 'per = "worker"' if copies else ""
    ports = {"postgres": 5432, "redis": 6379, "web": 80}
    services = [SERVICE.format(name=name, per=per, port=ports[name]) for name in SERVICES]
    (folder / "kindinfra.toml").write_text(DECLARATION + "".join(services))
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS.format(workers=workers))
    shutil.copytree(WEB / "web", folder / "web")
    for source in (MANIFESTS / "postgres.yaml", MANIFESTS / "redis.yaml", WEB / "web.yaml"):
        shutil.copy(source, folder)


def measured(*, workers: int, copies: bool) -> Cost:
    """Run pytest once in a new cluster.

    Raises:
        SystemExit: It failed; with what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="copies-") as name:
        folder = Path(name)
        write_project(folder, workers=workers, copies=copies)
        argv = ["-m", "pytest", "-q", "-n", str(workers), "-p", "no:randomly", "-p", "no:asyncio"]
        argv += ["-p", "no:rerunfailures", "--kindinfra-snapshot=off"]
        done = subprocess.run(
            [sys.executable, *argv], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        report = json.loads((folder / ".kindinfra" / "latest" / "run.json").read_text())
        phases = report["phases"]
        memory = json.loads((folder / "memory.json").read_text()) / MIB
        total = max(one["end"] for one in phases) - min(one["start"] for one in phases)
        ready = last_wait(phases, cluster=False) - last_wait(phases, cluster=True)
        return Cost(ready, total, memory, os.getloadavg()[0])


def last_wait(phases: list[dict[str, Any]], *, cluster: bool) -> float:
    """Return when the cluster, or the last service, was ready."""
    waits = [one for one in phases if one["kind"] == "wait"]
    return max(one["end"] for one in waits if (one["subject"] == "cluster") is cluster)


def main() -> None:
    """Measure both, in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    words = parser.parse_args()
    costs: dict[str, list[Cost]] = {"shared": [], "copies": []}
    for _ in range(words.rounds):
        for kind, found in costs.items():
            found.append(measured(workers=words.workers, copies=kind == "copies"))
            ready, total, memory, load = found[-1]
            print(
                f"{kind}: services ready after {ready:.1f} s, run {total:.1f} s, node "
                f"{memory:.0f} MiB, load average {load:.0f}",
                flush=True,
            )
    for kind, found in costs.items():
        ready, memory = ([getattr(one, what) for one in found] for what in ("ready", "memory"))
        print(f"{kind:<8} median {quartiles(ready)[1]:6.1f} s {quartiles(memory)[1]:6.0f} MiB")


if __name__ == "__main__":
    main()
