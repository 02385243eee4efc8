"""What the package imports is declared, and what is declared is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_kindinfra

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pytest_kindinfra.__file__).parent

# Not distributions of their own.
OTHERS = {
    "pytest_kindinfra": "itself",
    "compression": "the standard library's since Python 3.14; before that it is backports.zstd",
}

# Not installed where the standard library has it.
NAMESPACES = {"backports": ["backports.zstd"]}

# Declared, though nothing imports them.
NOT_IMPORTED = {"pytest-xdist": "the extra `xdist`, for `pytest -n`"}


def test_what_is_imported_is_declared() -> None:
    assert imported() - declared() == set()


def test_what_is_declared_is_imported() -> None:
    assert declared() - imported() == NOT_IMPORTED.keys()


@cache
def imported() -> set[str]:
    """Return the distributions of all modules that the package imports."""
    known = packages_distributions()
    return {
        normalised(distribution)
        for source in PACKAGE.rglob("*.py")
        for module in modules_of(ast.parse(source.read_bytes()))
        if module not in OTHERS and module not in sys.stdlib_module_names
        for distribution in NAMESPACES.get(module) or known[module]
    }


def modules_of(tree: ast.AST) -> Iterator[str]:
    """Give the first words of the names of imported modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def declared() -> set[str]:
    """Return the distributions that pyproject.toml names for the package and its extras."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    entries = [*project["dependencies"], *(entry for extra in extras for entry in extra)]
    names = (re.match(r"[\w.-]+", entry) for entry in entries)
    return {normalised(name[0]) for name in names if name}


def normalised(name: str) -> str:
    """Return a distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
