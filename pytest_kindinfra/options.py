"""The options: one table, from which the command line, the environment and the file are read.

Every pytest process loads this module; what is read by the table is `settings.py`'s, which only
those load that need it.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


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
