"""The declaration: tables of `kindinfra.toml`, or records of hooks, become records.

All problems are collected, each with its place and the wrong value. Pure.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pytest_kindinfra.errors import DeclarationError, did_you_mean, listed
from pytest_kindinfra.kube.objects import WORKLOAD_KINDS
from pytest_kindinfra.kube.readiness import EXPECTED, parse_ready_when
from pytest_kindinfra.model import (
    ClusterSpec,
    Declaration,
    EndpointSpec,
    Expose,
    Image,
    Level,
    Need,
    Scheme,
    Service,
    SnapshotUse,
)
from pytest_kindinfra.plan.checks import env_problems
from pytest_kindinfra.plan.exposure import problems_of_keys
from pytest_kindinfra.plan.options import REGISTRY_FORM, check_registry
from pytest_kindinfra.plan.sources import SOURCES, has_source, read_sources
from pytest_kindinfra.plan.tables import Asked, Table, shown

if TYPE_CHECKING:
    from collections.abc import Mapping


_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


_REGISTRY = re.compile(r"localhost:[1-9]\d{0,4}")


_IMAGE_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")


_OF_ALL_IMAGES = ("registry", "builder")
"""The keys of `[images]` that are no names of images, unless they have a table."""


_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


_LEVELS = ("applied", "started", "ready")


_BUILD_KEYS = (
    *("context", "dockerfile", "target", "build_args", "needs", "build_options", "ignore"),
    *("exclusive", "weight", "timeout"),
)


_DEFAULTS = Service(name="")


def parse_declaration(
    tables: Mapping[str, Any], *, folder: Path, source: str, asked: Asked | None = None
) -> Declaration:
    """Return the records for the tables `cluster`, `images`, `services`, `env` and `options`.

    Args:
        tables: As TOML gave them.
        folder: Where the declaration lives; paths in the records stay as written.
        source: The file's name for messages.
        asked: Gets what is accepted; None if that is not of interest.

    Raises:
        DeclarationError: Anything is wrong; it holds all problems.
    """
    problems: list[str] = [] if asked is None else asked
    images = Table("[images]", _scalars(tables.get("images"), _OF_ALL_IMAGES), problems)
    root = Table("", _without(tables, "images", _OF_ALL_IMAGES), problems)
    declaration = Declaration(
        folder=folder,
        source=source,
        cluster=_cluster(Table("[cluster]", root.raw("cluster", {}), problems)),
        images=tuple(read_image(name, table) for name, table in root.tables("images")),
        services=tuple(read_service(name, table) for name, table in root.tables("services")),
        registry=_registry(images),
        builder=images.text("builder"),
        env=root.pairs("env"),
        options=_options(root.raw("options"), problems),
    )
    problems += env_problems(declaration.env)
    root.place = source
    root.reject_unknown("table")
    if problems:
        raise DeclarationError(problem.strip() for problem in problems)
    return declaration


def _scalars(value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return what a table of tables says of all of them; under the same key may be a table."""
    found = value if isinstance(value, dict) else {}
    return {key: found[key] for key in keys if not isinstance(found.get(key, {}), dict)}


def _without(tables: Mapping[str, Any], key: str, scalars: tuple[str, ...]) -> dict[str, Any]:
    drop = _scalars(tables.get(key), scalars)
    if not drop:
        return dict(tables)
    rest = {name: value for name, value in tables[key].items() if name not in drop}
    return {**tables, key: rest}


def _registry(table: Table) -> str | None:
    address = table.text("registry")
    if address:
        try:
            check_registry(address)
        except ValueError:
            shown_as = address.rpartition("@")[2]  # without a password
            table.complain(f'registry "{shown_as}" must be {REGISTRY_FORM}')
    return address


def _options(value: Any, problems: list[str]) -> tuple[tuple[str, Any], ...]:
    if value is not None and not isinstance(value, dict):
        problems.append(f"[options] must be a table, not {shown(value)}")
        return ()
    return tuple((value or {}).items())


_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


