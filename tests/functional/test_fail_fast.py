"""With `--kindinfra-fail=fast` the first failure ends the bring-up and is everybody's cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project


@pytest.mark.parametrize("workers", [None, 2])
def test_the_first_failure_cancels_what_would_never_end(
    project: Project, workers: int | None
) -> None:
    project.service("broken", image=True)
    project.service("endless", image=True)
    project.behave("build broken", exit=3, says="no compiler")
    project.behave("build endless", until="never opened")
    project.tests("""
        @pytest.mark.kindinfra("broken")
        def test_broken(): ...

        @pytest.mark.kindinfra("endless")
        def test_endless(): ...

        def test_free(): ...
    """)

    run = project.run("--kindinfra-fail=fast", "--kindinfra-build-jobs=2", workers=workers)

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 2}), run.text
    assert run.out.count('failed to start: image "broken" failed to build') >= len(run.outcomes)
    # Whether kind had begun to create anything is a matter of a moment.
    assert len(run.calls("create")) <= len(run.calls("delete")) <= 1
    assert run.clusters == []
