"""Records and their JSON files: one record in each, checked field by field when it is read.

The codec knows what records are made of: texts, numbers, paths, tuples, dictionaries, other
dataclasses, words of a `Literal`, and JSON as it is (`Any`). It must not know any record.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from pytest_kindinfra.errors import StateError
from pytest_kindinfra.system.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable


FORMAT = 2
"""To be raised when a version could misread what another one wrote: see docs/decisions/0053."""


class Record:
    """What a state file holds: the base of frozen dataclasses.

    Attributes:
        FILE: What the file is called. If there may be several in a folder, it ends with a hyphen,
            and the name of a service, an image or the like follows.
    """

    __slots__ = ()

    FILE: ClassVar[str]


class Note(Record):
    """A record that has no states: it is there or not, and the last writing counts."""

    __slots__ = ()


T = TypeVar("T")


def file_name(kind: type[Record], name: str = "") -> str:
    """Return what the file of a record is called, without folder and suffix.

    Args:
        kind: The record's class.
        name: Which of several; empty for a record of which a folder has only one.
    """
    return f"{kind.FILE}{name}"


def to_json(value: Any) -> Any:
    """Return a record, or a part of it, as JSON has it; what JSON does not know becomes text."""
    if is_dataclass(value):
        return {one.name: to_json(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {name: to_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)  # a path; a date, as YAML gives it in an object


def from_json(kind: type[T], value: Any) -> T:
    """Return the record that `to_json` made a value of.

    Args:
        kind: The record's class, a dataclass.
        value: What the file holds.

    Raises:
        ValueError: It is not such a record; says which field is wrong.
    """
    return cast("T", _read(kind, value, "the record"))


def _read(kind: Any, value: Any, place: str) -> Any:
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _read_record(kind, value, place)
    if origin := get_origin(kind):
        return _GENERIC[origin](get_args(kind), value, place)
    if kind is Path:
        return Path(_of(str, value, place))
    if kind is float and type(value) is int:
        return float(value)
    return _of(kind, value, place)


def _read_tuple(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    return tuple(_read(kinds[0], part, f"{place}[]") for part in _of(list, value, place))


def _read_dict(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    parts = _of(dict, value, place).items()
    return {name: _read(kinds[1], part, f"{place}[{name!r}]") for name, part in parts}


def _read_word(words: tuple[Any, ...], value: Any, place: str) -> Any:
    if value not in words:
        msg = f"{place} must be one of {', '.join(words)}, not {value!r:.60}"
        raise ValueError(msg)
    return value


def _read_union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """Return a value that may be None, or of one of several types that JSON tells apart."""
    if value is None and NoneType in kinds:
        return None
    rest = [one for one in kinds if one is not NoneType]
    if len(rest) == 1:
        return _read(rest[0], value, place)
    if type(value) not in rest:
        msg = f"{place} must be {' or '.join(one.__name__ for one in rest)}, not {value!r:.60}"
        raise ValueError(msg)
    return value


_GENERIC: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    tuple: _read_tuple,
    dict: _read_dict,
    Literal: _read_word,
    Union: _read_union,
    UnionType: _read_union,
}


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of a class's fields; to work them out takes half a millisecond."""
    return get_type_hints(kind)


def _read_record(kind: Any, value: Any, place: str) -> Any:
    hints, known = _hints(kind), {one.name: one for one in fields(kind)}
    given = _of(dict, value, place)
    if unknown := sorted(given.keys() - known):
        msg = f"{place} has unknown fields: {', '.join(unknown)}"
        raise ValueError(msg)
    if missing := [name for name, one in known.items() if name not in given and _is_due(one)]:
        msg = f"{place} lacks fields: {', '.join(missing)}"
        raise ValueError(msg)
    return kind(**{name: _read(hints[name], part, name) for name, part in given.items()})


def _is_due(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _of(kind: type[T], value: Any, place: str) -> T:
    """Return a value of exactly this type: for JSON a boolean is no number."""
    if type(value) is not kind:
        msg = f"{place} must be {kind.__name__}, not {value!r:.60}"
        raise ValueError(msg)
    return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, mode 0600, so that readers see the old file or the new one."""
    write_whole(path, json.dumps(value, indent=1))


def write_state(path: Path, value: Any) -> None:
    """Write a value for `read_state`."""
    write_json(path, {"format": FORMAT, "value": value})


def read_state(path: Path, decode: Callable[[Any], T]) -> T | None:
    """Return what `write_state` wrote, decoded; None if nothing was.

    Args:
        path: The file.
        decode: Makes a record of the value; raises ValueError if that is not possible.

    Raises:
        StateError: The file cannot be believed; says why.
    """
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StateError(_unbelieved(path, f"cannot be read: {error}")) from error
    if not isinstance(found, dict) or "value" not in found:
        raise StateError(_unbelieved(path, "was not written by pytest-kindinfra"))
    if found.get("format") != FORMAT:
        why = f"has format {found.get('format')}, this version of pytest-kindinfra reads {FORMAT}"
        raise StateError(_unbelieved(path, why))
    try:
        return decode(found["value"])
    except ValueError as error:
        why = f"is not what this version of pytest-kindinfra writes: {error}"
        raise StateError(_unbelieved(path, why)) from error


def _unbelieved(path: Path, why: str) -> str:
    return f'the state file "{path}" {why}'
