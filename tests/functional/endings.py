"""What is true of every end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.functional.project import Run


def assert_deleted_once(run: Run) -> None:
    """The cluster was made and deleted once, and no test ran any more."""
    assert len(run.calls("create")) == len(run.calls("delete")) == 1, run.text
    assert run.clusters == []
    ends = [when for what, when, _ in run.notes if what.startswith("end")]
    assert all(end <= run.call("delete").start for end in ends)
    assert run.report["outcome"]["kept"] is False
