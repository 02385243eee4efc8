"""Every option is one row: a field of `Settings`, with its type, default and help.

pytest's parser, the `kindinfra` command, the environment, `[options]` of the declaration and the
test of docs/options.md all read these rows. Every pytest process loads this module, so it imports
nothing heavy.
"""

from __future__ import annotations

import os
import os.path
import re
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from pytest_kindinfra.errors import did_you_mean, listed
from pytest_kindinfra.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.model import EngineName, Load, SnapshotUse


IN_CLUSTER = "in-cluster"
"""The name of the context that is the service account of the pod in which this process runs."""


SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod's containers find it (kubernetes.io, "Accessing the Kubernetes API from a Pod")."""


TAG_FIELDS = ("service", "user", "git", "time", "content", "random")
"""The fields that a template of tags may have in braces."""


_TAG_FIELD = re.compile(r"\{(\w*)\}")


def _check_template(template: str) -> str:
    """Return the template of a tag.

    Raises:
        ValueError: It has other fields, or makes no tag.
    """
    from pytest_kindinfra.references import is_tag

    known = set(_TAG_FIELD.findall(template)) <= set(TAG_FIELDS)
    if not known or not is_tag(_TAG_FIELD.sub("x", template)):
        msg = f'"{template}" makes no tag'
        raise ValueError(msg)
    return template


def _check_registry(text: str) -> str:
    """Return the address of a registry, with the prefix of its images.

    Raises:
        ValueError: It is none; a path alone would mean Docker Hub, and `localhost` no registry.
    """
    from pytest_kindinfra.references import is_reference

    host = text.partition("/")[0]
    if not any(one in host for one in ".:") or not is_reference(f"{text}/x") or "@" in text:
        msg = f'"{text}" is no address of a registry'
        raise ValueError(msg)
    return text


REGISTRY_FORM = "HOST[:PORT][/PREFIX] in lower-case letters, such as ghcr.io/team"
"""What the address of a registry looks like."""


