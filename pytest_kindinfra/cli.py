"""The `kindinfra` command: what is to be done outside of a test run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pytest_kindinfra.commands.arguments import make_parser
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.plan.finding import declaration_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_kindinfra.model import Phase


_OF_A_PROJECT = frozenset(
    (
        *("build", "plan", "pull", "up", "down", "status", "logs", "doctor"),
        *("dev", "url", "exec", "restart", "kubectl"),
    )
)
"""Commands that look for a declaration, from the current folder upwards."""


_WRONG_ARGUMENTS = 2


_BROKEN_PIPE = 141
"""As a shell shows the end of a program by SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for a failure, 2 for wrong arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    after: list[str] = []
    if words[:1] == ["dev"] and "--" in words:  # argparse would take the command for services
        words, after = words[: words.index("--")], words[words.index("--") + 1 :]
    given = make_parser().parse_args(_separated(words))
    given.after = after
    try:
        if given.command in _OF_A_PROJECT:
            _note_folder()
        return int(_action(given)(given) or 0)
    except KindInfraError as error:
        _complain(f"kindinfra: {str(error).removeprefix('kindinfra: ')}")
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        _complain(f'kindinfra: "{error.filename}" cannot be used: {error.strerror}')
        return 1
    except KeyboardInterrupt:
        _complain("kindinfra: interrupted")
        return 130


def _separated(words: Sequence[str]) -> list[str]:
    """Return the words with `--` before those that are kubectl's own, flags among them."""
    words = list(words)
    if words[:1] == ["kubectl"] and len(words) > 1:
        own = 1
        while words[own : own + 1] and words[own].startswith("--cluster-name"):
            own += 1 if "=" in words[own] else 2
        if words[own : own + 1] not in (["-h"], ["--help"], ["--"]):
            words.insert(own, "--")
    return words


def _action(given: argparse.Namespace) -> Callable[[argparse.Namespace], int | None]:
    if given.version:
        return _version
    return _ACTIONS[given.command] if given.command else _overview


def _version(_given: argparse.Namespace) -> None:
    from pytest_kindinfra import __version__

    _say(f"kindinfra {__version__}")


