"""The cluster's API as the rest of the project sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.kube import bringup
from pytest_kindinfra.kube.apply import ALONE, Applier, Outlook
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.kube.ready import SETTLE, ReadyWait
from pytest_kindinfra.kube.troubles import Leniency
from pytest_kindinfra.model import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject, Level
    from pytest_kindinfra.readywhen import Rules
    from pytest_kindinfra.timeline import Deadline


class Kube(Reader):
    """A cluster's API by its kubeconfig; safe from several threads.

    Nothing is read or imported before the first request. `close` it: it may have threads.
    """

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig)
        self._applier = Applier(self.transport, self._discovery, may_replace=self.is_ours)

    def wait_for_api(self, deadline: Deadline) -> None:
        """Return when the API server is ready; ClusterError if it never was."""
        bringup.wait_for_api(self.transport, deadline)

    def wait_for_nodes(self, deadline: Deadline) -> None:
        """Return when every node is Ready; ClusterError says what is missing."""
        bringup.wait_for_nodes(self.transport, deadline)

    def wait_for_dns(self, deadline: Deadline) -> None:
        """Return when names can be resolved; ClusterError if they never could."""
        bringup.wait_for_dns(self.transport, deadline)

    def ensure_namespace(self, name: str, deadline: Deadline, labels: Mapping[str, str]) -> None:
        """Make the namespace unless it is there; return when pods can be made in it."""
        bringup.ensure_namespace(self.transport, name, deadline, labels)

    def delete_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Ask for the namespace's end if it has these labels, without waiting for it."""
        bringup.delete_namespace(self.transport, name, labels or {})

    def apply(
        self, obj: KubeObject, *, namespace: str, deadline: Deadline, outlook: Outlook = ALONE
    ) -> KubeObject:
        """Apply the object, whatever is there; see `Applier.apply`."""
        return self._applier.apply(obj, namespace=namespace, deadline=deadline, outlook=outlook)

    def wait_established(self, crd: KubeObject, deadline: Deadline) -> None:
        """Return when objects of the CRD's kind can be applied."""
        self.wait_ready([crd], namespace="", deadline=deadline, restarts=0)

    def wait_ready(
        self,
        objects: Sequence[KubeObject],
        *,
        namespace: str,
        deadline: Deadline,
        restarts: int,
        level: Level = "ready",
        settle: float = SETTLE,
        rules: Rules = (),
        excused: Callable[[], bool] = lambda: False,
        patience: float = PATIENCE,
        notice: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Return when all objects are ready, or as far as `level` says.

        Args:
            objects: As they were applied; those of kinds that gate nothing are skipped.
            namespace: Where those are that name none.
            deadline: When waiting ends.
            restarts: Restarts of a container that are no failure.
            level: `started` wants running containers only, `applied` nothing.
            settle: Seconds for which a container without a readiness probe must stay up to
                count as ready; 0 is right if its endpoints are asked anyway.
            rules: What objects of other kinds must say to be ready.
            excused: Whether something else explains that containers crash.
            patience: Seconds for a trouble that may pass by itself.
            notice: Called after each look with a line about what is in the way, or with nothing.

        Raises:
            ServiceFailedError: One will not become ready, or not all were in time.
        """
        leniency = Leniency(restarts=restarts, excused=excused, patience=patience, notice=notice)
        ReadyWait(
            self, objects, namespace=namespace, leniency=leniency, level=level, settle=settle,
            rules=rules,
        ).run(deadline)  # fmt: skip

    def judge(
        self,
        objects: Sequence[KubeObject],
        *,
        namespace: str,
        restarts: int,
        excused: Callable[[], bool] = lambda: False,
        patience: float = PATIENCE,
    ) -> ReadyWait:
        """Return a wait whose `check()` raises once one of the objects is broken for good.

        For whoever waits for something else meanwhile, such as an endpoint.
        """
        leniency = Leniency(restarts=restarts, excused=excused, patience=patience)
        return ReadyWait(self, objects, namespace=namespace, leniency=leniency)
