"""Records from hooks, read as the same tables of a declaration would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.yaml import key_text
from pytest_kindinfra.model import (
    EndpointSpec,
    Helm,
    Image,
    Need,
    Service,
)
from pytest_kindinfra.plan.declaration import read_image, read_service
from pytest_kindinfra.plan.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


_PAIRS = ("build_args", "ready", "images_at")


def read_record(record: Service | Image) -> tuple[Service | Image, tuple[str, ...]]:
    """Return the record as a declaration would have made it, and what is wrong with it."""
    noun = "services" if isinstance(record, Service) else "images"
    name: Any = record.name
    if not isinstance(name, str):
        return record, (f"[{noun}] has a name that is no string: {name!r}",)
    problems: list[str] = []
    table = Table(f"[{noun}.{record.name}]", _keys(record), problems)
    if isinstance(record, Image):
        return read_image(record.name, table), tuple(problems)
    problems += _endpoint_problems(table.place, record.endpoints)
    read = read_service(record.name, table)
    if read.helm and isinstance(record.helm, Helm) and isinstance(record.helm.set, dict):
        # Nested already, and with values that TOML has no word for: null takes a default away.
        read = replace(read, helm=replace(read.helm, set=record.helm.set))
    return read, tuple(problems)


def _keys(record: Any) -> dict[str, Any]:
    """Return what says the same in TOML, without what is as it is by default."""
    keys = {
        one.name: _plain(getattr(record, one.name))
        for one in fields(record)
        if one.name != "name" and getattr(record, one.name) != _default(one)
    }
    if isinstance(record, Service):
        # There the place of `helm` among the keys says when the chart is installed.
        helm = {key: keys.pop(key) for key in ("helm",) if key in keys}
        keys = {**helm, **keys} if keys.pop("helm_first", False) else {**keys, **helm}
        keys |= {"endpoints": _by_name(record.endpoints)} if record.endpoints else {}
    if isinstance(record, Helm) and isinstance(record.set, dict):
        keys.pop("set", None)
    return keys | {key: _mapping(keys[key]) for key in _PAIRS if key in keys}


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    """Return what TOML has for a value of Python."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Need):
        return value.name if value.level == "ready" else f"{value.name}:{value.level}"
    if isinstance(value, Helm):
        return _keys(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {_name(key): _plain(one) for key, one in value.items()}
    return value


def _name(key: Any) -> str:
    """Return a key of a table as a values file has it: `8080` of a number."""
    try:
        return key_text(key)
    except ValueError:
        return str(key)


def _mapping(value: Any) -> Any:
    """Return pairs as a table; what is neither stays, for the table to complain about."""
    pairs = isinstance(value, list) and all(isinstance(one, list) for one in value)
    return {str(name): text for name, text in value} if pairs and _are_two(value) else value


def _are_two(pairs: Sequence[Sequence[Any]]) -> bool:
    return all(len(pair) == 2 for pair in pairs)  # noqa: PLR2004 - that is what a pair is


def _by_name(endpoints: Any) -> dict[str, Any]:
    return {one.name: _keys(one) for one in _named(endpoints)}


def _named(endpoints: Any) -> list[EndpointSpec]:
    many = endpoints if isinstance(endpoints, list | tuple) else ()
    return [one for one in many if isinstance(one, EndpointSpec) and isinstance(one.name, str)]


def _endpoint_problems(place: str, endpoints: Any) -> list[str]:
    """Say what a table cannot: its keys are names, and each is there once."""
    if not isinstance(endpoints, list | tuple):
        return [f"{place} endpoints must be a list of EndpointSpec, not {endpoints!r}"]
    named = _named(endpoints)
    names = [one.name for one in named]
    return [
        *(
            f"{place} endpoints must be EndpointSpec with a name, not {one!r}"
            for one in endpoints
            if one not in named
        ),
        *(
            f'{place} has endpoint "{name}" more than once'
            for name in dict.fromkeys(names)
            if names.count(name) > 1
        ),
    ]
