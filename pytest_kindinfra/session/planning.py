"""What the selected tests need, read on pytest's side: declaration, hooks, options.

All problems come in one error, before anything is built or created.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.model import Declaration, Image, Service
from pytest_kindinfra.plan.finding import Nearby, look_nearby
from pytest_kindinfra.plan.records import read_record
from pytest_kindinfra.run.prepare import Door, Prepared, prepare, read_declaration
from pytest_kindinfra.session.workers import workers_of

if TYPE_CHECKING:
    from pytest_kindinfra.state.records import Needs


def prepare_run(config: pytest.Config, wanted: Needs, run_id: str) -> Prepared:
    """Read everything that was declared and prepare what the tests want.

    Args:
        config: pytest's.
        wanted: What the selected tests need.
        run_id: Names what is made.

    Raises:
        DeclarationError: With all problems.
    """
    try:
        declaration = _with_hooks(read_declaration(config.rootpath), config)
    except DeclarationError as error:
        raise DeclarationError([*wanted.problems, *error.problems]) from None
    notes = tuple(_unread(declaration, config, wanted.services))
    known = {one.name for one in declaration.services}
    prepared = prepare(
        declaration,
        wanted.services,
        option=config.getoption,
        door=_door(config, run_id),
        problems=[*wanted.problems, *(() if wanted.services.keys() <= known else notes)],
    )
    return replace(prepared, notes=(*notes, *prepared.notes))


def _door(config: pytest.Config, run_id: str) -> Door:
    """Return what is special about a run of pytest: hooks are called, and every option applies."""
    hook = config.hook
    return Door(
        purpose="run",
        run_id=run_id,
        deploy_hooks=_has_deploy_hooks(config),
        build_hooks=bool(hook.pytest_kindinfra_before_build.get_hookimpls()),
        knows_all=True,
        workers=tuple(workers_of(config).names),
    )


def _unread(
    declaration: Declaration, config: pytest.Config, wanted: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield which declarations count for nothing, since they are not in the rootdir.

    Args:
        declaration: What was read.
        config: pytest's.
        wanted: Service to the ids of the tests that ask for it.
    """
    unknown = wanted.keys() - {one.name for one in declaration.services}
    if declaration.source is not None and not unknown:
        return
    places = list(_places_of_tests(config, wanted))
    nearby = look_nearby(config.rootpath, places)
    if declaration.source is None:
        yield from _nothing_read(config, nearby if unknown else nearby.above(places))
    elif nearby.declarations:
        read = config.rootpath / declaration.source
        yield f"read: {read}; not read: {_from_here(nearby.declarations, config)}"


def _places_of_tests(config: pytest.Config, wanted: Mapping[str, Sequence[str]]) -> Iterator[Path]:
    """Yield the files and folders that tests are in: pytest's arguments, and those of ids."""
    here = config.invocation_params.dir
    for argument in config.args:
        yield Path(os.path.normpath(here / argument.partition("::")[0]))
    for test in {one for tests in wanted.values() for one in tests}:
        yield Path(os.path.normpath(config.rootpath / test.partition("::")[0]))


def _nothing_read(config: pytest.Config, nearby: Nearby | None) -> Iterator[str]:
    """Yield that there is no declaration in the rootdir, and what may have been meant."""
    if nearby is None:
        return
    root, fix = config.rootpath, ""
    if nearby.declarations:
        folders = dict.fromkeys(file.parent for file in nearby.declarations)
        ways = [f"--rootdir={_from_here([folder], config)}" for folder in folders]
        each = "run pytest for each of them alone, with " if len(ways) > 1 else ""
        fix = (
            f"; found, but not read: {_from_here(nearby.declarations, config)}"
            f"; to fix: {each}{' or '.join(ways)}"
        )
    if nearby.misnamed:
        fix += f"; is this meant to be a declaration? {', '.join(nearby.misnamed)}"
    yield (
        f"there is no kindinfra.toml in the rootdir {root} ({_why_rootdir(config)}), and no "
        f"[tool.kindinfra] in its pyproject.toml{fix}"
    )


def _why_rootdir(config: pytest.Config) -> str:
    """Return why pytest takes its rootdir."""
    if config.getoption("rootdir", None):
        return "set by --rootdir"
    if file := config.getoption("inifilename", None):
        return f"the folder of -c {file}"
    if config.inipath:
        return f"where {config.inipath.name} is"
    return "what pytest's arguments have in common"


def _from_here(paths: Iterable[Path], config: pytest.Config) -> str:
    """Return paths as one would write them in the folder in which pytest was started."""
    return ", ".join(os.path.relpath(path, config.invocation_params.dir) for path in paths)


def _with_hooks(declaration: Declaration, config: pytest.Config) -> Declaration:
    """Add what `pytest_kindinfra_services` returns."""
    added = _added_by_hooks(config)
    return replace(
        declaration,
        images=(*declaration.images, *(one for one in added if isinstance(one, Image))),
        services=(*declaration.services, *(one for one in added if isinstance(one, Service))),
        from_hooks=frozenset(one.name for one in added if isinstance(one, Service)),
    )


def _added_by_hooks(config: pytest.Config) -> list[Any]:
    try:
        results = [_flat(one) for one in config.hook.pytest_kindinfra_services(config=config)]
    except (pytest.UsageError, pytest.exit.Exception):
        raise  # the hook's own word to the user
    except Exception as error:
        raise DeclarationError([f"{_hook_of(config)}: {_describe(error)}"]) from error
    added = [record for result in results for record in result]
    if strange := [one for one in added if not isinstance(one, Image | Service)]:
        where = _hook_of(config)
        raise DeclarationError(
            f"{where}: expected Service or Image, got {one!r}" for one in strange
        )
    read = [read_record(one) for one in added]
    if problems := [problem for _, found in read for problem in found]:
        where = _hook_of(config)
        raise DeclarationError(f"{where}: {problem}" for problem in problems)
    return [record for record, _ in read]


def _flat(result: Any) -> list[Any]:
    """Return what a hook returned as a list; one thing alone becomes a list of it."""
    many = isinstance(result, Iterable) and not isinstance(result, str)
    return list(result) if many else [result]


def _hook_of(config: pytest.Config) -> str:
    """Return the hook's name, and where it is implemented: a conftest's path, a plugin's name."""
    root = f"{config.rootpath}{os.sep}"
    found = config.hook.pytest_kindinfra_services.get_hookimpls()
    names = (one.plugin_name.removeprefix(root) for one in found)
    return f"pytest_kindinfra_services in {' or '.join(names)}"


def _describe(error: Exception) -> str:
    """Return an exception with the line that raised it."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"


def _has_deploy_hooks(config: pytest.Config) -> bool:
    """Whether a plugin or conftest is called while services are deployed."""
    hook = config.hook
    callers = (hook.pytest_kindinfra_before_deploy, hook.pytest_kindinfra_after_deploy)
    return any(caller.get_hookimpls() for caller in callers)


def shown_plan(prepared: Prepared) -> Iterator[str]:
    """Yield the lines that say what a run would do."""
    from pytest_kindinfra.images.tags import look_up
    from pytest_kindinfra.run.report import plan_lines
    from pytest_kindinfra.wiring import make_tools

    yield from (f"kindinfra: note: {note}" for note in prepared.notes)
    known = look_up(prepared.plan, make_tools(prepared.settings.engine).engine)
    existing = prepared.settings.kubeconfig
    yield from plan_lines(prepared.plan, prepared.request, known, kubeconfig=existing)
