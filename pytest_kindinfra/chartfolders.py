"""The folder of a chart as helm needs it: with the charts that it depends on.

A chart that has them is used where it is, offline. Of any other a copy is completed, once per
run whatever the number of services that use it; the user's folder is never written to.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.charts import HELM_ENVIRONMENT
from pytest_kindinfra.kubeyaml import dump, load_documents
from pytest_kindinfra.textfiles import read_text

if TYPE_CHECKING:
    from pytest_kindinfra.charts import Templating

_LISTS = ("Chart.yaml", "requirements.yaml")
_LOCKS = ("Chart.lock", "requirements.lock")
_LOCAL = "file://"


def completed_chart(chart: Path, how: Templating) -> Path:
    """Return a chart's folder, or that of a copy into which helm put what was missing.

    Raises:
        CommandError: helm could not get a dependency.
    """
    if not (chart.is_dir() and _missing(chart)):
        return chart
    aside = Path(tempfile.mkdtemp(prefix="kindinfra-chart-"))
    atexit.register(_remove, aside, os.getpid())
    copy = aside / chart.resolve().name
    shutil.copytree(chart, copy, ignore_dangling_symlinks=True)
    # A lock file is a promise about the list as it stands: of a changed one helm wants none of it.
    changed = _made_absolute(copy, chart)
    locked = not changed and any((chart / name).is_file() for name in _LOCKS)
    argv = ["helm", "dependency", "build" if locked else "update", str(copy)]
    what = f'getting what chart "{chart.name}" depends on'
    how.runner.run(argv, deadline=how.deadline, what=what, env=HELM_ENVIRONMENT)
    return copy


def _remove(folder: Path, process: int) -> None:
    """Remove a folder at the end of the process that made it, and not of one forked from that."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _missing(chart: Path) -> list[str]:
    """Return the names of the charts that it depends on and has not got."""
    listed = {str(one.get("name")) for name in _LISTS for one in _dependencies(chart / name)}
    there = [path.name for path in (chart / "charts").glob("*")]
    return sorted(
        name
        for name in listed
        if name not in there
        and not any(one.startswith(f"{name}-") and one.endswith(".tgz") for one in there)
    )


def _made_absolute(copy: Path, chart: Path) -> bool:
    """Have dependencies in folders beside the chart found from the copy; whether there are any."""
    found = False
    for name in _LISTS:
        for one in (whole := _list(copy / name)).get("dependencies") or ():
            where = str(one.get("repository", ""))
            if where.startswith(_LOCAL) and not where.startswith(f"{_LOCAL}/"):
                one["repository"] = f"{_LOCAL}{(chart / where.removeprefix(_LOCAL)).resolve()}"
                found = True
        if found and whole:
            (copy / name).write_text(dump(whole))
    return found


def _dependencies(file: Path) -> list[dict[str, Any]]:
    return [one for one in _list(file).get("dependencies") or () if isinstance(one, dict)]


def _list(file: Path) -> dict[str, Any]:
    """Return what a file says; one that is no YAML helm complains about itself."""
    try:
        documents = list(load_documents(read_text(file)))
    except (OSError, ValueError):
        return {}
    return documents[0] if documents and isinstance(documents[0], dict) else {}
