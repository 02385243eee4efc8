"""Digests of files, so that a file that did not change is read only once, in all runs.

They are kept in the cache folder, with what the file system says of each file. What was written
just before it was read is read again next time: its clock may be too coarse to show a change.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.state.memory import file_for, read, write
from pytest_kindinfra.system.timeline import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


RACY = 2.0
"""Seconds; the coarsest clock of a file system in use, FAT's, has two of them."""


_DIGESTS = "digests"
"""The folder in the cache folder."""


_BILLION = 1_000_000_000


class FolderDigests:
    """Digests of the files in one folder; for one thread at a time."""

    def __init__(self, folder: Path, kept: dict[str, Any]) -> None:
        self._folder = folder
        self._kept = kept
        self._changed = False

    def digest(self, name: str, info: os.stat_result) -> str:
        """Return the SHA-256 of a file.

        Args:
            name: Its path in the folder.
            info: What `lstat` says of it.

        Raises:
            OSError: It cannot be read.
        """
        entry = self._kept.get(name)
        if isinstance(entry, list) and tuple(entry[:-1]) == identity(info):
            return str(entry[-1])
        return self._read(name)

    def to_keep(self) -> dict[str, Any] | None:
        """Return what is worth keeping, None if that has been kept before."""
        if not self._changed:
            return None
        folder = os.fspath(self._folder)
        return {
            name: one for name, one in self._kept.items() if os.path.lexists(f"{folder}/{name}")
        }

    def _read(self, name: str) -> str:
        began = now()
        with (self._folder / name).open("rb") as file:
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        last = identity(after)
        newest = max(after.st_mtime_ns, after.st_ctime_ns)
        if last == identity(before) and newest < (began - RACY) * _BILLION:
            self._kept[name] = [*last, digest]
            self._changed = True
        elif self._kept.pop(name, None):
            self._changed = True
        return digest


class Digests:
    """Digests of the files in several folders; safe from several threads.

    Two threads that want the same folder come one after another, so that no file is read twice.
    """

    def __init__(self, cache: Path | None = None) -> None:
        """Begin with what was kept in the cache folder; None keeps nothing."""
        self._cache = cache
        self._lock = threading.Lock()
        self._folders: dict[Path, FolderDigests] = {}
        self._locks: dict[Path, threading.Lock] = {}
        self._problems: list[str] = []

    @contextmanager
    def of(self, folder: Path) -> Iterator[FolderDigests]:
        """Give the digests of one folder to this thread alone."""
        folder = folder.resolve()
        with self._lock:
            lock = self._locks.setdefault(folder, threading.Lock())
        with lock:
            if folder not in self._folders:
                self._folders[folder] = FolderDigests(folder, self._recall(folder))
            yield self._folders[folder]

    def keep(self) -> list[str]:
        """Keep all in the cache folder; return what is wrong with that."""
        for folder, digests in self._folders.items():
            files = digests.to_keep()
            if self._cache is None or files is None:
                continue
            value = {"folder": str(folder), "files": files}
            if problem := write(file_for(self._cache, _DIGESTS, folder), value):
                self._problems.append(problem)
        return self._problems

    def _recall(self, folder: Path) -> dict[str, Any]:
        if self._cache is None:
            return {}
        kept, problem = read(file_for(self._cache, _DIGESTS, folder))
        if problem:
            self._problems.append(problem)
        files = kept.get("files")
        return files if isinstance(files, dict) else {}


def identity(info: os.stat_result) -> tuple[int, ...]:
    """Return what tells a file from another one, and from itself after a change."""
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
