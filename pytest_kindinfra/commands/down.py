"""`kindinfra down`: end the cluster that runs with reuse share."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pytest_kindinfra.commands.place import look
from pytest_kindinfra.coordination import RunDirectory, held_alone
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.homes import forget, user_of
from pytest_kindinfra.ownership import why_unclear
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from pytest_kindinfra.commands.place import Place

_DELETE_SECONDS = 120.0


def down(cluster: str | None) -> str:
    """Delete the cluster and return a line that says what was done.

    Raises:
        KindInfraError: It is none of ours, in use, that is unclear, or it could not be deleted.
    """
    place = look(cluster)
    if place.there is None:
        return f"there is no cluster {place.name}"
    if place.there.folder is None:
        delete = " ".join(place.tools.provider.delete_command(place.name))
        msg = f'no run of ours made cluster "{place.name}"\nTo fix: if nobody uses it: {delete}'
        raise KindInfraError(msg)
    home = RunDirectory(place.there.folder)
    if why := why_unclear(home, place.name):
        raise KindInfraError(_unclear(place, why))
    with held_alone(home.lock) as alone:
        if not alone:
            msg = f'cluster "{place.name}" is in use by {user_of(home)}\nTo fix: wait for its end'
            raise KindInfraError(msg)
        done = _delete(place, home)
        forget(home)
    return done


def _unclear(place: Place, why: str) -> str:
    delete = shlex.join(place.tools.provider.delete_command(place.name))
    return (
        f'whether anybody uses cluster "{place.name}" is unclear: {why}\n'
        f"To fix: if nobody uses it: {delete}"
    )


def _delete(place: Place, home: RunDirectory) -> str:
    provider = place.tools.provider
    provider.delete(
        place.name, kubeconfig=home.kubeconfig, deadline=Deadline.after(_DELETE_SECONDS)
    )
    return f"deleted cluster {place.name}"
