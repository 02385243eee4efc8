"""Folders on network file systems, where a lock may not keep anybody out."""

from __future__ import annotations

from pathlib import Path

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"})

_MOUNTS = Path("/proc/self/mounts")


def network_problem(folder: Path, *, mounts: Path = _MOUNTS) -> str | None:
    """Return why locks in `folder` cannot be relied on, None if they can or nobody can tell.

    Args:
        folder: Where locks would be; it need not be there yet.
        mounts: The table of mounts as proc(5) describes it; only Linux has one.
    """
    if not mounts.exists():
        return None
    kinds = dict(_mount_points(mounts.read_text()))
    for parent in (folder.resolve(), *folder.resolve().parents):
        if (kind := kinds.get(str(parent))) is not None:
            return _refusal(folder, kind) if kind in NETWORK else None
    return None


def _mount_points(table: str) -> list[tuple[str, str]]:
    """Return path and kind of each mount; a blank in a path stands as an octal number."""
    rows = (line.split() for line in table.splitlines())
    return [(row[1].replace(r"\040", " "), row[2]) for row in rows if len(row) > 2]  # noqa: PLR2004


def _refusal(folder: Path, kind: str) -> str:
    return (
        f"{folder} is on a network file system ({kind}), where locks may not work; "
        "to fix: --kindinfra-artifacts=DIR on a local disk"
    )
