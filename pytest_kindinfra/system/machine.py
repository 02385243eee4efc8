"""Facts about this machine, from psutil: listeners, file systems, memory.

psutil is imported when a fact is asked for, not when the plugin is loaded. A fact that the system
does not give away is None: callers never refuse a run for what they cannot see.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def listener_of(port: int) -> tuple[int, str] | None:
    """Return the process that listens on a TCP port of this host, with its command line.

    Processes of other users are visible to root only; they are passed over.

    Args:
        port: The port's number, on any address.

    Returns:
        The process id and the command line, None if no visible process listens there.
    """
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            connections = process.net_connections("tcp")
            if any(one.laddr[1] == port for one in connections if one.status == "LISTEN"):
                return process.pid, " ".join(process.cmdline())
    return None


def file_system_of(folder: Path) -> str | None:
    """Return the type of the file system that a folder is on, or will be on once it exists.

    Args:
        folder: An absolute or relative path; links are followed.

    Returns:
        The type as the system names it (`ext4`, `nfs4`, `apfs`), None if it names none.
    """
    import psutil

    try:
        mounts = {one.mountpoint: one.fstype for one in psutil.disk_partitions(all=True)}
    except (psutil.Error, OSError):
        return None
    path = folder.resolve()
    return next((mounts[str(one)] for one in (path, *path.parents) if str(one) in mounts), None)


def available_memory() -> int | None:
    """Return the bytes that programs can have without swapping, None if that is unknown."""
    import psutil

    try:
        return int(psutil.virtual_memory().available)
    except (psutil.Error, OSError):
        return None


def total_memory() -> int | None:
    """Return the bytes of this machine's memory, None if that is unknown."""
    import psutil

    try:
        return int(psutil.virtual_memory().total)
    except (psutil.Error, OSError):
        return None


def kernel_setting(name: str, *, proc: Path = Path("/proc")) -> int | None:
    """Return a numeric setting of the Linux kernel, None on other systems.

    psutil does not read settings, so this one reads `/proc/sys` (proc(5)).

    Args:
        name: As `sysctl` calls it: `fs.inotify.max_user_watches`.
        proc: Where the kernel shows itself.
    """
    try:
        return int((proc / "sys" / name.replace(".", "/")).read_text())
    except (OSError, ValueError):
        return None
