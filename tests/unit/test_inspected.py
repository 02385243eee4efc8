"""What Docker prints of several things, and what podman does, are read the same."""

from __future__ import annotations

import pytest

from pytest_kindinfra.engines.common import inspected


@pytest.mark.parametrize(
    "printed",
    [
        pytest.param('{"Id": "1"}\n{"Id": "2"}\n\n', id="docker, with a template"),
        pytest.param('[\n    {"Id": "1"},\n    {"Id": "2"}\n]\n', id="podman"),
        pytest.param('\n[{"Id": "1"}, {"Id": "2"}]', id="an empty line first"),
    ],
)
def test_all_come_in_their_order(printed: str) -> None:
    assert inspected(printed) == [{"Id": "1"}, {"Id": "2"}]


@pytest.mark.parametrize("printed", ["", "\n", "[]\n"])
def test_nothing_printed_is_nothing(printed: str) -> None:
    assert inspected(printed) == []
