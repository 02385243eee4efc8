"""The `kindinfra` command: what is to be done outside of a test run."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pytest_kindinfra.clusters.sweep import sweep
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.plan.options import expand_path, find_option
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import engines_here, make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.model import Phase


_OF_A_PROJECT = ("build", "plan", "up", "down", "status", "logs", "doctor")
"""Commands that look for a declaration, from the current folder upwards."""


_GC_SECONDS = 300.0


_DAY = 86400.0


_DAYS = 7.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for a failure, 2 for wrong arguments."""
    given = _parser().parse_args(arguments)
    try:
        if given.command in _OF_A_PROJECT:
            _note_folder()
        return int(given.act(given) or 0)
    except KindInfraError as error:
        _complain(f"kindinfra: {str(error).removeprefix('kindinfra: ')}")
        return 1
    except KeyboardInterrupt:
        _complain("kindinfra: interrupted")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kindinfra", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    services = {"nargs": "*", "metavar": "SERVICE", "help": "default: all that is declared"}

    build = commands.add_parser("build", help="Build images, and make no cluster")
    build.add_argument("services", **services)  # type: ignore[arg-type]
    build.add_argument("--no-cache", action="store_true", help="Build everything anew")
    build.add_argument(
        "--save", type=expand_path, metavar="DIR", help="Write archives for --kindinfra-images=DIR"
    )
    build.set_defaults(act=_build)

    plan = commands.add_parser("plan", help="Say what a run would do")
    plan.add_argument("services", **services)  # type: ignore[arg-type]
    plan.set_defaults(act=_plan)

    _add_lasting(commands, services)
    gc = commands.add_parser("gc", help="Delete the clusters of runs that were killed")
    gc.add_argument("--images", action="store_true", help="Old images of ours too")
    gc.add_argument(
        "--older-than",
        type=_days,
        default=_DAYS,
        metavar="DAYS",
        help="Images that no run made or used for so long (default: %(default)s)",
    )
    gc.set_defaults(act=_gc)
    return parser


def _add_lasting(commands: Any, services: dict[str, Any]) -> None:
    """Add the commands about the cluster that runs with --kindinfra-reuse share."""
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument(
        "--cluster-name",
        metavar=find_option("cluster_name").metavar,
        help="If it has another name than the options say",
    )
    up = commands.add_parser(
        "up", parents=[named], help="Bring services up on the cluster of --kindinfra-reuse"
    )
    up.add_argument("services", **services)
    up.set_defaults(act=_up)
    down = commands.add_parser("down", parents=[named], help="End that cluster")
    down.set_defaults(act=_down)
    status = commands.add_parser("status", parents=[named], help="Say what of it is ready")
    status.set_defaults(act=_status)
    logs = commands.add_parser("logs", parents=[named], help="Show the logs of its pods")
    logs.add_argument("service", nargs="?", metavar="SERVICE", help="default: all")
    logs.add_argument("--lines", type=int, default=100, metavar="N", help="default: %(default)s")
    logs.set_defaults(act=_logs)
    doctor = commands.add_parser("doctor", help="Say what is missing or odd on this machine")
    doctor.set_defaults(act=_doctor)


