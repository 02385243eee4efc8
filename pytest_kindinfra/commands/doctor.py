"""`kindinfra doctor`: what is missing or odd on this machine, each with what to do about it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pytest_kindinfra.clusters.sweep import left_behind
from pytest_kindinfra.commands.images import resolve, settings_of
from pytest_kindinfra.engines.builders import Builders
from pytest_kindinfra.engines.host import elsewhere_problems
from pytest_kindinfra.errors import DeclarationError, KindInfraError, last_lines
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.machine import disk_problem, network_problem
from pytest_kindinfra.run.prepare import read_declaration
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.programs import can_kill_with_parent
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.model import EngineName
    from pytest_kindinfra.protocols import Engine


_ASK_SECONDS = 20.0


_INOTIFY = {"max_user_instances": 512, "max_user_watches": 524288}
"""kind.sigs.k8s.io/docs/user/known-issues, "Pod errors due to too many open files"."""


_LEAST_MEMORY = 2_000_000


_VERSION = re.compile(r"(?<![\d.])v?(\d+)\.(\d+)")


_OLDEST: Final = {
    "docker": (
        (23, 0),
        "its BuildKit has no named contexts, which `needs` of images become",
        "install Docker Engine 23.0 or newer: https://docs.docker.com/engine/install/",
    ),
    "buildx": (
        (0, 10),
        "it does not know --provenance and --sbom, which each build gives it",
        "install buildx 0.10 or newer: https://docs.docker.com/go/buildx/",
    ),
    "kind": (
        (0, 20),
        "node images of Kubernetes 1.27.2 and newer want a private cgroup namespace from kind",
        "install kind 0.20 or newer: https://kind.sigs.k8s.io/docs/user/quick-start/",
    ),
}
"""The oldest versions, what older ones lack, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one thing.

    Attributes:
        state: `missing` is what no cluster comes up without, `odd` what may be in the way.
        what: The thing.
        said: What is known of it.
        fix: What to do about it; empty for what is well.
    """

    state: Literal["ok", "odd", "missing"]
    what: str
    said: str
    fix: str = ""

    @property
    def lines(self) -> list[str]:
        """Return what is shown of it."""
        head = f"{self.state:<8} {self.what:<12} {self.said}"
        return [head, f"{'':<8} {'':<12} To fix: {self.fix}"] if self.fix else [head]

    @property
    def record(self) -> dict[str, str]:
        """The same for JSON."""
        return asdict(self)


def examine(
    tools: Tools, *, environ: Mapping[str, str], proc: Path = Path("/proc")
) -> list[Finding]:
    """Return what was found, one finding for each thing that was looked at."""
    return [
        *_programs(tools),
        *_engine_host(tools.engine.name, environ),
        *_machine(tools.engine, environ, proc),
        *_folder(declaration_folder(Path.cwd())),
        *_leftovers(tools),
    ]


def _programs(tools: Tools) -> Iterator[Finding]:
    deadline = Deadline.after(_ASK_SECONDS)
    engine = _asked("engine", lambda: f"{tools.engine.name} {tools.engine.check(deadline)}")
    yield _new_enough(engine)
    if tools.engine.name == "docker" and engine.state == "ok":
        argv = ["docker", "buildx", "version"]
        found = _asked("buildx", lambda: _first_line(tools, argv, deadline))
        fix = "install the buildx plugin: https://docs.docker.com/go/buildx/"
        yield _new_enough(found) if found.state == "ok" else _with_fix(found, fix)
        if found.state == "ok":
            yield from _builder(tools, deadline)
    yield _new_enough(_asked("kind", lambda: tools.provider.check(deadline)))
    kubectl = ("kubectl", "version", "--client")
    yield _optional(tools, kubectl, "kind_cluster.kubectl() and port_forward() need it")
    yield _optional(tools, ("helm", "version", "--short"), "services that are charts need it")
    if sys.platform == "linux":
        yield _setpriv()


def _new_enough(found: Finding) -> Finding:
    """Return a finding of a program, odd if its version lacks what is used of it."""
    program = found.said.partition(" ")[0] if found.what == "engine" else found.what
    version = _VERSION.search(found.said)
    oldest = _OLDEST.get(program)
    if found.state != "ok" or oldest is None or version is None:
        return found
    least, why, fix = oldest
    if tuple(int(part) for part in version.groups()) >= least:
        return found
    wanted = ".".join(str(part) for part in least)
    said = f"{found.said}, older than {wanted}: {why}"
    return Finding(state="odd", what=found.what, said=said, fix=fix)


def _builder(tools: Tools, deadline: Deadline) -> Iterator[Finding]:
    """Yield what is to be known of the builder in use, unless it is the engine's own."""
    builders = Builders(tools.runner)
    builder, use = builders.builder("", deadline), f"docker buildx use {builders.own(deadline)}"
    if builder is None:
        said = "`docker buildx inspect` does not say which builder is in use"
        fix = f"{use}, and unset BUILDX_BUILDER"
        yield Finding(state="odd", what="builder", said=said, fix=fix)
    elif not builder.is_own:
        said = (
            f'"{builder.name}" ({builder.driver}) is in use, which cannot see the engine\'s images;'
            " images are built by the engine's own builder instead"
        )
        fix = f"nothing, or {use} (and unset BUILDX_BUILDER)"
        yield Finding(state="odd", what="builder", said=said, fix=fix)


