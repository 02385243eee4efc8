"""The images' lines: built as soon as their bases are, loaded as soon as they are built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pytest_kindinfra.context import SUBJECT, needed
from pytest_kindinfra.model import ImagesInUse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future, ThreadPoolExecutor

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.model import BuiltImage, Service
    from pytest_kindinfra.run.cluster import ClusterLine


class Building(Protocol):
    """Where images come from: `Builds`, or what was built before."""

    @property
    def built(self) -> Mapping[str, Future[BuiltImage]]:
        """Name to the image, as soon as the engine has it."""
        ...

    def begin(self, pool: ThreadPoolExecutor, ready: Future[Any]) -> None:
        """Begin, once there is an engine."""
        ...


class ImageLines:
    """All images of a run on their way into the kind nodes."""

    def __init__(
        self, context: Context, cluster: ClusterLine, builds: Building, pool: ThreadPoolExecutor
    ) -> None:
        self._context = context
        self._cluster = cluster
        # Those that need no build go first: they can be on their way while others are built.
        self._external = {ref: pool.submit(self._load_external, ref) for ref in external(context)}
        self._built = builds.built
        builds.begin(pool, cluster.checked)
        used = {name for service in context.plan.services for name in service.images}
        self._loaded = {name: pool.submit(self._load, name) for name in sorted(used)}

    def of(self, service: Service) -> ImagesInUse:
        """Wait until the kind nodes have what a service runs; say what references become.

        Raises:
            BlockedError: An image failed.
        """
        uses = self._context.plan.image_uses.get(service.name, {})
        foreign = self._context.plan.external.get(service.name, ())
        found = {ref: needed(f'image "{ref}"', self._external[ref]) for ref in foreign}
        there = {ref: name for ref, name in found.items() if name}
        others = {ref: name for ref, name in there.items() if name != ref}
        return ImagesInUse(
            written={**others, **{ref: self._loaded_as(name) for ref, name in uses.items()}},
            loaded=frozenset(ref for ref, name in there.items() if name == ref),
            declared={name: self._loaded_as(name) for name in service.images},
        )

    def _loaded_as(self, name: str) -> str:
        return needed(f'image "{name}"', self._loaded[name])

    def _load(self, name: str) -> str:
        built = needed(f'image "{name}"', self._built[name])
        loader = needed(SUBJECT, self._cluster.loader)
        loader.more_come = self._are_being_built
        runs = loader.load(name, built.reference, self._context.deadline())
        if runs != built.reference:
            self._context.run.write(f"runs-as-{name}", {"reference": runs})
        return runs

    def _are_being_built(self) -> bool:
        return not all(future.done() for future in self._built.values())

    def _load_external(self, reference: str) -> str | None:
        """Load it if the engine has it, and return what pods run; else kind nodes may pull it."""
        needed("the set-up", self._cluster.checked)
        if not self._context.tools.engine.image_ids([reference], self._context.deadline()):
            return None
        loader = needed(SUBJECT, self._cluster.loader)
        return loader.load(reference, reference, self._context.deadline())


def external(context: Context) -> tuple[str, ...]:
    """Return the references in manifests that no declared image means, each once."""
    used = (reference for references in context.plan.external.values() for reference in references)
    return tuple(dict.fromkeys(used))
