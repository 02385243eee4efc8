"""The options: one table, from which the command line, the environment and the file are read.

The nearest wins: command line, then `KINDINFRA_*`, then `[options]` of the declaration, then the
default; each value knows where it came from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pytest

    from pytest_kindinfra.model import Load

Keep = Literal["never", "always", "on-failure"]
Progress = Literal["auto", "plain", "off"]
Fail = Literal["gather", "fast"]
Order = Literal["needs-last", "collected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the options say.

    Attributes:
        keep: Whether the cluster outlives the run.
        cluster_name: None means a name made from the run's id.
        node_image: None means the declaration's, else kind's own.
        kind_config: None means the declaration's.
        build_jobs: Builds at a time.
        load: How images reach the kind nodes.
        no_build: Every image must be there.
        images: A folder of images that another run saved; implies `no_build`.
        tag: The template of a further tag for each image, None for none.
        timeout: Seconds for the cluster, for each build and for each service.
        artifacts: Where runs leave their folders.
        plan: Only say what would be done.
        progress: Lines while work goes on.
        fail: Whether the first failure cancels the rest.
        order: Whether tests that need nothing are moved first.
        sources: For each field that is not a default: where its value came from.
    """

    keep: Keep = "never"
    cluster_name: str | None = None
    node_image: str | None = None
    kind_config: Path | None = None
    build_jobs: int = 1
    load: Load = "auto"
    no_build: bool = False
    images: Path | None = None
    tag: str | None = None
    timeout: float = 600
    artifacts: Path = Path(".kindinfra")
    plan: bool = False
    progress: Progress = "auto"
    fail: Fail = "gather"
    order: Order = "needs-last"
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row of the table.

    Attributes:
        key: The field of `Settings`, the key under `[options]`; flag and variable follow from it.
        parse: Makes a value of a text; raises ValueError.
        metavar: What help calls the value; empty for a flag.
        help: One phrase, capital first, no full stop.
        choices: The only values allowed.
        expected: What to say of a value that cannot be used, where metavar says too little.
        override: A variable of the environment that goes before everything else.
    """

    key: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    choices: tuple[str, ...] = ()
    expected: str = ""
    override: str = ""

    @property
    def flag(self) -> str:
        """The word on the command line."""
        return f"--kindinfra-{self.key.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return f"KINDINFRA_{self.key.upper()}"


def _positive_int(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value


def _positive_float(text: str) -> float:
    if not (value := float(text)) > 0:  # NaN is neither above nor below
        raise ValueError
    return value


def _template(text: str) -> str:
    from pytest_kindinfra.naming import check_template

    return check_template(text)


def _yes(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in words:
        raise ValueError
    return words[text.lower()]


OPTIONS = (
    Option(
        key="keep",
        parse=str,
        metavar="WHEN",
        help="Keep the cluster after the run: never (default), always, on-failure",
        choices=("never", "always", "on-failure"),
    ),
    Option(
        key="cluster_name",
        parse=str,
        metavar="NAME",
        help="kind's name for the cluster (default: made from the run's id)",
    ),
    Option(key="node_image", parse=str, metavar="IMAGE", help="Node image of the cluster"),
    Option(
        key="kind_config",
        parse=Path,
        metavar="FILE",
        help="A kind config to start from; ours is merged into it",
    ),
    Option(
        key="build_jobs",
        parse=_positive_int,
        metavar="N",
        help="Image builds at a time (default: the smaller of 4 and the cores)",
    ),
    Option(
        key="load",
        parse=str,
        metavar="HOW",
        help="Load images by delta (only what a kind node lacks), archive, or auto (default: both)",
        choices=("auto", "archive", "delta"),
    ),
    Option(
        key="no_build",
        parse=_yes,
        metavar="",
        help="Build nothing; every image must be in the engine, prebuilt or an archive",
    ),
    Option(
        key="images",
        parse=Path,
        metavar="DIR",
        help="Build nothing; take images from a folder made by kindinfra build --save=DIR",
    ),
    Option(
        key="tag",
        parse=_template,
        metavar="TEMPLATE",
        help="A further tag for each image; IMAGE_TAG in the environment goes before it",
        expected="a tag, in which may stand {service} {user} {git} {time} {content} {random}",
        override="IMAGE_TAG",
    ),
    Option(
        key="timeout",
        parse=_positive_float,
        metavar="S",
        help="Seconds for the cluster, for each build and for each service (default: 600)",
    ),
    Option(
        key="artifacts",
        parse=Path,
        metavar="DIR",
        help="Where each run leaves logs and run.json (default: .kindinfra in the rootdir)",
    ),
    Option(key="plan", parse=_yes, metavar="", help="Say what would be done, and stop"),
    Option(
        key="progress",
        parse=str,
        metavar="HOW",
        help="Lines while work goes on: auto (default), plain, off",
        choices=("auto", "plain", "off"),
    ),
    Option(
        key="fail",
        parse=str,
        metavar="HOW",
        help="gather (default: a failure fails only what needs it) or fast (it cancels the rest)",
        choices=("gather", "fast"),
    ),
    Option(
        key="order",
        parse=str,
        metavar="HOW",
        help="needs-last (default: tests that need nothing run first) or collected",
        choices=("needs-last", "collected"),
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Add every option to pytest's command line."""
    group = parser.getgroup("kindinfra", "kindinfra (services on a kind cluster)")
    for option in OPTIONS:
        kind: dict[str, Any] = {"action": "store_const", "const": "true"}
        if option.metavar:
            kind = {"metavar": option.metavar}
        group.addoption(
            option.flag, dest=f"kindinfra_{option.key}", default=None, help=option.help, **kind
        )


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
    from_file = {key: (str(value), f"{source} [options]") for key, value in file}
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
            expected = row.expected or " or ".join(row.choices) or row.metavar or "yes or no"
            problems.append(f'{where}: {row.key} = "{text}": expected {expected}')
    return Settings(**values, sources=sources), tuple(problems)


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