def _first_line(tools: Tools, argv: list[str], deadline: Deadline) -> str:
    return tools.runner.run(argv, deadline=deadline).stdout.partition("\n")[0].strip()


def _asked(what: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(state="ok", what=what, said=ask())
    except KindInfraError as error:
        said, _, fix = str(error).partition("To fix: ")
        return Finding(state="missing", what=what, said=_in_one_line(said), fix=fix.strip())


def _with_fix(found: Finding, fix: str) -> Finding:
    return Finding(state=found.state, what=found.what, said=found.said, fix=found.fix or fix)


def _in_one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if len(lines) < 2 else f"{lines[0]}: {last_lines(text, 1).strip()}"  # noqa: PLR2004 - first and last


def _optional(tools: Tools, argv: tuple[str, ...], why: str) -> Finding:
    """Try a program that not every run needs: being on PATH is no proof that it works."""
    program, fix = argv[0], how_to_get(argv[0])
    if (path := shutil.which(program)) is None:
        return Finding(state="odd", what=program, said=f"not on PATH; {why}", fix=fix)
    try:
        tools.runner.run(argv, deadline=Deadline.after(_ASK_SECONDS))
    except (KindInfraError, OSError) as error:
        said = f"{path} does not work; {why}: {_in_one_line(str(error))}"
        return Finding(state="odd", what=program, said=said, fix=fix)
    return Finding(state="ok", what=program, said=path)


def _setpriv() -> Finding:
    """Say whether programs end with a pytest that is killed."""
    path = shutil.which("setpriv")
    if path and can_kill_with_parent(path):
        return Finding(state="ok", what="setpriv", said=path)
    there = f"{path} does not know --pdeathsig" if path else "not on PATH"
    said = f"{there}; if pytest is killed (SIGKILL), docker and kind go on for a while"
    fix = "install setpriv of util-linux 2.33 or newer (Alpine: apk add setpriv)"
    return Finding(state="odd", what="setpriv", said=said, fix=fix)


def _engine_host(engine: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    for problem in elsewhere_problems(environ, engine):
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
        yield from _inotify(proc / "sys" / "fs" / "inotify" / name, least)
    yield from _memory(proc / "meminfo")


def _inotify(path: Path, least: int) -> Iterator[Finding]:
    try:
        there = int(path.read_text())
    except (OSError, ValueError):
        return  # no Linux
    key = f"fs.inotify.{path.name}"
    if there >= least:
        yield Finding(state="ok", what="inotify", said=f"{key} is {there}")
        return
    said = f"{key} is {there}; with several kind nodes pods may fail with too many open files"
    yield Finding(state="odd", what="inotify", said=said, fix=f"sysctl {key}={least}")


def _memory(path: Path) -> Iterator[Finding]:
    try:
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return
    said = f"{available / 1e6:.1f} GB available"
    if available >= _LEAST_MEMORY:
        yield Finding(state="ok", what="memory", said=said)
    else:
        fix = "end other programs; a kind node takes about 1 GB before any service"
        yield Finding(state="odd", what="memory", said=said, fix=fix)


def _folder(folder: Path) -> Iterator[Finding]:
    try:
        declaration = read_declaration(folder)
        if declaration.source is None:
            yield Finding(state="ok", what="declaration", said=f"none in {folder}")
        else:
            plan = resolve(folder=folder)
            said = f"{declaration.source}: {len(plan.services)} services, {len(plan.images)} images"
            yield Finding(state="ok", what="declaration", said=said)
        artifacts = folder / settings_of(declaration, {}).artifacts
    except DeclarationError as error:
        count = len(error.problems)
        said = f"{error.problems[0]}{f' (and {count - 1} more)' if count > 1 else ''}"
        yield Finding(
            state="missing", what="declaration", said=said, fix="kindinfra plan tells all"
        )
        return
    problem = network_problem(artifacts)
    said, _, fix = (problem or str(artifacts)).partition("; to fix: ")
    yield Finding(state="missing" if problem else "ok", what="artifacts", said=said, fix=fix)


def _leftovers(tools: Tools) -> Iterator[Finding]:
    try:
        found = left_behind(tools.provider, Deadline.after(_ASK_SECONDS))
    except KindInfraError:
        return  # the engine was found missing before
    if found:
        said = f"of killed runs: {', '.join(found)}"
        yield Finding(state="odd", what="clusters", said=said, fix="kindinfra gc")
    else:
        yield Finding(state="ok", what="clusters", said="none was left behind")


def doctor() -> list[Finding]:
    """Return what was found on this machine."""
    engine: EngineName = "auto"
    with suppress(DeclarationError):  # which is a finding of its own
        engine = settings_of(read_declaration(declaration_folder(Path.cwd())), {}).engine
    return examine(make_tools(engine), environ=os.environ)
