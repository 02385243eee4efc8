"""Bring the generated project up by one contender, and tell when its services have answered."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from generated import EDITED, NAMES, PORTS, edit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from contenders import Contender

_LONGEST = 600.0
_EVERY = 0.05
_PATIENCE = 0.15
"""Seconds for an answer: a connection that came before kube-proxy's rules hangs for one second."""
_GRACE = 30.0
"""Seconds between the end of a script and its services' answers."""
_WARM_UP = 3.0


def _cluster_name() -> str:
    return f"bench-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class Spent:
    """Seconds until all had answered, and of all processors meanwhile (not idle)."""

    seconds: float
    processor: float


@dataclass(frozen=True)
class Bench:
    """One generated project, and what it is brought up with.

    Attributes:
        folder: Of the project.
        salt: What its services answer.
        edges: How far a need must be: `ready` or `applied`.
        node_image: Of the kind node.
        peers: A Python with the other plugins.
        cluster: A name that is free.
    """

    folder: Path
    salt: str
    edges: str
    node_image: str
    peers: Path
    cluster: str = field(default_factory=_cluster_name)

    def anew(self) -> Bench:
        """Return the same with the name of a new cluster."""
        return replace(self, cluster=_cluster_name())

    def make_snapshot(self) -> None:
        """Leave a snapshot that has the images of the project."""
        self._kindinfra("snapshot", "make")

    def remove_snapshots(self) -> None:
        """Remove all that this machine has."""
        self._kindinfra("snapshot", "remove")

    def _kindinfra(self, *words: str) -> None:
        program = str(Path(sys.executable).with_name("kindinfra"))
        variables = {**os.environ, "KINDINFRA_NODE_IMAGE": self.node_image}
        subprocess.run(
            [program, *words], cwd=self.folder, env=variables, check=True, capture_output=True
        )

    def run(self, contender: Contender) -> Spent:
        """Return what it took until all has answered; the cluster is gone afterwards."""
        expected = dict.fromkeys(PORTS, self.salt)
        try:
            return self._timed(contender.name, contender.command(self.peers), expected)
        finally:
            self._delete_cluster()

    def run_after_edit(self, contender: Contender) -> Spent:
        """Return what it took until an edited service answers, in the cluster that is there."""
        salt = secrets.token_hex(8)
        try:
            everything = dict.fromkeys(PORTS, self.salt)
            self._timed(contender.name, contender.kept_command(), everything)
            time.sleep(_WARM_UP)  # what an editor takes: nothing of the first run is under way
            edit(self.folder, salt)
            edited = {PORTS[NAMES.index(EDITED)]: salt}
            return self._timed(contender.name, contender.edit_command(), edited)
        finally:
            self._delete_cluster()

    def _timed(self, name: str, command: Sequence[str], expected: Mapping[int, str]) -> Spent:
        """Run a command; return what it took until each port answers what is expected."""
        start, worked = time.monotonic(), _processor_seconds()
        with self._running(name, command) as process:
            seconds = self._until_answered(process, expected, start)
            return Spent(seconds, _processor_seconds() - worked)

    @contextmanager
    def _running(self, name: str, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        variables = {
            "CLUSTER": self.cluster,
            "EDGES": self.edges,
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "PORTS": " ".join(map(str, PORTS)),
            "NODE_IMAGE": self.node_image,
            "KINDINFRA_NODE_IMAGE": self.node_image,
            "KIND": shutil.which("kind") or "kind",
            "KUBECTL": shutil.which("kubectl") or "kubectl",
        }
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                _end(process)

    def _until_answered(
        self, process: subprocess.Popen[bytes], expected: Mapping[int, str], start: float
    ) -> float:
        waiting, ended = dict(expected), _LONGEST
        while waiting:
            waiting = {port: text for port, text in waiting.items() if not _answers(port, text)}
            passed = time.monotonic() - start
            if process.poll() is not None:
                ended = min(ended, passed)
            if waiting and (process.poll() or passed > min(_LONGEST, ended + _GRACE)):
                logs = "".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
                msg = f"{logs}\nfailed after {passed:.0f} s"
                raise SystemExit(msg)
            time.sleep(_EVERY)
        return time.monotonic() - start

    def _delete_cluster(self) -> None:
        delete = ["kind", "delete", "cluster", "--name", self.cluster]
        subprocess.run(delete, check=True, capture_output=True)


def remove_images() -> None:
    """Remove what was built for the bench, so that disks do not fill; caches stay."""
    listed = subprocess.run(
        ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = listed.stdout.split()
    ours = [name for name in names if name.rpartition("/")[2].startswith("bench-")]
    if ours:
        subprocess.run(["docker", "image", "rm", *ours], check=True, capture_output=True)


def _processor_seconds() -> float:
    spent = psutil.cpu_times()
    return spent.user + spent.nice + spent.system + spent.irq + spent.softirq


def _answers(port: int, text: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/")
        return text in connection.getresponse().read().decode()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end by itself, which for a plugin includes the deletion of its cluster."""
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
