"""Reads a service's YAML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import yaml

T = TypeVar("T", str, int, float)


class SettingsError(Exception):
    """A setting is missing or of the wrong kind."""


class Settings:
    """A tree of settings, read by dotted names."""

    def __init__(self, tree: object, source: str = "settings") -> None:
        """Keep *tree* and the name of where it is from, which every complaint repeats."""
        self._tree = tree
        self._source = source

    @classmethod
    def from_environment(cls, default: str) -> Settings:
        """Read the file at ``CONFIG_PATH``, or at *default*."""
        return cls.from_file(os.environ.get("CONFIG_PATH", default))

    @classmethod
    def from_file(cls, path: str) -> Settings:
        """Read the file at *path*."""
        return cls(yaml.safe_load(Path(path).read_text(encoding="utf-8")), path)

    def get(self, name: str, kind: type[T]) -> T:
        """Return the setting *name* (``database.host``), which must be a *kind*."""
        value = self._tree
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if kind is float and isinstance(value, int):
            value = float(value)
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
        message = f"{self._source}: {name} must be {kind.__name__}, not {value!r}"
        raise SettingsError(message)
