"""What the options come to: the nearest of all places that give a value, each with its place.

The nearest is the command line, then `KINDINFRA_*`, then `[options]` of the declaration, then the
default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_kindinfra.options import OPTIONS
from pytest_kindinfra.suggestions import did_you_mean, listed
from pytest_kindinfra.tables import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_kindinfra.model import EngineName, Load
    from pytest_kindinfra.options import Option

Keep = Literal["never", "always", "on-failure"]
Missing = Literal["error", "skip"]
Progress = Literal["auto", "plain", "off"]
Logs = Literal["failed", "off"]
Fail = Literal["gather", "fast"]
Order = Literal["needs-last", "collected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the options say.

    Attributes:
        keep: Whether the cluster outlives the run.
        reuse: The cluster is that of the last such run, and stays for the next.
        cluster_name: None means a name made from the run's id.
        kubeconfig: Of a cluster that is there already; None makes one.
        node_image: None means the declaration's, else kind's own.
        kind_config: None means the declaration's.
        engine: Who builds, and runs the kind nodes.
        build_jobs: Builds at a time.
        load: How images reach the kind nodes.
        no_build: Every image must be there.
        images: A folder of images that another run saved; implies `no_build`.
        tag: The template of a further tag for each image, None for none.
        timeout: Seconds for the cluster, for each build and for each service.
        artifacts: Where runs leave their folders.
        plan: Only say what would be done.
        missing: What becomes of tests that need a cluster where there is no engine or no kind.
        progress: Lines while work goes on.
        logs: When a test's report tells what the stack's pods said and did.
        fail: Whether the first failure cancels the rest.
        order: Whether tests that need nothing are moved first.
        sources: For each field that is not a default: where its value came from.
    """

    keep: Keep = "never"
    reuse: bool = False
    cluster_name: str | None = None
    kubeconfig: Path | None = None
    node_image: str | None = None
    kind_config: Path | None = None
    engine: EngineName = "auto"
    build_jobs: int = 1
    load: Load = "auto"
    no_build: bool = False
    images: Path | None = None
    tag: str | None = None
    timeout: float = 600
    artifacts: Path = Path(".kindinfra")
    plan: bool = False
    missing: Missing = "error"
    progress: Progress = "auto"
    logs: Logs = "failed"
    fail: Fail = "gather"
    order: Order = "needs-last"
    sources: dict[str, str] = field(default_factory=dict)


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
    values: dict[str, Any] = {"build_jobs": min(4, os.cpu_count() or 1)}
    sources: dict[str, str] = {}
    for row in OPTIONS:
        given = (_override(row) if overrides else None) or _nearest(row, option, from_file)
        if given is None:
            continue
        text, where = given
        try:
            values[row.key] = _parse(row, text)
            sources[row.key] = where
        except ValueError:
            value = written.get(row.key) if where.endswith(" [options]") else text
            problems.append(f"{_given(row, value, where)}: expected {_expected(row, text)}")
    return Settings(**values, sources=sources), tuple(problems)


def _given(row: Option, value: Any, where: str) -> str:
    """Return a value with its place: `--kindinfra-timeout=soon`, `environment KINDINFRA_X=1`."""
    if where.endswith(" [options]"):
        return f"{where} {row.key} = {shown(value)}"
    return f"{where}={value}"


def _expected(row: Option, text: str) -> str:
    if row.choices:
        return f"one of {listed(row.choices)}{did_you_mean(text, row.choices)}"
    return row.expected or row.metavar or "yes or no"


def _override(row: Option) -> tuple[str, str] | None:
    text = os.environ.get(row.override) if row.override else None
    return (text, f"environment {row.override}") if text else None


def _nearest(
    row: Option, option: Callable[[str], str | None], file: Mapping[str, tuple[str, str]]
) -> tuple[str, str] | None:
    """Return the text of the nearest place that gives a value, and that place."""
    if (text := option(f"kindinfra_{row.key}")) is not None:
        return text, row.flag
    if text := os.environ.get(row.variable):
        return text, f"environment {row.variable}"
    return file.get(row.key)


def _parse(row: Option, text: str) -> Any:
    if row.choices and text not in row.choices:
        raise ValueError
    return row.parse(text)


def _unknown_keys(keys: Iterable[str], source: str | None) -> Iterable[str]:
    from difflib import get_close_matches

    known = [row.key for row in OPTIONS]
    for key in keys:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f'; did you mean "{close[0]}"?' if close else f"; known: {', '.join(known)}"
            yield f'{source} [options]: no such option "{key}"{hint}'
