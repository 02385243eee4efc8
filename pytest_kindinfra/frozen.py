"""Frozen records that cost nothing to define, for the modules that every pytest process loads.

`dataclasses.dataclass(frozen=True)` writes the source of each method and compiles it when the
class is defined. The methods here are compiled once, with this module, and look the fields up when
they are called: seldom, and for few records. Other modules use plain dataclasses.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from typing import Any, ClassVar, NoReturn, dataclass_transform


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Frozen:
    """The base of such records: each subclass is a frozen dataclass with keyword arguments.

    `dataclasses.fields`, `replace` and `asdict` work as with any dataclass.

    Raises:
        TypeError: By a constructor, for an argument that is missing or unknown.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls) -> None:
        """Read the fields."""
        dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)

    def __init__(self, **values: Any) -> None:
        own = vars(self)
        for name, one in self.__dataclass_fields__.items():
            own[name] = values.pop(name) if name in values else _default(one)
        if values:
            msg = f"{type(self).__name__} has no field {', '.join(map(repr, values))}"
            raise TypeError(msg)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"cannot assign to field {name!r}"
        raise FrozenInstanceError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        msg = f"cannot delete field {name!r}"
        raise FrozenInstanceError(msg)


def _default(one: Field[Any]) -> Any:
    if one.default is not MISSING:
        return one.default
    if one.default_factory is not MISSING:
        return one.default_factory()
    msg = f"a value for {one.name!r} is missing"
    raise TypeError(msg)
