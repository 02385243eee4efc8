"""The Secret by which pods of an existing cluster pull from a private registry of images."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pytest_kindinfra.kube.rewrite import runs_images_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject, PullSecret
    from pytest_kindinfra.system.timeline import Deadline


def secret_of(pull: PullSecret) -> KubeObject:
    """Return the Secret (kubernetes.io, "Pull an Image from a Private Registry")."""
    data = base64.b64encode(pull.config.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": pull.name},
        "data": {".dockerconfigjson": data},
    }


class PullSecretPlaces:
    """The namespaces in which one service's pods need the Secret; each gets it once.

    Args:
        pull: The Secret, None for a run without.
        kube: The cluster.
        deadline: When to give up.
    """

    def __init__(self, pull: PullSecret | None, kube: Kube, deadline: Deadline) -> None:
        self._pull = pull
        self._kube = kube
        self._deadline = deadline
        self._have: set[str] = set()

    def serve(self, objects: Iterable[KubeObject], namespace: str) -> None:
        """Have the Secret where pods of objects pull images of the registry.

        Args:
            objects: As they are to be applied.
            namespace: Where those go that name none.

        Raises:
            KindInfraError: The API server refused it.
        """
        if (pull := self._pull) is None:
            return
        for obj in objects:
            place = str((obj.get("metadata") or {}).get("namespace") or namespace)
            if place not in self._have and runs_images_of(obj, pull.registry):
                self._kube.apply(secret_of(pull), namespace=place, deadline=self._deadline)
                self._have.add(place)