def _up(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.up import up

    well = up(
        given.services,
        cluster=given.cluster_name,
        progress=_progress(),
        say=_say,
        width=shutil.get_terminal_size((100, 24)).columns,
        color=sys.stdout.isatty(),
    )
    return 0 if well else 1


def _down(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.reused import down

    _say(down(given.cluster_name))


def _status(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.reused import status

    return _say_all(status(given.cluster_name))


def _logs(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.reused import logs

    for line in logs(given.service, cluster=given.cluster_name, lines=given.lines):
        _say(line)


def _doctor(_given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.doctor import doctor

    return _say_all(doctor())


def _say_all(found: Iterable[tuple[str, bool]]) -> int:
    """Show lines; return 1 if one tells of something that is not well."""
    code = 0
    for line, well in found:
        _say(line)
        code = code if well else 1
    return code


def _build(given: argparse.Namespace) -> None:
    """Build, and say which references came of it; the folder is the current one."""
    from pytest_kindinfra.commands.images import build_images, resolve, save_images

    plan = resolve(folder=declaration_folder(Path.cwd()), services=given.services or None)
    images = build_images(plan, no_cache=given.no_cache, progress=_progress())
    for name, image in images.items():
        _say(f"{name:<20} {image.reference}{' (unchanged)' if image.cached else ''}")
        for further in image.also:
            _say(f"{'':<20} {further}")
    if given.save:
        saved = save_images(plan, images, folder=given.save)
        count = sum(one.file is not None for one in saved.values())
        _say(f"saved {count} of {len(images)} in {given.save}")


def _plan(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.images import prepare_services
    from pytest_kindinfra.images.tags import look_up
    from pytest_kindinfra.run.prepare import Door
    from pytest_kindinfra.run.report import plan_lines

    prepared = prepare_services(
        declaration_folder(Path.cwd()),
        given.services or None,
        options={},
        door=Door(purpose="plan", run_id="RUN_ID"),
    )
    known = look_up(prepared.plan, make_tools(prepared.settings.engine).engine)
    existing = prepared.settings.kubeconfig
    for line in plan_lines(prepared.plan, prepared.request, known, kubeconfig=existing)[1:]:
        _say(line)


def _note_folder() -> None:
    """Say which folder counts, if it is not the current one."""
    here = Path.cwd()
    if (folder := declaration_folder(here)) != here:
        sys.stderr.write(f"kindinfra: using the declaration in {folder}\n")


def _days(text: str) -> float:
    if not (days := float(text)) >= 0:
        raise ValueError
    return days


def _gc(given: argparse.Namespace) -> int:
    """Delete leftovers of all engines, from any folder: each leads to its run directory."""
    tools = [make_tools(engine) for engine in engines_here()]
    well = _gc_clusters(tools)
    for one in tools if given.images else ():
        _gc_images(one, days=given.older_than)
    return 0 if well else 1


def _gc_images(tools: Tools, *, days: float) -> None:
    from pytest_kindinfra.images.cleanup import discard_images
    from pytest_kindinfra.state.memory import cache_folder
    from pytest_kindinfra.system.timeline import now

    done = discard_images(
        tools.engine,
        tools.creator,
        cache=cache_folder(),
        before=now() - days * _DAY,
        deadline=Deadline.after(_GC_SECONDS),
    )
    for reference in done.removed:
        _say(f"removed image {reference}")
    for reference, why in done.left.items():
        _say(f"left alone: image {reference}: {why}")
    if not done.removed and not done.left:
        _say(f"no image of ours is older than {days:g} days")


def _gc_clusters(tools: Sequence[Tools]) -> bool:
    """Return whether all went that should."""
    found, well = False, True
    for one in tools:
        swept = sweep(one.creator, Deadline.after(_GC_SECONDS))
        for name in swept.deleted:
            _say(f"deleted cluster {name}")
        for name, why in swept.unclear.items():
            _say(f"left alone: cluster {name}: {why}")
            _say(f"  if nobody uses it: {shlex.join(one.provider.delete_command(name))}")
        for name, why in swept.failed.items():
            _say(f"could not delete cluster {name}: {why}")
            _say(f"  To fix: {shlex.join(one.provider.delete_command(name))}")
        well = well and not swept.failed
        found = found or bool(swept.deleted or swept.unclear or swept.failed)
        if _gc_registry(one):
            _say("removed the registry")
            found = True
    if not found:
        _say("nothing was left behind")
    return well


def _gc_registry(tools: Tools) -> bool:
    """Remove this project's registry if nobody uses it; return whether it is gone."""
    from pytest_kindinfra.engines.registry import close_registry
    from pytest_kindinfra.state.memory import cache_folder

    if not tools.engine.runs_registries:
        return False
    deadline = Deadline.after(_GC_SECONDS)
    return close_registry(
        tools.registries, tools.creator, cache=cache_folder(), say=_say, deadline=deadline
    )


def _progress() -> Callable[[Phase, bool], None]:
    from pytest_kindinfra.run.report import progress_line
    from pytest_kindinfra.system.timeline import now

    began = now()
    return lambda phase, ended: _say(progress_line(phase, ended=ended, since=began))


def _say(line: str) -> None:
    """Write a line; if nobody reads it any more (`kindinfra up | head`), the work goes on."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        _silence(sys.stdout)


def _complain(line: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")


def _silence(stream: TextIO) -> None:
    """Have nothing more written, also not by Python itself at the end, which would complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
