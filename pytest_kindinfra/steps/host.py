"""Have a registry beside the cluster: the user's, or ours, which all runs of this host share.

A step must not know another step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.coordination import RunDirectory, is_held, locked_for_all_users
from pytest_kindinfra.imageuses import ImageUse, forget_use, note_use, read_uses
from pytest_kindinfra.timeline import now

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.hosting import Registry
    from pytest_kindinfra.registries.protocol import RegistryHost
    from pytest_kindinfra.timeline import Deadline

_OTHERS_TAKE = 60.0
"""Seconds for which other runs are waited for: starting the registry takes a second or two."""
_USE = "the registry of ours"
"""Under which the run that used it last is noted, beside the uses of images."""


def open_registry(
    host: RegistryHost,
    *,
    address: str | None,
    cache: Path | None,
    run: Path,
    say: Callable[[str], object],
    deadline: Deadline,
) -> Registry:
    """Return a registry that answers.

    Args:
        host: Who finds and runs registries.
        address: The user's; None means ours.
        cache: The cache folder, which gets a note that the run uses ours.
        run: The run directory.
        say: Gets a sentence about waiting for other runs of this host.
        deadline: When to give up.

    Raises:
        ClusterError: There is none, and none can be started.
    """
    if address:
        return host.find(address, deadline)
    soon = deadline.within(_OTHERS_TAKE)
    with locked_for_all_users("registry", soon, say=say):
        if cache:
            note_use(cache, [_USE], ImageUse(run=run, at=now()))
        return host.run(deadline)


def close_registry(
    host: RegistryHost,
    provider: Provider,
    *,
    cache: Path,
    say: Callable[[str], object],
    deadline: Deadline,
) -> bool:
    """Remove the registry of ours unless a cluster of ours or a live run may use it.

    It stays as well if another process may just be starting it.

    Returns:
        Whether it was there and is gone.
    """
    soon = deadline.within(_OTHERS_TAKE)
    with locked_for_all_users("registry", soon, say=say) as alone:
        if not alone:
            return False
        last = read_uses(cache).get(_USE)
        if provider.run_directories(deadline) or (last and is_held(RunDirectory(last.run).lock)):
            return False
        forget_use(cache, _USE)
        return host.remove(deadline)
