"""How images come to pods: sent to the kind nodes, or pulled by nodes from a registry.

Where the registry of images is a container of this host's engine, kind nodes pull from it. From
any other, which may ask for credentials that kind nodes do not have, the engine pulls what it has
not built, and the image is loaded as all others are. A cluster that is not of this host pulls
everything itself.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.engines.registry import open_registry
from pytest_kindinfra.errors import ClusterError, KindInfraError
from pytest_kindinfra.images.checks import unseen_bases
from pytest_kindinfra.images.registry import PullSender, RegistrySender
from pytest_kindinfra.images.store import ImageStore, open_store
from pytest_kindinfra.images.stream import Sender
from pytest_kindinfra.references import is_loopback
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.context import Context, Request
    from pytest_kindinfra.images.load import Sending
    from pytest_kindinfra.model import BuiltImage, Plan
    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.protocols.registry import Registry


_LOOK_SECONDS = 30.0
"""For a look at the registry and at the builder, before a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """The registries in containers of this host that kind nodes pull from.

    Attributes:
        load: The one that images are loaded through, None if they are not.
        images: The registry of images, None if it is no container of this host.
        store: Fetches what only the registry of images has; None without such a registry.
    """

    load: Registry | None = None
    images: Registry | None = None
    store: ImageStore | None = None

    @property
    def announced(self) -> Registry | None:
        """The one that the cluster names to tools."""
        return self.load or self.images


def open_registries(context: Context) -> Registries:
    """Return the registries that kind nodes are to pull from, once they answer.

    Raises:
        ClusterError: One that images are to be loaded through cannot be used.
    """
    store = open_store(context)
    return Registries(load=_for_loads(context), images=_of_images(context), store=store)


def _for_loads(context: Context) -> Registry | None:
    if context.request.load != "registry":
        return None
    return open_registry(
        context.tools.registries,
        address=context.request.registry,
        cache=context.request.cache,
        run=context.run.path,
        say=context.hooks.say,
        deadline=context.deadline(),
    )


def _of_images(context: Context) -> Registry | None:
    host = (context.request.image_registry or "").partition("/")[0]
    if is_loopback(host):
        with suppress(ClusterError):  # it is no container: images are loaded
            return context.tools.registries.find(host, context.deadline())
    return None


def sender_of(context: Context, registries: Registries) -> Sending | None:
    """Return how images get into kind nodes, None for the way by the run's options."""
    tools, folder = context.tools, context.run.path
    others: Sending | None = None
    if registries.load:
        others = RegistrySender(
            registries.load,
            host=tools.registries,
            engine=tools.engine,
            kind_nodes=tools.kind_nodes,
            folder=folder,
        )
    if registries.images is None:
        return others
    plain = Sender(
        engine=tools.engine,
        kind_nodes=tools.kind_nodes,
        runner=tools.runner,
        how=context.request.load,
    )
    return PullSender(
        others or plain,
        registries.images,
        address=context.request.image_registry or "",
        host=tools.registries,
        kind_nodes=tools.kind_nodes,
        folder=folder,
    )


def as_loaded(registries: Registries, image: BuiltImage) -> str:
    """Return the reference by which an image is loaded, which its sender has or can pull.

    Raises:
        CommandError: The engine lacks the image, and could not pull it.
    """
    if image.pushed and registries.images:
        return image.pushed
    return registries.store.fetch(image).reference if registries.store else image.reference


def problems_of_supply(
    plan: Plan, request: Request, settings: Settings, engine: Engine
) -> Iterator[str]:
    """Yield why images cannot be looked up in the registry, or not be built by the builder."""
    yield from _problems_of_registry(plan, request, settings, engine)
    yield from _problems_of_builder(plan, request, settings, engine)


def _problems_of_registry(
    plan: Plan, request: Request, settings: Settings, engine: Engine
) -> Iterator[str]:
    """Yield why images cannot be looked up in the registry of images, which is asked for one."""
    made = [image.name for image in plan.images if image.prebuilt is None]
    if (address := request.image_registry) is None or not made:
        return
    where = settings.sources.get("registry", "[images] registry")
    if not engine.runs_registries:
        yield f"{where}: a registry of images needs Docker, but the engine is {engine.name}"
        return
    store = ImageStore(address, engine, lambda: Deadline.after(_LOOK_SECONDS))
    if problem := store.problem(made[0]):
        yield f'{where}: "{address}" cannot be used: {problem}'


def _problems_of_builder(
    plan: Plan, request: Request, settings: Settings, engine: Engine
) -> Iterator[str]:
    """Yield why a builder cannot build the images: it is unknown, or does not see their bases."""
    if (name := request.builder) is None or request.no_build or not plan.images:
        return
    where = settings.sources.get("builder", "[images] builder")
    pushed = request.image_registry is not None
    try:
        if not engine.shares_images(name, Deadline.after(_LOOK_SECONDS)):
            yield from (f"{where}: {one}" for one in unseen_bases(plan.images, name, pushed=pushed))
    except KindInfraError as error:
        yield f"{where}: {error}"
