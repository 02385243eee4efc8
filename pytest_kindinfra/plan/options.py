"""Every option, and the resolved values, each with its source.

Every pytest process loads this module, so it imports nothing heavy.
"""

from __future__ import annotations

import os
import os.path
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_kindinfra.errors import did_you_mean, listed
from pytest_kindinfra.plan.tables import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_kindinfra.model import EngineName, Load


FIELDS = ("service", "user", "git", "time", "content", "random")


_FIELD = re.compile(r"\{(\w*)\}")


_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


def check_template(template: str) -> str:
    """Return the template.

    Raises:
        ValueError: It has other fields, or makes no tag.
    """
    fields = _FIELD.findall(template)
    if any(field not in FIELDS for field in fields) or not _TAG.fullmatch(
        _FIELD.sub("x", template)
    ):
        msg = f'"{template}" makes no tag'
        raise ValueError(msg)
    return template


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


def path(text: str) -> Path:
    """Return a path; a `~` that no shell replaced, as after `=`, is the home folder."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises without a home


def _template(text: str) -> str:

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
        key="reuse",
        parse=_yes,
        metavar="",
        help="Take over the cluster that the last such run left, and leave it to the next",
    ),
    Option(
        key="cluster_name",
        parse=str,
        metavar="NAME",
        help="kind's name for the cluster (default: made from the run's id)",
    ),
    Option(
        key="kubeconfig",
        parse=path,
        metavar="FILE",
        help="Use the cluster of this kubeconfig, which stays; only what is ours is deleted",
    ),
    Option(key="node_image", parse=str, metavar="IMAGE", help="Node image of the cluster"),
    Option(
        key="kind_config",
        parse=path,
        metavar="FILE",
        help="A kind config to start from; ours is merged into it",
    ),
    Option(
        key="engine",
        parse=str,
        metavar="ENGINE",
        help="docker, podman, or auto (default: Docker if it answers, else podman)",
        choices=("auto", "docker", "podman"),
    ),
    Option(
        key="build_jobs",
        parse=_positive_int,
        metavar="N",
        help="Image builds at a time (default: the smaller of 4 and the cores)",
        expected="a whole number, 1 or more",
    ),
    Option(
        key="capacity",
        parse=_positive_int,
        metavar="N",
        help="Weight of the marked tests that may run at a time (default: any)",
        expected="a whole number, 1 or more",
    ),
    Option(
        key="load",
        parse=str,
        metavar="HOW",
        help="Load images by delta (only what a kind node lacks), archive, auto (default: both), "
        "or through a registry",
        choices=("auto", "archive", "delta", "registry"),
    ),
    Option(
        key="no_build",
        parse=_yes,
        metavar="",
        help="Build nothing; every image must be in the engine, prebuilt or an archive",
    ),
    Option(
        key="images",
        parse=path,
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
        expected="a number of seconds above 0",
    ),
    Option(
        key="artifacts",
        parse=path,
        metavar="DIR",
        help="Where each run leaves logs and run.json (default: .kindinfra in the rootdir)",
    ),
    Option(key="plan", parse=_yes, metavar="", help="Say what would be done, and stop"),
    Option(
        key="missing",
        parse=str,
        metavar="HOW",
        help="Without engine or kind, tests that need a cluster: error (default), skip",
        choices=("error", "skip"),
    ),
    Option(
        key="progress",
        parse=str,
        metavar="HOW",
        help="Lines while work goes on: auto (default), plain, off",
        choices=("auto", "plain", "off"),
    ),
    Option(
        key="logs",
        parse=str,
        metavar="WHEN",
        help="Logs, restarts and events of the stack in a test's report: failed (default), off",
        choices=("failed", "off"),
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
        capacity: Weight of the marked tests that may run at a time; None means any.
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
    capacity: int | None = None
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
