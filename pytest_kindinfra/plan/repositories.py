"""Charts of repositories and registries: helm pulls each version once, into the cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.plan.charts import HELM_ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.model import Helm
    from pytest_kindinfra.plan.source import RenderOptions


_REGISTRY = "oci://"


_WEB = ("https://", "http://")


_VERSION = re.compile(r"v?\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")
"""One version, as semver.org defines it; helm also takes a leading v."""


_USER = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class RemoteChart:
    """One version of a chart of a repository (`chart` is a name) or a registry (`oci://...`)."""

    chart: str
    version: str
    repo: str = ""

    def __str__(self) -> str:
        where = f" of {self.repo}" if self.repo else ""
        return f"{self.chart} {self.version}{where}"


def remote_chart(helm: Helm) -> RemoteChart | None:
    """Return the chart that must be pulled, None for one in a folder or a file."""
    if helm.repo is None and not _is_remote(str(helm.chart)):
        return None
    return RemoteChart(str(helm.chart), helm.version or "", helm.repo or "")


def _is_remote(chart: str) -> bool:
    """Return whether a chart's address names a registry."""
    return chart.startswith(_REGISTRY)


def problems_of_remote(helm: Helm) -> Iterator[str]:
    """Yield what is wrong with `chart`, `repo` and `version` together."""
    chart, repo, version = str(helm.chart), helm.repo, helm.version
    if _USER.search(chart) or _USER.search(repo or ""):
        yield (
            "chart or repo holds a user name or a password\n"
            "  To fix: leave it out, and use helm registry login, or helm repo add with that URL"
        )
        return
    if repo is not None and not repo.startswith(_WEB):
        hint = f'; for a registry: chart = "{repo}/{chart}"' if _is_remote(repo) else ""
        yield f'repo "{repo}" is no URL of a chart repository (https://...){hint}'
    if repo is not None and _is_remote(chart):
        yield f'chart "{chart}" is of a registry, which needs no repo: leave it out'
    if chart.startswith(_WEB):
        yield f"chart \"{chart}\": give the repository's URL as repo, and the chart's name as chart"
    elif remote_chart(helm) is None:
        if version is not None:
            yield f'version "{version}" is only for a chart with repo, or of oci://'
    elif version is None:
        yield (
            f'chart "{chart}" has no version, so a later run could install another version\n{_FIND}'
        )
    elif not _VERSION.fullmatch(version):
        yield f'version "{version}" is not one version, such as "16.2.1"\n{_FIND}'


_FIND = "  To fix: helm show chart CHART --repo URL, or helm show chart oci://..., prints a version"


_LOOPBACK = re.compile(r"oci://(localhost|127(\.\d+){3}|\[::1\])[:/]")
"""No certificate is issued for such a registry, and the connection stays on this host."""


def pulled_chart(remote: RemoteChart, options: RenderOptions) -> Path:
    """Return the packed chart in the cache folder; helm pulls a missing one.

    A version of a chart never changes, so one that was pulled is not asked for again.

    Raises:
        KindInfraError: helm could not pull it, or the folder cannot be written.
    """
    name = remote.chart.rpartition("/")[2]
    key = hashlib.sha256(f"{remote.repo}\0{remote.chart}".encode()).hexdigest()[:16]
    file = options.charts / key / f"{name}-{remote.version}.tgz"
    if file.is_file():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".pull-") as folder:
            _pull(remote, Path(folder), options)
            # Whole or not at all, and two runs may pull it at once.
            os.replace(_only_file(remote, Path(folder)), file)  # noqa: PTH105 - named for its effect
    except OSError as error:
        msg = f'"{file}" cannot be written: {error.strerror}\nTo fix: make the folder writable'
        raise KindInfraError(msg) from error
    return file


def _pull(remote: RemoteChart, folder: Path, options: RenderOptions) -> None:
    argv = ["helm", "pull", remote.chart, "--version", remote.version]
    argv += ["--repo", remote.repo] if remote.repo else []
    argv += ["--plain-http"] if _LOOPBACK.match(remote.chart) else []
    argv += ["--destination", str(folder)]
    what = f"pulling chart {remote}"
    try:
        options.runner.run(argv, deadline=options.deadline, what=what, env=HELM_ENVIRONMENT)
    except CommandError as error:
        msg = (
            f"{error}\nTo fix: compare repo, chart and version with the repository; without a "
            f"network, pull it elsewhere (kindinfra pull --save DIR)"
        )
        raise KindInfraError(msg) from error


def _only_file(remote: RemoteChart, folder: Path) -> Path:
    files = sorted(folder.glob("*.tgz"))
    if len(files) != 1:
        msg = f"helm pull left {len(files)} packed charts for {remote}, not one"
        raise KindInfraError(msg)
    return files[0]
