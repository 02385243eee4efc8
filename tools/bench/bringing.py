"""Bring the generated project up by one contender, and tell when its services have answered."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from generated import EDITED, NAMES, PORTS, edit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from contenders import Contender

_LONGEST = 600.0
_EVERY = 0.05
_PATIENCE = 0.15
"""Seconds for an answer: a connection that came before kube-proxy's rules hangs for one second."""
_GRACE = 30.0
"""Seconds between the end of a script and its services' answers."""
_WARM_UP = 3.0


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
    cluster: str = field(default_factory=lambda: f"bench-{secrets.token_hex(3)}")

    def run(self, contender: Contender) -> float:
        """Return the seconds until all has answered; the cluster is gone afterwards."""
        expected = dict.fromkeys(PORTS, self.salt)
        try:
            return self._timed(contender.name, contender.command(self.peers), expected)
        finally:
            self._delete_cluster()

    def run_after_edit(self, contender: Contender) -> float:
        """Return the seconds until an edited service answers, in the cluster that is there."""
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

    def _timed(self, name: str, command: Sequence[str], expected: Mapping[int, str]) -> float:
        """Run a command; return the seconds until each port answers what is expected."""
        start = time.monotonic()
        with self._running(name, command) as process:
            return self._until_answered(process, expected, start)

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
