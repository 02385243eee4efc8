"""Charts as files: what they depend on, and the hash of their content."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.yaml import dump, load_documents
from pytest_kindinfra.system.files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.model import Helm
    from pytest_kindinfra.plan.source import RenderOptions


_LISTS = ("Chart.yaml", "requirements.yaml")


_LOCKS = ("Chart.lock", "requirements.lock")


_LOCAL = "file://"


def completed_chart(chart: Path, options: RenderOptions) -> Path:
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
    options.runner.run(argv, deadline=options.deadline, what=what, env=HELM_ENVIRONMENT)
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
    """Have dependencies in folders next to the chart found from the copy; whether there are any."""
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


_HASH_DIGITS = 16


_NOT_HASHED = ("Chart.lock", "requirements.lock")


_PACKED = ".tgz"


def release_content(helm: Helm, *, chart: Path, values: Sequence[Path]) -> str:
    """Return a hash of a chart with its dependencies, of files of values, and of what was set."""
    found = hashlib.sha256(json.dumps(helm.set, sort_keys=True, default=str).encode())
    found.update(f"{helm.release}\0{helm.namespace}\0".encode())
    for name, content in _parts(chart, values):
        found.update(f"{name}\0".encode() + hashlib.sha256(content).digest())
    return found.hexdigest()[:_HASH_DIGITS]


def _parts(chart: Path, values: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of all that counts, in an order of its own."""
    for path in values:
        yield path.name, path.read_bytes()
    for path in sorted(_files(chart)) or [chart]:
        name = str(path.relative_to(chart))
        if path.suffix == _PACKED:
            yield from ((f"{name}/{inner}", content) for inner, content in _members(path))
        elif path.name not in _NOT_HASHED:
            yield name, path.read_bytes()


def _files(chart: Path) -> Iterator[Path]:
    """Yield the files of a chart as helm finds them: also behind links, such as a sub-chart's."""
    for text, folders, names in os.walk(chart, followlinks=True):
        folder = Path(text)
        # A link to a folder above would lead round and round.
        above = {parent.resolve() for parent in (folder, *folder.parents)}
        folders[:] = [one for one in folders if (folder / one).resolve() not in above]
        yield from (path for name in names if (path := folder / name).is_file())


def _members(archive: Path) -> list[tuple[str, bytes]]:
    """Return the files in a packed chart, sorted; one that is no archive helm complains about."""
    try:
        with tarfile.open(archive) as packed:
            files = [one for one in packed if one.isfile() and _counts(one.name)]
            return sorted((one.name, _read(packed, one)) for one in files)
    except tarfile.TarError:
        return [("", archive.read_bytes())]


def _counts(name: str) -> bool:
    return PurePosixPath(name).name not in _NOT_HASHED


def _read(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(member)
    return file.read() if file else b""


HELM_ENVIRONMENT = dict.fromkeys(
    (
        *("HELM_NAMESPACE", "HELM_KUBECONTEXT", "HELM_KUBETOKEN", "HELM_KUBEASUSER"),
        *("HELM_KUBEASGROUPS", "HELM_KUBEAPISERVER", "HELM_KUBECAFILE"),
        *("HELM_KUBEINSECURE_SKIP_TLS_VERIFY", "HELM_KUBETLS_SERVER_NAME"),
    ),
    "",
)
"""Emptied for helm: with these it would leave our kubeconfig for another cluster."""