_DURATION = re.compile(r"[1-9]\d{0,5}[mhd]")
"""Minutes, hours or days: `90m`, `2h`, `7d`."""


def _duration(table: Table, key: str, *, default: float) -> float:
    """Return seconds."""
    if (text := table.text(key)) is None:
        return default
    if not _DURATION.fullmatch(text):
        table.complain(f'{key} "{text}" must be minutes, hours or days: "90m", "2h", "7d"')
        return default
    return int(text[:-1]) * _UNITS[text[-1]]


def _cluster(table: Table) -> ClusterSpec:
    spec = ClusterSpec(
        config=table.path("config"),
        node_image=table.text("node_image"),
        namespace=table.text("namespace") or "default",
        ttl=_duration(table, "ttl", default=ClusterSpec().ttl),
        quota=table.pairs("quota"),
        tuning=table.flag("tuning", default=True),
        registry=table.text("registry"),
        snapshot=cast("SnapshotUse", table.choice("snapshot", SnapshotUse, default="auto")),
    )
    if spec.registry and not _REGISTRY.fullmatch(spec.registry):
        table.complain(f'registry "{spec.registry}" must be a port of this host: "localhost:5001"')
    _check_label(spec.namespace, "namespace", table)
    table.reject_unknown()
    return spec


def read_image(name: str, table: Table) -> Image:
    """Return an image; what is wrong is complained about to the table."""
    if not _IMAGE_NAME.fullmatch(name):
        table.complain("has a name that no image can have: lower-case letters, digits, - . _")
    image = Image(
        name=name,
        context=table.path("context") or Path(),
        dockerfile=table.path("dockerfile"),
        target=table.text("target"),
        build_args=table.pairs("build_args"),
        needs=table.texts("needs"),
        exclusive=table.flag("exclusive", default=False),
        weight=table.count("weight", default=1, least=1),
        timeout=table.seconds("timeout"),
        names=table.texts("names"),
        build_options=table.texts("build_options"),
        ignore=table.texts("ignore"),
        prebuilt=table.text("prebuilt"),
        archive=table.path("archive"),
    )
    _check_image(table)
    table.reject_unknown()
    return image


def _check_image(table: Table) -> None:
    given = [key for key in ("prebuilt", "archive") if key in table]
    if len(given) > 1:
        table.complain("has prebuilt and archive: keep one of them")
    if "exclusive" in table and "weight" in table:
        table.complain("has exclusive and weight: keep one of them")
    useless = [key for key in _BUILD_KEYS if key in table]
    if given and useless:
        table.complain(f"has {given[0]}, so nothing is built: remove {', '.join(useless)}")


def read_service(name: str, table: Table) -> Service:
    """Return a service; what is wrong is complained about to the table."""
    _check_label(name, "the name", table)
    service = Service(
        name=name,
        images=_images_of(table),
        needs=_needs(table),
        timeout=table.seconds("timeout"),
        restarts=table.count("restarts", default=_DEFAULTS.restarts),
        patience=table.patience("patience", default=_DEFAULTS.patience),
        endpoints=tuple(_endpoint(key, part) for key, part in table.tables("endpoints")),
        run=_run(table),
        inputs=table.texts("inputs"),
        **read_sources(name, table),
        ready=_ready(table),
        images_at=table.pairs("images_at"),
        before=_before(table),
        per=_per(table),
    )
    _check_service(service, table)
    table.reject_unknown()
    return service


def _check_service(service: Service, table: Table) -> None:
    # Raw values, so that one of a wrong type is not complained about twice.
    deploys = has_source(table) or table.raw("run")
    kinds = ", ".join(SOURCES)
    if service.images and not deploys:
        table.complain(f"has an image but neither {kinds} nor run, so nothing would use it")
    elif not (deploys or service.needs or table.broken):
        table.complain(f"has nothing in it: give it {kinds}, run or needs")
    if service.inputs and not service.run:
        table.complain("has inputs but no run that would read them")


