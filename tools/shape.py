"""Print the shape of the code: lines, modules, importers, arrows between packages, sizes.

Run it as `make shape`. To compare two revisions, run it in a checkout of each.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LONGEST = 450
_FEWEST = 100
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module of the package.

    Attributes:
        name: Without the package's: `run.recipe`.
        lines: All of them, blank ones and comments too.
        imports: The modules of the package that it imports, also for types only.
        import_lines: Lines of its import statements.
        public: How many functions and classes without a leading underscore it defines.
        functions: The length of each function in lines.
    """

    name: str
    lines: int
    imports: frozenset[str]
    import_lines: int
    public: int
    functions: tuple[int, ...]

    @property
    def unit(self) -> str:
        """The top-level package or module that it belongs to."""
        return self.name.partition(".")[0]


def read_modules(folder: Path) -> dict[str, Module]:
    """Return the modules below the package's folder, by name; an `__init__` goes by its package."""
    files = {_name(path, folder): path for path in sorted(folder.rglob("*.py"))}
    return {name: _read(name, path, folder.name, files) for name, path in files.items()}


def _name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts).removesuffix("__init__").rstrip(".")


def _read(name: str, path: Path, package: str, known: Iterable[str]) -> Module:
    text = path.read_text()
    nodes = list(ast.walk(tree := ast.parse(text)))
    statements = [one for one in nodes if isinstance(one, ast.Import | ast.ImportFrom)]
    functions = [one for one in nodes if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [one for one in tree.body if isinstance(one, kinds) and not one.name.startswith("_")]
    return Module(
        name=name,
        lines=len(text.splitlines()),
        imports=frozenset(_imported(statements, package, frozenset(known))) - {name},
        import_lines=sum(_length(one) for one in statements),
        public=len(public),
        functions=tuple(_length(one) for one in functions),
    )


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _imported(
    statements: Iterable[ast.Import | ast.ImportFrom], package: str, known: frozenset[str]
) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.Import):
            names = [one.name for one in statement.names]
        else:
            names = [f"{statement.module}.{one.name}" for one in statement.names]
        for name in names:
            head, _, inner = name.partition(".")
            if head == package:
                yield inner if inner in known else inner.rpartition(".")[0]


def importers(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Return who imports each module."""
    found: dict[str, set[str]] = {name: set() for name in modules}
    for module in modules.values():
        for name in module.imports & found.keys():
            found[name].add(module.name)
    return found


def arrows(modules: Mapping[str, Module]) -> set[tuple[str, str]]:
    """Return the pairs of top-level units of which the first imports the second."""
    return {
        (module.unit, name.partition(".")[0])
        for module in modules.values()
        for name in module.imports
        if module.name and name and module.unit != name.partition(".")[0]
    }


def long_modules(modules: Mapping[str, Module]) -> list[str]:
    """Return the modules that are too long."""
    return [name for name, one in _own(modules).items() if one.lines > _LONGEST]


def wide_modules(modules: Mapping[str, Module]) -> list[str]:
    """Return the modules with many public functions and classes."""
    return [name for name, one in _own(modules).items() if one.public > _MOST_NAMES]


def lone_modules(modules: Mapping[str, Module]) -> list[str]:
    """Return the modules that only one other imports."""
    imported = importers(modules)
    return sorted(name for name in _own(modules) if len(imported[name]) == 1)


def _own(modules: Mapping[str, Module]) -> dict[str, Module]:
    """Return the modules without packages."""
    return {name: one for name, one in modules.items() if name and not _is_package(name, modules)}


def describe(modules: Mapping[str, Module]) -> Iterator[str]:
    """Yield the lines to print."""
    own = _own(modules)
    root = [name for name in own if "." not in name]
    sizes = sorted(one.lines for one in own.values())
    functions = sorted(length for one in own.values() for length in one.functions)
    units = arrows(modules)
    alone = lone_modules(modules)
    lines, imports = sum(sizes), sum(one.import_lines for one in own.values())
    packages = {one.unit for one in own.values() if "." in one.name}
    two_way = sum((second, first) in units for first, second in units) // 2
    figures = {
        "lines": lines,
        "modules": f"{len(own)}, {len(root)} of them in the root",
        "packages": len(packages),
        "module, median and longest": f"{statistics.median(sizes):.0f}, {sizes[-1]} lines",
        f"modules under {_FEWEST} lines": sum(size < _FEWEST for size in sizes),
        f"modules over {_LONGEST} lines": len(long_modules(modules)),
        f"over {_MOST_NAMES} public names": len(wide_modules(modules)),
        "import lines": f"{imports}, {imports / lines:.0%} of all lines",
        "arrows between units": len(units),
        "two-way pairs of units": two_way,
        "arrows between modules": sum(len(one.imports) for one in own.values()),
        "functions": f"{len(functions)}, median {statistics.median(functions):.0f},"
        f" longest {functions[-1]} lines",
        "modules with one importer": len(alone),
    }
    yield from (f"{what:<28}{figure}" for what, figure in figures.items())
    by_unit: dict[str, list[str]] = defaultdict(list)
    for name in alone:
        by_unit[name.partition(".")[0]].append(name)
    yield from (f"  {', '.join(names)}" for names in by_unit.values())


def _is_package(name: str, modules: Iterable[str]) -> bool:
    return any(other.startswith(f"{name}.") for other in modules)


def main() -> None:
    """Print the shape of the package in the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("pytest_kindinfra"))
    parser.add_argument("--modules", action="store_true", help="list every module with its lines")
    given = parser.parse_args()
    modules = read_modules(given.folder)
    if given.modules:
        for module in sorted(modules.values(), key=lambda one: one.lines):
            sys.stdout.write(f"{module.lines:5} {module.public:3} {module.name}\n")
    for line in describe(modules):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