def _positive_int(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value


def _positive_float(text: str) -> float:
    if not (value := float(text)) > 0:  # NaN is neither above nor below
        raise ValueError
    return value


def expand_path(text: str) -> Path:
    """Return a path; a `~` that no shell replaced, as after `=`, is the home folder."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises without a home folder


def _yes(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in words:
        raise ValueError
    return words[text.lower()]


class _Type(Frozen):
    """How a text becomes a value of a type, and what to say of a text that cannot."""

    parse: Callable[[str], Any]
    expected: str = ""


_TYPES = {
    "bool": _Type(parse=_yes, expected="yes or no"),
    "int": _Type(parse=_positive_int, expected="a whole number, 1 or more"),
    "float": _Type(parse=_positive_float, expected="a number of seconds above 0"),
    "Path": _Type(parse=expand_path),
}
"""By annotation, without `| None`; any other is a text or one of the choices of a Literal."""


Caller = Literal["pytest", "command", "functions"]


class _Row(Frozen):
    """What a field of `Settings` says in addition to its name and type; see `_option`."""

    metavar: str
    help: str
    unset: str
    parse: Callable[[str], Any] | None
    expected: str
    override: str
    used_by: tuple[Caller, ...]


def _option(
    default: Any,
    metavar: str,
    help: str,  # noqa: A002 - as argparse calls it
    *,
    unset: str = "",
    parse: Callable[[str], Any] | None = None,
    expected: str = "",
    override: str = "",
    used_by: tuple[Caller, ...] = get_args(Caller),
) -> Any:
    """Make a field of `Settings` that is an option.

    Args:
        default: The value, or a function that makes it.
        metavar: What help calls the value; empty for a flag.
        help: One phrase, capital first, no full stop, without the default.
        unset: The default in words, where its value says too little.
        parse: Makes a value of a text if the type's own does not do; raises ValueError.
        expected: What to say of a text that it cannot use.
        override: A variable of the environment that overrides everything else.
        used_by: Who uses the option; for others it keeps its default.
    """
    row = _Row(
        metavar=metavar,
        help=help,
        unset=unset,
        parse=parse,
        expected=expected,
        override=override,
        used_by=used_by,
    )
    if callable(default):
        return field(default_factory=default, metadata={"row": row})
    return field(default=default, metadata={"row": row})


def _build_jobs() -> int:
    return min(4, os.cpu_count() or 1)


Progress = Literal["auto", "plain", "off"]


class Settings(Frozen):
    """The value of each option; every field but the last is a row of the table.

    Attributes:
        sources: For each field that is not a default: where its value came from.
    """

    keep: Literal["never", "always", "on-failure"] = _option(
        "never", "WHEN", "Keep the cluster after the run: never, always or on-failure"
    )
    reuse: bool = _option(
        False,  # noqa: FBT003 - the default
        "",
        "Reuse the cluster of the previous such run, and keep it for the next one",
        used_by=("pytest", "command"),  # what the functions make ends with them
    )
    cluster_name: str | None = _option(
        None, "NAME", "kind's name for the cluster", unset="made from the run's id"
    )
    kubeconfig: Path | None = _option(
        None,
        "FILE",
        "Use the existing cluster of this kubeconfig; only the run's objects are deleted",
    )
    context: str | None = _option(
        None,
        "NAME",
        "Use the existing cluster of this context, of --kindinfra-kubeconfig or of kubectl's files",
        unset="the current one of the kubeconfig",
    )
    group: str | None = _option(
        None,
        "KEY",
        "Share one stack in an existing cluster with all runs that have the same key, or off",
        unset="that of the CI's pipeline with namespace per-run, else none",
        used_by=("pytest",),
    )
    node_image: str | None = _option(
        None, "IMAGE", "Image of the cluster's nodes, such as kindest/node:v1.34.4"
    )
    kind_config: Path | None = _option(
        None, "FILE", "A kind config to start from; the settings that a run needs are added"
    )
    snapshot: SnapshotUse = _option(
        "auto", "HOW", "Boot the cluster from a snapshot of an earlier one: auto or off"
    )
    engine: EngineName = _option(
        "auto", "ENGINE", "docker, podman, or auto: Docker if it answers, else podman"
    )
    build_jobs: int = _option(
        _build_jobs,
        "N",
        "Number of images that are built at the same time",
        unset="the smaller of 4 and the cores",
    )
    capacity: int | None = _option(
        None,
        "N",
        "Total weight of the marked tests that may run at the same time",
        unset="any",
        used_by=("pytest",),
    )
    load: Load = _option(
        "auto",
        "HOW",
        "How images get into the nodes: delta (only missing layers), archive, auto (delta, else "
        "archive) or registry",
    )
    registry: str | None = _option(
        None,
        "HOST/PREFIX",
        "Look images up in this registry by their content, and push there what is built",
        unset="that of [images] in the declaration, else none",
        parse=_check_registry,
        expected=REGISTRY_FORM,
    )
    builder: str | None = _option(
        None,
        "NAME",
        "Build with this builder of docker buildx",
        unset="that of [images] in the declaration, else the engine's own",
    )
    no_build: bool = _option(
        False,  # noqa: FBT003
        "",
        "Do not build; every image must be in the engine, prebuilt or an archive",
    )
    images: Path | None = _option(
        None, "DIR", "Do not build; use images from a folder written by kindinfra build --save=DIR"
    )
    tag: str | None = _option(
        None,
        "TEMPLATE",
        "A further tag for each image; the environment variable IMAGE_TAG overrides it",
        parse=_check_template,
        expected=f"a tag; it may contain {' '.join(f'{{{name}}}' for name in TAG_FIELDS)}",
        override="IMAGE_TAG",
    )
    timeout: float = _option(
        600.0, "S", "Time limit in seconds for the cluster, for each build and for each service"
    )
    artifacts: Path = _option(
        Path(".kindinfra"), "DIR", "Folder for the logs and run.json of each run"
    )
    keep_runs: int = _option(20, "N", "Number of run directories to keep in the artifacts folder")
    plan: bool = _option(
        False,  # noqa: FBT003
        "",
        "Show what a run would do, and exit",
        used_by=("pytest",),
    )
    missing: Literal["error", "skip"] = _option(
        "error",
        "HOW",
        "What happens to tests that need a cluster if the engine or kind is missing: error or skip",
    )
    progress: Progress = _option("auto", "HOW", "Progress lines: auto, plain or off")
    board: Literal["auto", "off"] = _option(
        "auto", "WHEN", "A board of what is going on, on a terminal: auto or off"
    )
    logs: Literal["failed", "off"] = _option(
        "failed",
        "WHEN",
        "Logs, restarts and events of the services in the report of a test: failed or off",
    )
    pause: bool = _option(
        False,  # noqa: FBT003
        "",
        "Stop the tests at the first failure, and go on when Enter is pressed",
        used_by=("pytest",),
    )
    fail: Literal["gather", "fast"] = _option(
        "gather",
        "HOW",
        "gather: a failure fails only the tests that need it; fast: it cancels everything",
    )
    order: Literal["needs-last", "collected"] = _option(
        "needs-last",
        "HOW",
        "needs-last: tests that need nothing run first; collected: as pytest collected them",
    )
    sources: dict[str, str] = field(default_factory=dict)


class Option:
    """One row of `Settings` as the parsers and the docs read it."""

    __slots__ = ("_field",)

    def __init__(self, row: Field[Any]) -> None:
        self._field = row

    @property
    def _row(self) -> _Row:
        row: _Row = self._field.metadata["row"]
        return row

    @property
    def key(self) -> str:
        """The field of `Settings`, and the key under `[options]`."""
        return self._field.name

    @property
    def flag(self) -> str:
        """The word on the command line."""
        return f"--kindinfra-{self.key.replace('_', '-')}"

    @property
    def dest(self) -> str:
        """The name by which pytest's parser keeps the text."""
        return f"kindinfra_{self.key}"

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return f"KINDINFRA_{self.key.upper()}"

    @property
    def override(self) -> str:
        """A variable of the environment that overrides everything else; empty for none."""
        return self._row.override

    @property
    def metavar(self) -> str:
        """What help calls the value; empty for a flag."""
        return self._row.metavar

    @property
    def used_by(self) -> tuple[Caller, ...]:
        """Who uses the option."""
        return self._row.used_by

    @property
    def help(self) -> str:
        """One phrase that ends with the default, if there is one."""
        default = self.default
        return f"{self._row.help} (default: {default})" if default else self._row.help

    @property
    def default(self) -> str:
        """The default in words; empty for none, and for a flag."""
        if self._row.unset:
            return self._row.unset
        value = self._field.default
        if value is MISSING or value is None or isinstance(value, bool):
            return ""
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def choices(self) -> tuple[str, ...]:
        """The only values allowed; empty if any may do."""
        if self.type_name in _TYPES:
            return ()
        from pytest_kindinfra import model  # the annotations name its types

        hint = get_type_hints(Settings, localns=vars(model))[self.key]
        return tuple(one for one in get_args(hint) if isinstance(one, str))

    @property
    def type_name(self) -> str:
        """Its annotation, without `| None`: `int`."""
        return str(self._field.type).removesuffix(" | None")

    @property
    def _type(self) -> _Type:
        return _TYPES.get(self.type_name, _Type(parse=str))

    def parse(self, text: str) -> Any:
        """Return the value that a text stands for.

        Raises:
            ValueError: It stands for none.
        """
        if (choices := self.choices) and text not in choices:
            raise ValueError
        return (self._row.parse or self._type.parse)(text)

    def expected(self, text: str) -> str:
        """Return what to say of a text that cannot be used."""
        if choices := self.choices:
            return f"one of {listed(choices)}{did_you_mean(text, choices)}"
        return self._row.expected or self._type.expected or self.metavar


OPTIONS = tuple(Option(one) for one in fields(Settings) if "row" in one.metadata)


def find_option(key: str) -> Option:
    """Return the option of a field of `Settings`."""
    return next(option for option in OPTIONS if option.key == key)


def ignored_by(caller: Caller) -> frozenset[str]:
    """Return the keys of the options that a caller ignores."""
    return frozenset(option.key for option in OPTIONS if caller not in option.used_by)
