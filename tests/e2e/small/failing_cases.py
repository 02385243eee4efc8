"""A test that fails, for its report; named so that the outer run does not collect it."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("web")
def test_fails(kindinfra: Stack, kindinfra_namespace: str) -> None:
    Path("failed-namespace").write_text(kindinfra_namespace)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{kindinfra.url('web')}/no-such-page", timeout=10)  # noqa: S310
    pytest.fail("on purpose")


def test_namespaces_are_quick(request: pytest.FixtureRequest, kindinfra: Stack) -> None:
    from pytest_kindinfra.session.fixtures import fresh_name, make_namespace

    assert kindinfra.api.get("/api/v1/namespaces/default")  # the client is imported and connected
    seconds = []
    for _ in range(10):
        start = time.monotonic()
        name = fresh_name(request.node.name)
        make_namespace(kindinfra, name)
        seconds.append(time.monotonic() - start)
        kindinfra.api.delete_namespace(name)
    Path("seconds").write_text(" ".join(f"{one:.3f}" for one in sorted(seconds)))
