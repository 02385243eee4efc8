"""Where the values of the options come from: command line, environment, declaration, defaults.

The nearest place that gives a value counts. Each process of pytest in which the plugin is loaded
reads options: this module imports nothing heavy.
"""

from __future__ import annotations

import os
import os.path
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import did_you_mean
from pytest_kindinfra.plan.options import (
    IN_CLUSTER,
    OPTIONS,
    SERVICE_ACCOUNT,
    Settings,
    expand_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_kindinfra.plan.options import Option


def read_settings(
    option: Callable[[str], str | None],
    file: Iterable[tuple[str, Any]],
    *,
    source: str | None,
    overrides: bool = True,
) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings, and a sentence for each value that cannot be used.

    Args:
        option: Gives the text of a command line option by its dest, None if it was not given.
        file: The pairs of `[options]`.
        source: The file's name.
        overrides: Whether variables count that others may have set for purposes of their own.
    """
    written = dict(file)
    from_file = {key: (str(value), f"{source} [options]") for key, value in written.items()}
    problems = list(_unknown_keys(from_file, source))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for row in OPTIONS:
        given = (_override(row) if overrides else None) or _nearest(row, option, from_file)
        if given is None:
            continue
        text, place = given
        try:
            values[row.key] = row.parse(text)
            sources[row.key] = place
        except ValueError:
            value = written.get(row.key) if place.endswith(" [options]") else text
            problems.append(f"{_shown_at(row, value, place)}: expected {row.expected(text)}")
    return _with_kubeconfig(Settings(**values, sources=sources)), tuple(problems)


def _with_kubeconfig(settings: Settings) -> Settings:
    """Return the settings with kubectl's files, or a pod's service account, for a context alone.

    kubectl reads the files of KUBECONFIG, else ~/.kube/config (kubernetes.io, "Organizing Cluster
    Access Using kubeconfig Files").
    """
    if settings.context is None or settings.kubeconfig is not None:
        return settings
    texts = [text for text in os.environ.get("KUBECONFIG", "").split(os.pathsep) if text]
    files = [os.path.abspath(expand_path(text)) for text in texts or ["~/.kube/config"]]  # noqa: PTH100
    file = SERVICE_ACCOUNT if settings.context == IN_CLUSTER else Path(os.pathsep.join(files))
    sources = {**settings.sources, "kubeconfig": settings.sources["context"]}
    return replace(settings, kubeconfig=file, sources=sources)


def _shown_at(row: Option, value: Any, place: str) -> str:
    """Return a value with its place: `--kindinfra-timeout=soon`, `environment KINDINFRA_X=1`."""
    if row.key == "registry":
        value = str(value).rpartition("@")[2]  # without a password
    if place.endswith(" [options]"):
        from pytest_kindinfra.plan.tables import shown  # every process of pytest loads this module

        return f"{place} {row.key} = {shown(value)}"
    return f"{place}={value}"


def _override(row: Option) -> tuple[str, str] | None:
    text = os.environ.get(row.override) if row.override else None
    return (text, f"environment {row.override}") if text else None


def _nearest(
    row: Option, option: Callable[[str], str | None], file: Mapping[str, tuple[str, str]]
) -> tuple[str, str] | None:
    """Return the text of the nearest place that gives a value, and that place."""
    if (text := option(row.dest)) is not None:
        return text, row.flag
    if text := os.environ.get(row.variable):
        return text, f"environment {row.variable}"
    return file.get(row.key)


def _unknown_keys(keys: Iterable[str], source: str | None) -> Iterator[str]:
    known = [row.key for row in OPTIONS]
    for key in keys:
        if key not in known:
            hint = did_you_mean(key, known) or f"; known: {', '.join(known)}"
            yield f'{source} [options]: no such option "{key}"{hint}'