def _images_of(table: Table) -> tuple[str, ...]:
    image, images = table.text("image"), table.texts("images")
    if "image" in table and "images" in table:
        table.complain("has image and images: keep one of them")
    return images or ((image,) if image else ())


def _needs(table: Table) -> tuple[Need, ...]:
    needs = tuple(_need(text, table) for text in table.texts("needs"))
    names = [need.name for need in needs]
    for name in sorted({name for name in names if names.count(name) > 1}):
        table.complain(f'needs "{name}" more than once')
    return needs


def _need(text: str, table: Table) -> Need:
    name, colon, level = text.partition(":")
    if colon and level not in _LEVELS:
        table.complain(
            f'needs "{text}", but after the colon must be one of {listed(_LEVELS)}'
            + did_you_mean(level, _LEVELS)
        )
        level = ""
    return Need(name=name, level=cast("Level", level or "ready"))


def _run(table: Table) -> str | None:
    run = table.text("run")
    if run and not _FUNCTION.fullmatch(run):
        table.complain(f'run is "{run}", but must be "module:function"')
    return run


def _before(table: Table) -> Literal["nodes"] | None:
    word = table.text("before")
    if word not in {None, "nodes"}:
        table.complain(
            f'before is "{word}", but can only be "nodes"{did_you_mean(word, ["nodes"])}'
        )
    return "nodes" if word == "nodes" else None


def _per(table: Table) -> Literal["worker"] | None:
    word = table.text("per")
    if word not in {None, "worker"}:
        table.complain(f'per is "{word}", but can only be "worker"{did_you_mean(word, ["worker"])}')
    return "worker" if word == "worker" else None


def _ready(table: Table) -> tuple[tuple[str, str], ...]:
    pairs = table.pairs("ready")
    for kind, text in pairs:
        try:
            parse_ready_when(text)
        except ValueError:
            table.complain(f'ready.{kind} is "{text}", but must be {EXPECTED}')
    return pairs


def _endpoint(name: str, table: Table) -> EndpointSpec:
    _check_label(name, "the name", table)
    port = table.port_or_name("port")
    if "port" not in table:
        table.complain("has no port")
    spec = EndpointSpec(
        name=name,
        port=port or 1,
        scheme=cast("Scheme", table.choice("scheme", Scheme, default="http")),
        path=table.text("path"),
        service=table.text("service"),
        workload=table.text("workload"),
        host_port=table.port("host_port"),
        node_port=table.port("node_port"),
        send=table.text("send"),
        expect=table.text("expect"),
        expose=cast("Expose | None", table.choice("expose", Expose, default="") or None),
        address=table.text("address"),
    )
    _check_probe(spec, table)
    _check_workload(spec, table)
    for problem in problems_of_keys(spec):
        table.complain(problem)
    table.reject_unknown()
    return spec


def _check_probe(spec: EndpointSpec, table: Table) -> None:
    if spec.path and spec.scheme not in {"http", "https"}:
        table.complain(f'has a path, which means nothing for scheme "{spec.scheme}"')
    if spec.path and not spec.path.startswith("/"):
        table.complain(f'path is "{spec.path}", but must begin with "/"')
    if (spec.send or spec.expect) and spec.scheme != "tcp":
        table.complain(f'has send or expect, which mean nothing for scheme "{spec.scheme}"')


def _check_workload(spec: EndpointSpec, table: Table) -> None:
    if spec.workload is None:
        return
    kind, _, name = spec.workload.partition("/")
    if kind not in WORKLOAD_KINDS or not name:
        table.complain(
            f'workload is "{spec.workload}", but must be KIND/NAME'
            f" with a kind of {listed(WORKLOAD_KINDS)}"
        )
    if spec.service:
        table.complain("has service and workload: keep one of them")
    if isinstance(spec.port, str):
        table.complain("has a workload, so port must be the container's port as a number")


def _check_label(name: str, what: str, table: Table) -> None:
    if not _LABEL.fullmatch(name):
        table.complain(
            f'{what} is "{name}", but must be a DNS label:'
            " at most 63 lower-case letters, digits and -"
        )
