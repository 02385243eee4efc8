"""Real runs of pytest, beside programs that only play docker and kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.functional.project import Project, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all workers of this session."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture
def project(tmp_path: Path, shared_folder: Path) -> Iterator[Project]:
    """An empty project."""
    # Runs beside each other share the temporary folder, and so the lock of the host under
    # which ports are chosen: or two would find the same port free.
    with Project(tmp_path, temporary=shared_folder / "tmp") as made:
        yield made


@pytest.fixture(scope="session")
def run_once(
    tmp_path_factory: pytest.TempPathFactory, shared_folder: Path
) -> Callable[[Callable[[Project], Run]], Run]:
    """Make a run that several tests look at: once, whatever workers they are in."""

    def run_once(make: Callable[[Project], Run]) -> Run:
        name = f"{make.__module__}.{make.__qualname__}"
        result = shared_folder / f"{name}.json"
        with FileLock(shared_folder / f"{name}.lock"):
            if not result.exists():
                folder = tmp_path_factory.mktemp(make.__name__)
                with Project(folder, temporary=shared_folder / "tmp") as project:
                    result.write_text(make(project).to_json())
        return Run.from_json(result.read_text())

    return run_once
