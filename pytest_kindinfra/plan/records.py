"""Records from hooks, read as the same tables of a declaration would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.model import (
    EndpointSpec,
    Image,
    Need,
    Service,
)
from pytest_kindinfra.plan.declaration import read_image, read_service
from pytest_kindinfra.plan.sources import SOURCES, restore_sources
from pytest_kindinfra.plan.tables import Table, keys_of

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
    return restore_sources(read, record), tuple(problems)


def _keys(record: Any) -> dict[str, Any]:
    """Return what says the same in TOML, without what is as it is by default."""
    keys = keys_of(record)
    if isinstance(record, Service):
        keys = _keys_of_service(record, keys)
    return keys | {key: _mapping(keys[key]) for key in _PAIRS if key in keys}


def _keys_of_service(record: Service, keys: dict[str, Any]) -> dict[str, Any]:
    further = keys.pop("sources", None)
    sources = {
        key: source.table_of(value) for key, source in SOURCES.items() if (value := keys.get(key))
    }
    # There the place among the keys says what is deployed first.
    installed = {key: sources.pop(key) for key in list(sources) if SOURCES[key].is_installed}
    first = keys.pop("helm_first", False)
    own = {key: part for key, part in keys.items() if key not in installed} | sources
    keys = {**installed, **own} if first else {**own, **installed}
    keys |= {"needs": _needs(record.needs)} if "needs" in keys else {}
    keys |= {"endpoints": _by_name(record.endpoints)} if record.endpoints else {}
    return keys | (further if isinstance(further, dict) else {})


def _needs(needs: Any) -> Any:
    return [_need(one) for one in needs] if isinstance(needs, list | tuple) else needs


def _need(need: Any) -> Any:
    if not isinstance(need, Need):
        return need
    return need.name if need.level == "ready" else f"{need.name}:{need.level}"


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
