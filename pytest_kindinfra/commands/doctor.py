"""`kindinfra doctor`: what is missing on this machine, and warnings, each with a remedy."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.clusters.sweep import left_behind
from pytest_kindinfra.commands.images import resolve, settings_of
from pytest_kindinfra.commands.snapshots import kept_here, list_snapshots
from pytest_kindinfra.engines.common import Oldest, asked, in_one_line, new_enough
from pytest_kindinfra.errors import DeclarationError, EngineError, KindInfraError
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.plan.sources import SOURCES
from pytest_kindinfra.protocols.engine import Finding
from pytest_kindinfra.run.machine import disk_problem, network_problem
from pytest_kindinfra.run.prepare import read_declaration
from pytest_kindinfra.run.report import count
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.machine import available_memory, kernel_setting
from pytest_kindinfra.system.programs import can_kill_with_parent
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.model import EngineName
    from pytest_kindinfra.protocols.engine import Engine


_ASK_SECONDS = 20.0


_INOTIFY = {"max_user_instances": 512, "max_user_watches": 524288}
"""kind.sigs.k8s.io/docs/user/known-issues, "Pod errors due to too many open files"."""


_OPTIONAL: dict[tuple[str, ...], tuple[str, ...]] = {
    ("kubectl", "version", "--client"): ("kind_cluster.kubectl()", "port_forward()")
}


_LEAST_MEMORY = 2_000_000_000
"""Bytes."""


_OLDEST_KIND = Oldest(
    version=(0, 20),
    lacks="node images of Kubernetes 1.27.2 and newer need a private cgroup namespace",
    fix="install kind 0.20 or newer: https://kind.sigs.k8s.io/docs/user/quick-start/",
)


def examine(
    tools: Tools, *, environ: Mapping[str, str], proc: Path = Path("/proc")
) -> Iterator[Finding]:
    """Yield a finding for each thing that is looked at, as soon as it was."""
    yield from _programs(tools)
    yield from _engine_host(tools.engine, environ)
    yield from _machine(tools.engine, environ, proc)
    yield from _folder(declaration_folder(Path.cwd()))
    yield from _leftovers(tools)
    yield from _snapshots(tools)


def _programs(tools: Tools) -> Iterator[Finding]:
    deadline = Deadline.after(_ASK_SECONDS)
    yield from tools.engine.examine(deadline)
    yield new_enough(asked("kind", lambda: tools.provider.check(deadline)), _OLDEST_KIND)
    for command, needs in optional_programs().items():
        yield _optional(tools, command, f"{', '.join(needs)} need it")
    if sys.platform == "linux":
        yield _setpriv()


def optional_programs() -> dict[tuple[str, ...], list[str]]:
    """Return what not every run needs: a command that shows that it works to what needs it."""
    programs = {command: list(needs) for command, needs in _OPTIONAL.items()}
    for source in SOURCES.values():
        if source.program:
            programs.setdefault(source.program.argv, []).append(source.program.needed_for)
    return programs


def _optional(tools: Tools, argv: tuple[str, ...], why: str) -> Finding:
    """Try a program that not every run needs: being on PATH is no proof that it works."""
    program, fix = argv[0], how_to_get(argv[0])
    if (path := shutil.which(program)) is None:
        return Finding(state="warning", what=program, said=f"not on PATH; {why}", fix=fix)
    try:
        tools.runner.run(argv, deadline=Deadline.after(_ASK_SECONDS))
    except (KindInfraError, OSError) as error:
        said = f"{path} does not work; {why}: {in_one_line(str(error))}"
        return Finding(state="warning", what=program, said=said, fix=fix)
    return Finding(state="ok", what=program, said=path)


def _setpriv() -> Finding:
    """Say whether programs end with a pytest that is killed."""
    path = shutil.which("setpriv")
    if path and can_kill_with_parent(path):
        return Finding(state="ok", what="setpriv", said=path)
    there = f"{path} does not know --pdeathsig" if path else "not on PATH"
    said = f"{there}; if pytest is killed (SIGKILL), docker and kind go on for a while"
    fix = "install setpriv of util-linux 2.33 or newer (Alpine: apk add setpriv)"
    return Finding(state="warning", what="setpriv", said=said, fix=fix)


def _engine_host(engine: Engine, environ: Mapping[str, str]) -> Iterator[Finding]:
    if problem := engine.host_problem(environ):
        said, _, fix = problem.partition("; to fix: ")
        yield Finding(state="missing", what="engine host", said=said, fix=fix)


def _machine(engine: Engine, environ: Mapping[str, str], proc: Path) -> Iterator[Finding]:
    root = engine.disk_root(environ)
    problem = disk_problem(root, nodes=1)
    said, _, fix = (problem or "room for a kind node, as far as can be seen").partition(
        "; to fix: "
    )
    yield Finding(state="missing" if problem else "ok", what="disk", said=said, fix=fix)
    for name, least in _INOTIFY.items():
        yield from _inotify(name, least, proc)
    yield from _memory(available_memory())


def _inotify(name: str, least: int, proc: Path) -> Iterator[Finding]:
    key = f"fs.inotify.{name}"
    there = kernel_setting(key, proc=proc)
    if there is None:
        return  # no Linux
    if there >= least:
        yield Finding(state="ok", what="inotify", said=f"{key} is {there}")
        return
    said = f"{key} is {there}; with several kind nodes pods may fail with too many open files"
    yield Finding(state="warning", what="inotify", said=said, fix=f"sysctl {key}={least}")


def _memory(available: int | None) -> Iterator[Finding]:
    if available is None:
        return
    said = f"{available / 1e9:.1f} GB available"
    if available >= _LEAST_MEMORY:
        yield Finding(state="ok", what="memory", said=said)
    else:
        fix = "end other programs; a kind node takes about 1 GB before any service"
        yield Finding(state="warning", what="memory", said=said, fix=fix)


def _folder(folder: Path) -> Iterator[Finding]:
    try:
        declaration = read_declaration(folder)
        if declaration.source is None:
            yield Finding(state="ok", what="declaration", said=f"none in {folder}")
        else:
            plan = resolve(folder=folder)
            services, images = len(plan.services), len(plan.images)
            size = f"{count(services, 'service')}, {count(images, 'image')}"
            said = f"{declaration.source}: {size}"
            yield Finding(state="ok", what="declaration", said=said)
        artifacts = folder / settings_of(declaration, {}).artifacts
    except DeclarationError as error:
        more = len(error.problems) - 1
        said = f"{error.problems[0]}{f' (and {more} more)' if more else ''}"
        yield Finding(
            state="missing", what="declaration", said=said, fix="kindinfra plan shows all of it"
        )
        return
    problem = network_problem(artifacts)
    said, _, fix = (problem or str(artifacts)).partition("; to fix: ")
    yield Finding(state="missing" if problem else "ok", what="artifacts", said=said, fix=fix)


def _leftovers(tools: Tools) -> Iterator[Finding]:
    try:
        found = left_behind(tools.creator, Deadline.after(_ASK_SECONDS))
    except KindInfraError:
        return  # the engine was found missing before
    if found:
        said = f"of killed runs: {', '.join(found)}"
        yield Finding(state="warning", what="clusters", said=said, fix="kindinfra gc")
    else:
        yield Finding(state="ok", what="clusters", said="none was left behind")


def _snapshots(tools: Tools) -> Iterator[Finding]:
    try:
        found = list_snapshots(keeper) if (keeper := kept_here(tools)) else []
    except EngineError as error:
        said = f"clusters boot without: {in_one_line(str(error))}"
        yield Finding(state="warning", what="snapshots", said=said, fix="--kindinfra-snapshot=off")
        return
    if found:
        size = sum(one.size for one in found) / 1e6
        said = f"{len(found)}, of {size:.0f} MB beyond their node images"
        yield Finding(state="ok", what="snapshots", said=said)


def doctor() -> Iterator[Finding]:
    """Yield what is found on this machine, as soon as it is."""
    engine: EngineName = "auto"
    with suppress(DeclarationError):  # which is a finding of its own
        engine = settings_of(read_declaration(declaration_folder(Path.cwd())), {}).engine
    return examine(make_tools(engine), environ=os.environ)
