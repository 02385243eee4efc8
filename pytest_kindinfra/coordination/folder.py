"""The folder that all processes of one run share: its files, its locks, and its reserve of disk.

What a file means, and who waits for it, is `run.py`'s.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.coordination.state import DISK_FULL, read_state, write_json, write_state
from pytest_kindinfra.privatefiles import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable

_RUN_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
"""A run's id, and so the name of its folder and what a link of ours leads to."""
_RESERVE_BYTES = 256 << 10
_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`ARTIFACTS/RUN_ID`.

    Attributes:
        path: The folder; made when somebody first needs it.
    """

    path: Path

    @property
    def kubeconfig(self) -> Path:
        """Where the cluster's credentials are."""
        return self.path / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held by the run's main process as long as it lives."""
        return self.path / "lock"

    @property
    def provisioning(self) -> Path:
        """Held as long as somebody may still settle a result."""
        return self.path / "provisioning"

    def make(self) -> None:
        """Make the folder, for its owner only and invisible to git; point `latest` at it.

        In a folder that was there before, nothing of the user's is written over or hidden.

        Raises:
            OSError: It cannot be written.
        """
        _make_artifacts(self.path.parent)
        self.path.mkdir(mode=_PRIVATE, exist_ok=True)
        self.path.chmod(_PRIVATE)
        self.hide()
        with suppress(OSError):  # a file system without links, or somebody else's folder
            self._point_latest()

    def hide(self) -> None:
        """Make the folder invisible to git, whatever folder of the user's it is in."""
        _ignore_all(self.path)

    def _point_latest(self) -> None:
        """Point `latest` at the folder, unless that is a file or link of the user's."""
        latest = self.path.parent / "latest"
        if os.path.lexists(latest) and not _RUN_NAME.fullmatch(str(latest.readlink())):
            return
        fresh = self.path.parent / f".latest-{self.path.name}"
        fresh.symlink_to(self.path.name)
        fresh.replace(latest)

    def reserve(self) -> None:
        """Set some of the disk aside, so that what must be said fits when the disk is full."""
        self._reserve.parent.mkdir(exist_ok=True)
        self._reserve.write_bytes(os.urandom(_RESERVE_BYTES))  # nothing that can be compressed

    def release_reserve(self) -> bool:
        """Give the reserve back to the disk, and say whether there was one."""
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True

    @property
    def _reserve(self) -> Path:
        return self.path / "state" / ".reserve"

    def write(self, name: str, value: Any) -> None:
        """Let `value` appear under `name`, whole or not at all.

        Raises:
            OSError: It cannot be written, even with the reserve.
        """
        self._with_reserve(lambda: write_state(self.file(name), value))

    def write_report(self, name: str, value: Any) -> None:
        """Write a JSON file for people and their programs, such as `run.json`."""
        self._with_reserve(lambda: write_json(self.path / name, value))

    def ask(self, worker: str, request: Any) -> None:
        """Leave what a worker's tests need, for the controller; elsewhere if it must be so.

        A run directory that cannot be written is the controller's to say, as a usage error; an
        error in a worker would be an internal one.
        """
        try:
            _make_artifacts(self.path.parent)
            self.write(f"request-{worker}", request)
        except OSError:
            own_folder(self._elsewhere.path)
            self._elsewhere.write(f"request-{worker}", request)

    def asked(self, worker: str) -> Any:
        """Return what `ask` left, None if the worker's tests need nothing."""
        request = self.read(f"request-{worker}")
        if request is None and os.path.lexists(self._elsewhere.path):
            own_folder(self._elsewhere.path)
            request = self._elsewhere.read(f"request-{worker}")
            shutil.rmtree(self._elsewhere.path, ignore_errors=True)
        return request

    @property
    def _elsewhere(self) -> RunFolder:
        return RunFolder(Path(tempfile.gettempdir()) / f"kindinfra-{self.path.name}")

    def read(self, name: str) -> Any:
        """Return what was written under `name`, None if nothing was.

        Raises:
            StateError: What is there cannot be believed.
        """
        return read_state(self.file(name))

    def read_all(self, prefix: str) -> dict[str, Any]:
        """Return what was written under names that start with `prefix`, keyed by the rest."""
        return {name.removeprefix(prefix): self.read(name) for name in self.names(prefix)}

    def names(self, prefix: str) -> list[str]:
        """Return the names that start with `prefix` under which something was written."""
        return sorted(path.stem for path in (self.path / "state").glob(f"{prefix}*.json"))

    def file(self, name: str) -> Path:
        """Return where `write` puts what is called `name`."""
        return self.path / "state" / f"{name}.json"

    def _with_reserve(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            if error.errno not in DISK_FULL or not self.release_reserve():
                raise
            step()


def _make_artifacts(folder: Path) -> None:
    """Make the folder of all runs; one that was there may be the user's, whose files git shows."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return
    _ignore_all(folder)


def _ignore_all(folder: Path) -> None:
    with suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
        file.write("*\n")
