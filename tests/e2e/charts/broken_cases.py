"""Tests of releases that cannot work, beside those of the example."""

from __future__ import annotations

import pytest


@pytest.mark.kindinfra("pull")
def test_pull() -> None: ...


@pytest.mark.kindinfra("job")
def test_job() -> None: ...
