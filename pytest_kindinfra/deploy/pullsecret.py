"""The Secret by which pods of an existing cluster pull from a private registry of images.

It has the credentials of the `docker` command, and its own name in each run: what other runs have
in the same namespace stays when this one ends. Clusters into which images are loaded need none.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from pytest_kindinfra.engines.credentials import find_login
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.rewrite import rewrite, runs_images_of
from pytest_kindinfra.references import PullSecret
from pytest_kindinfra.state.runnames import in_names
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.context import Context, Request, Tools
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject, Plan, Service


_LOOK_SECONDS = 30.0


def problems_of_pull_secret(plan: Plan, request: Request, tools: Tools) -> Iterator[str]:
    """Yield why pods cannot get the credentials that the declaration wants them to have.

    Args:
        plan: Has the declaration.
        request: Names the registry and the cluster.
        tools: The engine, and what starts credential helpers.
    """
    if plan.declaration.pull_secret and request.image_registry is None:
        yield (
            "[images] pull_secret: no registry of images is named\n"
            "  To fix: set [images] registry or --kindinfra-registry, or remove pull_secret"
        )
    if not (address := _registry_of(plan, request)):
        return
    if not tools.engine.runs_registries:
        engine = tools.engine.name
        yield f"[images] pull_secret needs the credentials of Docker, but the engine is {engine}"
        return
    limit = Deadline.after(_LOOK_SECONDS)
    try:
        find_login(address, runner=tools.runner, environ=os.environ, deadline=limit)
    except KindInfraError as error:
        yield f"[images] pull_secret: {error}"


def needed_secrets(plan: Plan, request: Request) -> list[tuple[KubeObject, str]]:
    """Return the Secrets that the services of a plan need, without data, each with its namespace.

    Args:
        plan: Has the objects; what `run` functions return is not known yet.
        request: Names the registry, the run and the cluster.
    """
    if not (address := _registry_of(plan, request)):
        return []
    places = {
        str(obj["metadata"].get("namespace") or plan.namespaces.get(one.name, request.namespace))
        for one in plan.services
        for obj in plan.objects.get(one.name, ())
        if _will_pull(plan, one, obj, address)
    }
    secret = _object_of(PullSecret(name=_name_of(request), registry=address))
    return [(secret, place) for place in sorted(places)]


def find_pull_secret(context: Context) -> PullSecret | None:
    """Return the Secret with the credentials for the registry of images; None if none is wanted.

    They are masked in all that the run shows and writes from now on.

    Raises:
        KindInfraError: There are no credentials that a cluster can use.
    """
    request, tools = context.request, context.tools
    if not (address := _registry_of(context.plan, request)):
        return None
    login = find_login(
        address, runner=tools.runner, environ=os.environ, deadline=context.deadline()
    )
    tools.redactor.learn([login.password, login.auth, login.config])
    return PullSecret(name=_name_of(request), registry=address, config=login.config)


class PullSecretPlaces:
    """The namespaces in which the pods of one service need the Secret; each gets it once.

    Args:
        pull: The Secret; None if none is wanted.
        kube: The cluster.
        deadline: When to give up.
    """

    def __init__(self, pull: PullSecret | None, kube: Kube, deadline: Deadline) -> None:
        self._pull = pull
        self._kube = kube
        self._deadline = deadline
        self._have: set[str] = set()

    def serve(self, obj: KubeObject, namespace: str) -> None:
        """Apply the Secret where pods of an object need it, before the object itself.

        Args:
            obj: As it is to be applied.
            namespace: Where it goes if it names none.

        Raises:
            KindInfraError: The API server refused the Secret.
        """
        pull = self._pull
        if pull is None or not pull.config or not runs_images_of(obj, pull.registry):
            return  # who only names the Secret leaves the existing one
        place = str((obj.get("metadata") or {}).get("namespace") or namespace)
        if place not in self._have:
            self._kube.apply(_object_of(pull), namespace=place, deadline=self._deadline)
            self._have.add(place)


def _registry_of(plan: Plan, request: Request) -> str:
    """Return the registry for which pods need the Secret; empty where none is wanted."""
    existing = request.existing
    pulls = existing is not None and not existing.nodes
    return (request.image_registry or "") if pulls and plan.declaration.pull_secret else ""


def _name_of(request: Request) -> str:
    return f"kindinfra-pull-{in_names(request.label_id)}"


def _object_of(pull: PullSecret) -> KubeObject:
    """Return the object (kubernetes.io, "Pull an Image from a Private Registry")."""
    data = base64.b64encode(pull.config.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": pull.name},
        "data": {".dockerconfigjson": data},
    }


def _will_pull(plan: Plan, service: Service, obj: KubeObject, registry: str) -> bool:
    """Whether pods of an object as written will run images of the registry."""
    images = {one.name: one.prebuilt or f"{registry}/{one.name}" for one in plan.images}
    uses = plan.image_uses.get(service.name, {})
    made = rewrite(
        obj,
        images={reference: images[name] for reference, name in uses.items()},
        placeholders=images,
        namespace=None,
        labels={},
    )
    return runs_images_of(made, registry)
