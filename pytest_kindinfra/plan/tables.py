"""Read a table of the declaration key by key and collect what is wrong with it; and the reverse.

Nothing is raised: a wrong value becomes a problem and the default goes on, so that one run
names every mistake. Pure; it must not know which keys there are.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pytest_kindinfra.errors import did_you_mean, listed
from pytest_kindinfra.system.secrets import looks_secret

if TYPE_CHECKING:
    from collections.abc import Iterator


T = TypeVar("T")


HIGHEST_PORT = 65535


_LONGEST = 80


class Asked(list[str]):
    """Problems, and the keys that were read.

    Attributes:
        schemas: Place of a table to key to the JSON Schema of what is accepted there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.schemas: dict[str, dict[str, dict[str, Any]]] = {}


_TEXT = {"type": "string", "minLength": 1}


_PORT = {"type": "integer", "minimum": 1, "maximum": HIGHEST_PORT}


class Table:
    """One table, the place it has in messages, and where its problems go.

    Attributes:
        place: What messages begin with: `[services.api]`.
        problems: One list for all tables of a declaration.
        broken: It was no table, so nothing can be said of what it lacks.
    """

    def __init__(self, place: str, value: Any, problems: list[str]) -> None:
        self.place = place
        self.problems = problems
        self._asked: set[str] = set()
        self.broken = not isinstance(value, dict)
        self._values: Mapping[str, Any] = {} if self.broken else value
        if self.broken:
            problems.append(f"{place} must be a table, not {shown(value)}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def written(self) -> tuple[str, ...]:
        """The keys in the order in which they were written."""
        return tuple(self._values)

    def complain(self, message: str) -> None:
        """Add a problem that begins with this table's place."""
        self.problems.append(f"{self.place} {message}")

    def text(self, key: str) -> str | None:
        """Return a string that is not empty, or None."""
        value = self._typed(key, str, "a string")
        if value == "":
            self.complain(f"{key} is empty")
        self._accepts(key, _TEXT)
        return value or None

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings; a single string is a problem, since its letters iterate."""
        values = self._typed(key, list, "a list of strings") or []
        self._accepts(key, {"type": "array", "items": _TEXT})
        if all(isinstance(value, str) and value for value in values):
            return tuple(values)
        wrong = next(value for value in values if not isinstance(value, str) or not value)
        self.complain(f"{key} must be a list of strings that are not empty, but has {shown(wrong)}")
        return ()

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._typed(key, bool, "true or false")
        self._accepts(key, {"type": "boolean"})
        return default if value is None else value

    def port(self, key: str) -> int | None:
        """Return a port's number, or None."""
        value: int | None = self._typed(key, int, "a number")
        self._accepts(key, _PORT)
        if value is not None and not 1 <= value <= HIGHEST_PORT:
            self.complain(f"{key} is {value}, but ports go from 1 to {HIGHEST_PORT}")
            return None
        return value

    def port_or_name(self, key: str) -> int | str | None:
        """Return a port's number or name, or None."""
        found = self.text(key) if isinstance(self._values.get(key), str) else self.port(key)
        self._accepts(key, {"anyOf": [_PORT, _TEXT]})
        return found

    def count(self, key: str, *, default: int, least: int = 0) -> int:
        """Return a whole number that is not negative, or not below `least`."""
        value = self._typed(key, int, "a number")
        self._accepts(key, {"type": "integer", "minimum": least})
        if value is not None and value < least:
            must = f"be {least} or more" if least else "not be negative"
            self.complain(f"{key} is {value}, but must {must}")
        return default if value is None else max(value, least)

    def seconds(self, key: str) -> float | None:
        """Return a number of seconds above 0, or None."""
        value: Any = self._typed(key, (int, float), "a number of seconds")
        self._accepts(key, {"type": "number", "exclusiveMinimum": 0})
        if value is not None and not value > 0:
            self.complain(f"{key} is {value}, but must be more than 0 seconds")
            return None
        return None if value is None else float(value)

    def patience(self, key: str, *, default: float) -> float:
        """Return a number of seconds that may be 0."""
        value: Any = self._typed(key, (int, float), "a number of seconds")
        self._accepts(key, {"type": "number", "minimum": 0})
        if value is not None and not value >= 0:  # NaN is neither
            self.complain(f"{key} is {value}, but must be 0 seconds or more")
            return default
        return default if value is None else float(value)

    def choice(self, key: str, literal: T, *, default: str) -> T | str:
        """Return one of the strings of a `Literal` type."""
        value = self.text(key)
        choices = get_args(literal)
        self._accepts(key, {"enum": list(choices)})
        if value is None or value in choices:
            return value or default
        self.complain(
            f'{key} is "{value}", but must be one of {listed(choices)}'
            + did_you_mean(value, choices)
        )
        return default

    def path(self, key: str) -> Path | None:
        """Return a path as written, but for `~`, which becomes the home folder; or None."""
        value = self.text(key)
        return None if value is None else Path(os.path.expanduser(value))  # noqa: PTH111

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return a table of plain values as pairs of strings, sorted by key."""
        values = self._typed(key, dict, "a table of strings") or {}
        plain = {"type": ["string", "number", "boolean"]}
        self._accepts(key, {"type": "object", "additionalProperties": plain})
        pairs = []
        for name, value in sorted(values.items()):
            if isinstance(value, bool):
                pairs.append((name, str(value).lower()))
            elif isinstance(value, str | int | float):
                pairs.append((name, str(value)))
            else:
                what = "a value of another type" if looks_secret(name) else shown(value)
                self.complain(f"{key}.{name} must be a string, not {what}")
        return tuple(pairs)

    def tables(self, key: str) -> Iterator[tuple[str, Table]]:
        """Yield the name and table of each entry in a table of tables."""
        place = self.place.strip("[]")
        prefix = f"{place}.{key}" if place else key
        for name, value in (self._typed(key, dict, "a table") or {}).items():
            yield name, Table(f"[{prefix}.{name}]", value, self.problems)

    def raw(self, key: str, default: Any = None) -> Any:
        """Return the value as it is; the key counts as known."""
        self._asked.add(key)
        if isinstance(self.problems, Asked):
            self.problems.schemas.setdefault(self.place, {}).setdefault(key, {})
        return self._values.get(key, default)

    def reject_unknown(self, noun: str = "key") -> None:
        """Add a problem for each key that was not read; call it last."""
        for key in self._values:
            if key not in self._asked:
                hint = did_you_mean(key, self._asked) or f"; known: {listed(sorted(self._asked))}"
                self.complain(f'has an unknown {noun} "{key}"{hint}')

    def _accepts(self, key: str, schema: dict[str, Any]) -> None:
        """Note what is accepted for a key, for the schema."""
        if isinstance(self.problems, Asked):
            self.problems.schemas[self.place][key] = schema

    def _typed(self, key: str, kinds: Any, expected: str) -> Any:
        value = self.raw(key)
        if value is None:
            return None
        # Python takes true for a number; TOML does not.
        misfit = isinstance(value, bool) and kinds is not bool
        if misfit or not isinstance(value, kinds):
            self.complain(f"{key} must be {expected}, not {shown(value)}")
            return None
        return value


def shown(value: Any) -> str:
    """Return a value about as TOML has it: `"soon"`, `true`, `the list ["a"]`; long ones cut."""
    noun = "the table " if isinstance(value, dict) else "the list "
    text = _toml(value)
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{noun}{short}" if isinstance(value, dict | list) else short


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(part)}' for key, part in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, int | float) else repr(value)


def keys_of(record: Any) -> dict[str, Any]:
    """Return the fields of a record that differ from the default, but `name`, as a table has them.

    Args:
        record: A dataclass.
    """
    return {
        one.name: plain(getattr(record, one.name))
        for one in fields(record)
        if one.name != "name" and getattr(record, one.name) != _default(one)
    }


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def plain(value: Any) -> Any:
    """Return what TOML has for a value of Python: a text for a path, a table for a mapping."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {_key(key): plain(one) for key, one in value.items()}
    return value


def _key(key: Any) -> str:
    """Return a key of a table as a values file has it: `8080` of a number."""
    from pytest_kindinfra.kube.yaml import key_text

    try:
        return key_text(key)
    except ValueError:
        return str(key)
