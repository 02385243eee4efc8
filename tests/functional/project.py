"""A project whose tests run in a real pytest, beside programs that only play docker and kind.

    project.service("api", image=True)
    project.tests('''
        @pytest.mark.kindinfra("api")
        def test_api(kindinfra): ...
    ''')
    run = project.run(workers=4)
    assert len(run.calls("build")) == 1

Nothing else is on PATH, so that no run can ever reach a real engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import chain, repeat
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.functional.fake_clusters import FakeClusters
from tests.functional.terminals import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.functional.fake_clusters import GatedKubernetes

LONGEST_RUN = 180.0
PROMPT = "shell> "
FOLDERS = ("bin", "gates", "images", "clusters")
HERE = Path(__file__).parent
FOREIGN = (
    "KINDINFRA_",
    "PYTEST_ADDOPTS",
    "PYTEST_PLUGINS",
    "IMAGE_TAG",
    "COLUMNS",
    "CI",
    "GIT",
    "BUILD",
)

PYTEST_INI = """
[pytest]
pythonpath = .
filterwarnings = error
addopts =
    -p no:hypothesispytest -p no:timeout -p no:rerunfailures -p no:randomly
    -p no:asyncio -p no:pytest-bdd -p no:anyio -p no:django
markers = xdist_group
"""

PROGRAM = """\
#!{python} -SE
import sys
sys.path.insert(0, {here!r})
from fake_programs import run
run({program!r}, {folder!r})
"""

STORY = '''
"""What the tests inside tell those outside, and gates that they open for each other."""

import json, os, time

FOLDER = {folder!r}


def note(what):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    line = json.dumps([what, time.time(), worker]) + "\\n"
    handle = os.open(FOLDER + "/notes.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def open_gate(name):
    open(FOLDER + "/gates/" + name, "w").close()


def await_gate(name, seconds=120):
    late = time.monotonic() + seconds
    while not os.path.exists(FOLDER + "/gates/" + name):
        assert time.monotonic() < late, "nobody opened the gate " + name
        time.sleep(0.01)
'''

READ_UNTIL = """
import subprocess, sys
program = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
next(line for line in program.stdout if sys.argv[1].encode() in line)
program.stdout.close()
sys.exit(program.wait())
"""
"""Executes the rest of its words, and reads what that prints up to a line with its first word."""

COMMAND = "from pytest_kindinfra.cli import main; raise SystemExit(main())"

CONFTEST = """
import pytest
from story import note


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    note("start " + item.name)
    try:
        return (yield)
    finally:
        note("end " + item.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if call.when == "setup" and call.excinfo:
        note("error " + item.name)
    return (yield)
"""

MANIFEST = """
apiVersion: {version}
kind: {kind}
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      restartPolicy: {restart}
      containers:
        - name: {name}
          image: {image}
          readinessProbe: {{httpGet: {{path: /, port: 8080}}}}
"""

K8S_SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: main, port: 8080}}]}}
"""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a program; one that was killed has no end."""

    what: str
    argv: list[str]
    start: float
    env: dict[str, str] = field(default_factory=dict)
    end: float | None = None
    exit: int | None = None

    def overlaps(self, other: Call) -> bool:
        return self.start < (other.end or 0) and other.start < (self.end or 0)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run of pytest, as plain data.

    Attributes:
        code: Its exit code.
        out: What it printed.
        err: What it printed to standard error.
        all_calls: Of docker and kind, by start.
        notes: What tests said, and when, and in which worker: `start test_x`, `end test_x`.
        happened: What clusters saw, and when: `apply Deployment/x`, `ready x`.
        requests: Method and path of each request to an API server.
        folder: The run directory; empty if there is none.
        clusters: Those that are still there.
    """

    code: int
    out: str
    err: str
    all_calls: list[Call]
    notes: list[tuple[str, float, str]]
    happened: list[tuple[str, float]]
    requests: list[tuple[str, str]]
    folder: str
    clusters: list[str]

    @classmethod
    def from_json(cls, text: str) -> Self:
        data = json.loads(text)
        data["all_calls"] = [Call(**call) for call in data["all_calls"]]
        for name in ("notes", "happened", "requests"):
            data[name] = [tuple(entry) for entry in data[name]]
        return cls(**data)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def outcomes(self) -> dict[str, int]:
        """Such as `{"passed": 2, "errors": 1}`."""
        return pytest.RunResult.parse_summary_nouns(self.out.splitlines())

    @property
    def report(self) -> dict[str, Any]:
        """run.json."""
        report: dict[str, Any] = json.loads((Path(self.folder) / "run.json").read_text())
        return report

    def calls(self, what: str = "") -> list[Call]:
        """Return the calls of a kind: `build`, or `build api`."""
        return [call for call in self.all_calls if f"{call.what} ".startswith(f"{what} ".lstrip())]

    def call(self, what: str) -> Call:
        """Return the only call of that kind."""
        (found,) = self.calls(what)
        return found

    @property
    def built(self) -> list[str]:
        """The names of the images for which a build was begun."""
        return sorted(call.what.partition(" ")[2] for call in self.calls("build"))

    @property
    def deployed(self) -> list[str]:
        """The names of the workloads that were applied, as often as they were."""
        return sorted(
            path.rpartition("/")[2]
            for method, path in self.requests
            if method == "PATCH" and path.split("/")[-2] in {"deployments", "jobs"}
        )

    def at(self, what: str) -> float:
        """When that was noted or happened: `start test_x`, `ready api`; the first time."""
        times = [when for told, when, _ in self.notes if told == what]
        times += [when for told, when in self.happened if told == what]
        if times:
            return min(times)
        msg = f"{what!r} never happened: {self.notes} {self.happened}\n{self.text}"
        raise AssertionError(msg)

    def lines(self, text: str) -> list[str]:
        """Return the lines of its output that hold the text."""
        return [line for line in self.out.splitlines() if text in line]


class Running:
    """A run that is not over; `finish` it."""

    def __init__(self, project: Project, argv: list[str], env: dict[str, str]) -> None:
        self._project = project
        self._before = project.history()
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - closed below
        self.process = subprocess.Popen(
            argv, cwd=project.folder, env=env, stdout=self._out, stderr=self._err,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def until(self, seen: Callable[[], object]) -> None:
        """Wait until that is true, or fail with what the run printed so far."""
        late = time.monotonic() + LONGEST_RUN
        while not seen():
            if self.process.poll() is not None or time.monotonic() > late:
                run = self.finish()
                pytest.fail(f"it did not come to that: {run.all_calls}\n{run.text}")
            time.sleep(0.01)

    def until_said(self, text: str) -> None:
        """Wait until it has printed that."""
        self.until(lambda: text in self.so_far())

    def until_called(self, what: str) -> None:
        """Wait until a program is at that."""
        self.until(lambda: any(call.what == what for call in self._project.calls()))

    def until_done(self, what: str) -> None:
        """Wait until a program is done with that."""
        self.until(lambda: any(call.what == what and call.end for call in self._project.calls()))

    def until_at(self, what: str) -> None:
        """Wait until that is noted by a test or happens in a cluster: see `Run.at`."""
        self.until(lambda: what in self._project.told())

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to pytest's main process, or to all of its group as a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def provisioner(self) -> int | None:
        """Return the process that brings the stack up; None if there is none."""
        return next(iter(provisioners(self.process.pid)), None)

    def kill(self, *, group: bool = True) -> None:
        """Kill pytest, with its workers or without, and the provisioner: nobody clears up."""
        self.process.send_signal(signal.SIGSTOP)  # or it would see the end of the other
        for process_id in provisioners(self.process.pid):
            os.kill(process_id, signal.SIGKILL)
        self.signal(signal.SIGKILL, group=group)

    def finish(self) -> Run:
        """Wait for its end; a run that takes too long is killed."""
        try:
            self.process.wait(LONGEST_RUN)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            pytest.fail(f"the run did not end:\n{self._text(self._out)}{self._text(self._err)}")
        calls, notes, kubes = self._before
        project = self._project

        def since(
            known: list[tuple[int, int]],
        ) -> Iterator[tuple[GatedKubernetes, tuple[int, int]]]:
            return zip(project.clusters.made, chain(known, repeat((0, 0))), strict=False)

        return Run(
            code=self.process.returncode,
            out=self._text(self._out),
            err=self._text(self._err),
            all_calls=project.calls()[calls:],
            notes=project.notes()[notes:],
            happened=[one for kube, (seen, _) in since(kubes) for one in kube.happened[seen:]],
            requests=[one for kube, (_, seen) in since(kubes) for one in kube.requests[seen:]],
            folder=project.newest_folder(),
            clusters=project.standing(),
        )

    def _text(self, file: Any) -> str:
        # Not by `seek`, since the run writes at the same position.
        handle = file.fileno()
        return os.pread(handle, os.fstat(handle).st_size, 0).decode(errors="replace")

    def so_far(self) -> str:
        """Return what it has printed."""
        return self._text(self._out)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._out.close()
        self._err.close()


class AtTerminal:
    """A run at a terminal of its own: see what it shows, and type."""

    def __init__(self, argv: list[str], folder: Path, env: dict[str, str]) -> None:
        self._screen, terminal = pty.openpty()
        self.process = subprocess.Popen(
            argv, cwd=folder, env=env, stdin=terminal, stdout=terminal, stderr=terminal,
            start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        self.shown = ""

    def until_shown(self, text: str) -> None:
        """Wait until it has shown that."""
        late = time.monotonic() + LONGEST_RUN
        while text not in self.shown:
            if not self._read() or time.monotonic() > late:
                pytest.fail(f"{text!r} was not shown:\n{self.shown}")

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def finish(self) -> int:
        """Wait for its end and return its exit code."""
        late = time.monotonic() + LONGEST_RUN
        while self._read():
            if time.monotonic() > late:
                pytest.fail(f"the run did not end:\n{self.shown}")
        return self.process.wait(LONGEST_RUN)

    def _read(self) -> bool:
        """Read what is there, for a moment; whether more may come."""
        if select.select([self._screen], [], [], 0.1)[0]:
            try:
                data = os.read(self._screen, 1 << 16)
            except OSError:  # on Linux that of a terminal that nobody has open
                return False
            self.shown += data.decode(errors="replace").replace("\r\n", "\n")
            return bool(data)
        return True

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._screen)


class Project:
    """A folder with tests and a declaration, and a folder with the fake programs."""

    def __init__(self, folder: Path, *, temporary: Path) -> None:
        self.folder = folder / "project"
        self.fakes = folder / "fakes"
        self._temporary = temporary
        self._behaviour: dict[str, dict[str, Any]] = {}
        self._runs: list[Running | AtTerminal] = []
        for path in (self.folder, temporary, *(self.fakes / one for one in FOLDERS)):
            path.mkdir(parents=True, exist_ok=True)
        for program in ("docker", "kind"):
            self.install(program)
        if setpriv := shutil.which("setpriv"):
            (self.fakes / "bin" / "setpriv").symlink_to(setpriv)
        self.write("pytest.ini", PYTEST_INI)
        self.write("story.py", STORY.format(folder=str(self.fakes)))
        self.write("conftest.py", CONFTEST)
        self.clusters = FakeClusters(self.fakes)

    def __enter__(self) -> Self:
        self.clusters.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._runs:
            running.close()
        self.clusters.__exit__()

    # -- what is in it -----------------------------------------------------------------------------

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def tests(self, source: str, name: str = "test_it.py") -> None:
        """Write a test module."""
        start = "import os, pytest\nfrom story import await_gate, note, open_gate\n"
        self.write(name, start + dedent(source))

    def declare(self, toml: str) -> None:
        """Add to the declaration."""
        with (self.folder / "kindinfra.toml").open("a") as file:
            file.write(dedent(toml) + "\n")

    def image(self, name: str, toml: str = "") -> None:
        """Declare an image with a context of its own, which starts from what it needs."""
        needs = re.search(r'needs = \["([^"]+)"', toml)
        base = needs[1] if needs else "scratch"
        self.write(f"{name}/Dockerfile", f"FROM {base}\nCOPY . /{name}\n")
        self.declare(f'[images.{name}]\ncontext = "{name}"\n{toml}')

    def service(
        self,
        name: str,
        *,
        image: bool = False,
        needs: tuple[str, ...] = (),
        kind: str = "Deployment",
        toml: str = "",
    ) -> None:
        """Declare a service of one workload and an http endpoint; a Job has none.

        Args:
            name: Of the service and all that belongs to it.
            image: Whether an image of that name is built; else one of a registry is run.
            needs: As in the declaration.
            kind: Deployment or Job.
            toml: Further lines of its table.
        """
        if image:
            self.image(name)
        self.manifest(name, image=name if image else f"quay.io/{name}:1", kind=kind)
        endpoint = "" if kind == "Job" else 'endpoints.http = { port = 8080, path = "/" }\n'
        own = f'image = "{name}"\n' if image else ""
        self.declare(
            f"[services.{name}]\nmanifests = ['{name}.yaml']\n"
            f"needs = {list(needs)}\n{own}{endpoint}{toml}"
        )

    def chart(self, name: str, *objects: dict[str, Any]) -> None:
        """Write a chart of objects, in whose strings `{{ .Values.KEY }}` is replaced."""
        self.install("helm")
        self.write(f"{name}/Chart.yaml", f"{{apiVersion: v2, name: {name}, version: 1.2.3}}")
        for number, obj in enumerate(objects):
            self.write(f"{name}/templates/{number}.json", json.dumps(obj))

    def manifest(self, name: str, *, image: str, kind: str = "Deployment") -> None:
        """Write `NAME.yaml`: a workload, and a k8s service unless it is a Job."""
        job = kind == "Job"
        version, restart = ("batch/v1", "Never") if job else ("apps/v1", "Always")
        text = MANIFEST.format(name=name, image=image, kind=kind, version=version, restart=restart)
        self.write(f"{name}.yaml", text + ("" if job else K8S_SERVICE.format(name=name)))

    # -- how things go -----------------------------------------------------------------------------

    def behave(self, what: str, **how: Any) -> None:
        """Say how a call is to go.

        Args:
            what: `build api`, `cache api` (its export), `create`, `save`, ...; `ready api` is when
                the workload gets ready.
            how: `seconds` it takes, the gate `until` whose opening it takes, the `exit` code, how
                many `times` it fails so (always without it), what it `says` and what it
                `complains` to standard error; the `images` that are in each kind node from its
                creation on; whether `create` also `prints` the kubeconfig; the `journal` that
                `export` finds.
        """
        kind, _, name = what.partition(" ")
        if kind == "ready":
            self.clusters.gates[name] = how["until"]
            return
        self._behaviour[what] = how
        (self.fakes / "behaviour.json").write_text(json.dumps(self._behaviour))

    def breaks(self, name: str, status: dict[str, Any], *, log: str = "") -> None:
        """Have a workload's container come to that status and log instead of being ready."""
        self.clusters.breaks[name] = status
        if log:
            self.clusters.logs[name] = log

    def open(self, gate: str) -> None:
        """Let go on what waits for it."""
        (self.fakes / "gates" / gate).touch()

    def remove(self, program: str) -> None:
        """Have `docker` or `kind` not installed."""
        (self.fakes / "bin" / program).unlink()

    def foreign_cluster(self, name: str) -> None:
        """Have a cluster that somebody else made."""
        node = self.fakes / "clusters" / name / f"{name}-control-plane"
        node.mkdir(parents=True)
        (node / "mounts").write_text("[]")
        (node / "ports").write_text("{}")

    def images(self) -> list[str]:
        """Return the references that the engine has."""
        names = [path.name for path in (self.fakes / "images").iterdir()]
        return sorted(name.replace("%2F", "/") for name in names)

    def git(self, commit: str, *, status: str = "") -> None:
        """Have a git that says so of the project."""
        path = self.fakes / "bin" / "git"
        path.write_text(
            f'#!/bin/sh\ncase "$*" in\n  *rev-parse*) echo {commit};;\n'
            f"  *status*) printf '%s' '{status}';;\nesac\n"
        )
        path.chmod(0o755)

    def forget_images(self) -> None:
        """Have an engine without images, as in the next job of a pipeline."""
        for path in (self.fakes / "images").iterdir():
            path.unlink()

    def host_image(self, reference: str) -> None:
        """Have an image in the engine."""
        (self.fakes / "images" / reference.replace("/", "%2F")).touch()

    # -- runs --------------------------------------------------------------------------------------

    def run(
        self, *arguments: str, workers: int | None = 0, within: Sequence[str] = (), **env: str
    ) -> Run:
        """Run pytest and wait for its end.

        Args:
            arguments: pytest's.
            workers: For `-n`; None leaves xdist out, and `--tx` among the arguments `-n`.
            within: A command that executes the rest of its words: pytest's.
            env: Added to the environment.
        """
        return self.start(*arguments, workers=workers, within=within, **env).finish()

    def start(
        self, *arguments: str, workers: int | None = 0, within: Sequence[str] = (), **env: str
    ) -> Running:
        """Begin a run."""
        how = ["-p", "no:xdist"] if workers is None else ["-n", str(workers)]
        if any(argument.startswith("--tx") for argument in arguments):
            how = []
        argv = [*within, sys.executable, "-m", "pytest", *how, *arguments]
        running = Running(self, argv, self._environment(env))
        self._runs.append(running)
        return running

    def on_terminal(
        self,
        *arguments: str,
        workers: int | None = 0,
        lines: int = 30,
        env: dict[str, str] | None = None,
    ) -> Terminal:
        """Begin a run of pytest on a terminal of so many lines, with a person before it."""
        how = ["-p", "no:xdist"] if workers is None else ["-n", str(workers)]
        return self._on_terminal(["-m", "pytest", *how, *arguments], lines, env or {})

    def in_shell(self, *arguments: str, workers: int | None) -> Terminal:
        """Begin a run of pytest from a shell on a terminal, which can suspend it."""
        how = ["-p", "no:xdist"] if workers is None else ["-n", str(workers)]
        words = shlex.join([sys.executable, "-m", "pytest", *how, *arguments])
        environment = self._environment({"TERM": "xterm-256color", "PS1": PROMPT})
        argv = ["/bin/bash", "--norc", "--noprofile", "-i"]
        terminal = Terminal(argv, folder=self.folder, environment=environment)
        terminal.type(f"{words}\n")
        return terminal

    def command_on_terminal(self, *words: str) -> Terminal:
        """Begin the `kindinfra` command on a terminal."""
        main = "from pytest_kindinfra.cli import main; raise SystemExit(main())"
        return self._on_terminal(["-c", main, *words], 30, {})

    def _on_terminal(self, words: list[str], lines: int, env: dict[str, str]) -> Terminal:
        environment = self._environment({"TERM": "xterm-256color", **env})
        argv = [sys.executable, *words]
        return Terminal(argv, folder=self.folder, environment=environment, lines=lines)

    def at_terminal(self, *arguments: str, workers: int | None) -> AtTerminal:
        """Begin a run of pytest at a terminal."""
        how = ["-p", "no:xdist"] if workers is None else ["-n", str(workers)]
        argv = [sys.executable, "-m", "pytest", *how, *arguments]
        running = AtTerminal(argv, self.folder, self._environment({"TERM": "xterm"}))
        self._runs.append(running)
        return running

    def command(
        self, *words: str, within: str = ".", given: str | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the `kindinfra` command in the project, or in a folder of it."""
        return self.python("-c", COMMAND, *words, within=within, given=given, **env)

    def command_until(self, text: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the `kindinfra` command, and close its output after a line that has the text."""
        program = [sys.executable, "-c", COMMAND, *words]
        return self.python("-c", READ_UNTIL, text, *program)

    def begin_command(self, *words: str, **env: str) -> Running:
        """Begin the `kindinfra` command in the project, without waiting for its end."""
        running = Running(self, [sys.executable, "-c", COMMAND, *words], self._environment(env))
        self._runs.append(running)
        return running

    def python(
        self, *words: str, within: str = ".", given: str | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Python in the project, or in a folder of it, with `given` as standard input."""
        return subprocess.run(
            [sys.executable, *words], cwd=self.folder / within, env=self._environment(env),
            capture_output=True, text=True, timeout=LONGEST_RUN, check=False, input=given,
        )  # fmt: skip

    def _environment(self, added: dict[str, str]) -> dict[str, str]:
        own = {name: text for name, text in os.environ.items() if not name.startswith(FOREIGN)}
        own.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of some thousand runs compiles all
        own.pop("PYTHONUNBUFFERED", None)  # few users have it: what is not flushed must not be seen
        return own | {
            "PATH": str(self.fakes / "bin"),
            "HOME": str(self.fakes),
            "XDG_CACHE_HOME": str(self.fakes / "cache"),
            "TMPDIR": str(self._temporary),
            "KINDINFRA_SNAPSHOT": "off",  # the docker package would reach a real engine
            "PY_COLORS": "0",  # not --color: with `-p no:terminal` pytest has not got it
            **added,
        }

    def install(self, program: str) -> None:
        """Have a fake program on PATH: docker and kind are; helm and kubectl may be."""
        path = self.fakes / "bin" / program
        path.write_text(
            PROGRAM.format(
                python=sys.executable, here=str(HERE), program=program, folder=str(self.fakes)
            )
        )
        path.chmod(0o755)

    # -- what there is to see ----------------------------------------------------------------------

    def calls(self) -> list[Call]:
        found: dict[str, dict[str, Any]] = {}
        for record in _records(self.fakes / "calls.jsonl"):
            found.setdefault(record.pop("call"), {}).update(record)
        return [Call(**record) for record in found.values()]

    def notes(self) -> list[tuple[str, float, str]]:
        return [tuple(record) for record in _records(self.fakes / "notes.jsonl")]

    def told(self) -> set[str]:
        """Return what tests noted, and what happened in clusters."""
        happened = {what for kube in self.clusters.made for what, _ in list(kube.happened)}
        return happened | {what for what, *_ in self.notes()}

    def told_in_order(self, start: str) -> list[str]:
        """Return what tests noted that begins so."""
        return [what for what, *_ in self.notes() if what.startswith(start)]

    def history(self) -> tuple[int, int, list[tuple[int, int]]]:
        """Return how much has happened so far: calls, notes, and of each cluster."""
        kubes = [(len(kube.happened), len(kube.requests)) for kube in self.clusters.made]
        return len(self.calls()), len(self.notes()), kubes

    def newest_folder(self) -> str:
        latest = self.folder / ".kindinfra" / "latest"
        return str(latest.resolve()) if latest.exists() else ""

    def standing(self) -> list[str]:
        """Return the clusters that are there."""
        return sorted(path.name for path in (self.fakes / "clusters").iterdir())


def processes_of(project: Project) -> list[str]:
    """Return the command lines of all fake programs of the project that still run."""
    mine, found = str(project.fakes).encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()  # empty for a zombie
            if mine in command:
                found.append(command.replace(b"\0", b" ").decode())
    return found


def provisioners(process_id: int) -> list[int]:
    """Return the provisioners that a process of pytest has started and that still run."""
    found, last = [], str(process_id).encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if words[-1] == last and any(b"pytest_kindinfra.provisioner" in word for word in words):
                found.append(int(process.name))
    return found


def is_alive(process_id: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        status = (Path("/proc") / str(process_id) / "stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _records(path: Path) -> list[Any]:
    """Read the whole lines; the last one may still be in the making."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]
