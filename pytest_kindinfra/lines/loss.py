"""A cluster that is lost in mid-run: said within seconds, in place of many refused connections.

The kind nodes are watched from their creation until the run ends, also while tests run. A kind
node that ends, for whatever reason, ends the bring-up, and tests that have not begun are told why.
"""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CancelledError, ClusterError, KindInfraError, StateError
from pytest_kindinfra.results import LOST
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.model import Cluster

_SUBJECT = "the cluster"
_ASK_ENGINE = 10.0


def watch_nodes(cluster: Cluster, context: Context) -> None:
    """Have a thread watch each kind node until the run is cancelled.

    They are daemons, since what they wait for may never happen; `context.watchers` gets them.
    """
    for node in cluster.nodes:
        watcher = threading.Thread(
            target=_watch, args=(node, cluster, context), name=f"kindinfra-{node}", daemon=True
        )
        watcher.start()
        context.watchers.append(watcher)


def _watch(node: str, cluster: Cluster, context: Context) -> None:
    try:
        said = context.tools.provider.await_end(node, Deadline(math.inf, context.cancelled))
        error = _loss(node, said, cluster, context)
    except CancelledError:
        return
    except KindInfraError as unknown:
        error = ClusterError(f'kind node "{node}" cannot be watched any more: {unknown}')
    if context.cancelled.is_set():
        return  # the run ends, and so does the cluster
    with suppress(StateError):  # another kind node was lost first
        context.run.settle(LOST, context.failure_record(error, subject=_SUBJECT))
    context.failure.end(_SUBJECT, error)


def _loss(node: str, said: str, cluster: Cluster, context: Context) -> ClusterError:
    """Return the error that names what is gone: the engine, or else the kind node."""
    try:
        context.tools.engine.check(Deadline.after(_ASK_ENGINE, context.cancelled))
    except CancelledError:
        raise
    except KindInfraError as error:
        return ClusterError(f'the engine stopped, and with it cluster "{cluster.name}":\n{error}')
    return ClusterError(
        f'kind node "{node}" of cluster "{cluster.name}" has ended in mid-run ({said})\n'
        "To fix: see who stopped or removed its container, or whether memory ran out, and run again"
    )