def _overview(_given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.folder import folder_lines

    _say(make_parser().format_help())
    _say("this folder:")
    _say_all(folder_lines())


def _init(_given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.init.write import init

    _say_all(init(Path.cwd()))


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
    from pytest_kindinfra.commands.plan import plan_record, plan_text

    if given.json:
        _say_json(plan_record(given.services, workers=given.workers))
    else:
        _say_all(plan_text(given.services, workers=given.workers))


def _pull(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.pull import pull

    return 0 if pull(given.services, save=given.save, say=_say) else 1


def _up(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.up import up

    well = up(
        given.services,
        cluster=given.cluster_name,
        progress=_progress(),
        say=_say,
        width=shutil.get_terminal_size((100, 24)).columns,
        color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
    )
    return 0 if well else 1


def _dev(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.dev import TESTS, dev

    dev(
        given.services,
        given.after or TESTS,
        cluster=given.cluster_name,
        bring_up=lambda: _up(given) == 0,
        say=_say,
    )


def _down(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.reused import down

    _say(down(given.cluster_name))


def _status(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.reused import status

    found = status(given.cluster_name)
    if given.json:
        _say_json(found.record)
    else:
        _say_all(found.lines)
    return 0 if found.well else 1


def _logs(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.reused import follow, logs

    if given.follow:
        follow(
            given.service,
            cluster=given.cluster_name,
            lines=given.lines,
            say=_write,
            is_read=_is_read,
        )
    else:
        _say_all(logs(given.service, cluster=given.cluster_name, lines=given.lines))


def _url(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.inside import url

    _say(url(given.service, given.endpoint, cluster=given.cluster_name))


def _exec(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.inside import execute

    command = given.words[1:] if given.words[:1] == ["--"] else given.words
    if not command:
        _complain("kindinfra exec: no command; usage: kindinfra exec SERVICE -- CMD ...")
        return _WRONG_ARGUMENTS
    try:
        return execute(
            given.service,
            command,
            container=given.container,
            stdin=given.stdin,
            cluster=given.cluster_name,
        )
    except BrokenPipeError:  # `kindinfra exec web -- cat log | head`
        _silence(sys.stdout)
        return _BROKEN_PIPE


def _restart(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.inside import restart

    for service in given.services:
        _say(f"{service}: {restart(service, cluster=given.cluster_name)}")


def _kubectl(given: argparse.Namespace) -> None:
    from pytest_kindinfra.commands.inside import kubectl

    words = given.words[1:] if given.words[:1] == ["--"] else given.words
    kubectl(words, cluster=given.cluster_name)


def _snapshot(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.snapshots import list_snapshots, remove_snapshots

    if given.action in {"make", "push", "pull"}:
        return _share_snapshot(given)
    if given.action == "remove":
        done = remove_snapshots()
        _say_all(done.lines or ["there is no snapshot"])
        return 1 if done.left else 0
    found = list_snapshots()
    if given.json:
        _say_json({"snapshots": [one.record for one in found]})
    else:
        _say_all([one.line for one in found] or ["there is no snapshot"])
    return 0


def _share_snapshot(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.sharing import make_snapshot, pull_snapshot, push_snapshot

    _note_folder()
    say = _complain if given.json else _say
    if given.action == "make":
        done = make_snapshot(given.services, save=given.save, progress=_progress(say))
    elif given.action == "push":
        done = push_snapshot(given.reference, say=say)
    else:
        done = pull_snapshot(given.reference)
    if given.json:
        _say_json(done.record)
    else:
        _say(done.line)
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.doctor import doctor

    findings = []
    for finding in doctor():
        findings.append(finding)
        if not given.json:
            _say_all(finding.lines)
    if given.json:
        _say_json({"findings": [finding.record for finding in findings]})
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def _gc(given: argparse.Namespace) -> int:
    from pytest_kindinfra.commands.gc import collect_garbage

    say = _complain if given.json else _say
    done = collect_garbage(
        images=given.images,
        days=given.older_than,
        say=say,
        kubeconfig=given.kubeconfig,
        context=given.context,
    )
    if given.json:
        _say_json(done.record)
    else:
        _say_all(done.lines)
    return 0 if done.well else 1


def _schema(_given: argparse.Namespace) -> None:
    from pytest_kindinfra.plan.schema import declaration_schema

    _say_json(declaration_schema())


def _completion(given: argparse.Namespace) -> None:
    import shtab

    _say(shtab.complete(make_parser(), shell=given.shell))


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    "init": _init,
    "build": _build,
    "plan": _plan,
    "pull": _pull,
    "up": _up,
    "dev": _dev,
    "down": _down,
    "status": _status,
    "logs": _logs,
    "url": _url,
    "exec": _exec,
    "restart": _restart,
    "kubectl": _kubectl,
    "snapshot": _snapshot,
    "doctor": _doctor,
    "gc": _gc,
    "schema": _schema,
    "completion": _completion,
}


def _note_folder() -> None:
    """Say which folder counts, if it is not the current one."""
    here = Path.cwd()
    if (folder := declaration_folder(here)) != here:
        _complain(f"kindinfra: using the declaration in {folder}")


def _progress(say: Callable[[str], None] | None = None) -> Callable[[Phase, bool], None]:
    from pytest_kindinfra.run.report import progress_line
    from pytest_kindinfra.system.timeline import now

    began, write = now(), say or _say
    return lambda phase, ended: write(progress_line(phase, ended=ended, since=began))


def _say_json(record: Mapping[str, Any]) -> None:
    _say(json.dumps(record, indent=2))


def _say_all(lines: Iterable[str]) -> None:
    for line in lines:
        _say(line)


def _say(line: str) -> None:
    """Write a line; if it is not read any more (`kindinfra up | head`), the work goes on."""
    with suppress(OSError):
        _write(line)


def _write(line: str) -> None:
    """Write a line.

    Raises:
        OSError: It is not read any more.
    """
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError:
        _silence(sys.stdout)
        raise
    except ValueError as error:
        _silence(sys.stdout)
        raise OSError(str(error)) from error


def _is_read() -> bool:
    """Return False if standard output is a pipe whose reader has ended."""
    import select

    watch = select.poll()
    try:
        watch.register(sys.stdout, 0)  # no event is asked for: an error is reported in any case
        return not watch.poll(0)
    except (OSError, ValueError):
        return False


def _complain(line: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")


def _silence(stream: TextIO) -> None:
    """Have nothing more written, also not by Python itself at the end, which would complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
