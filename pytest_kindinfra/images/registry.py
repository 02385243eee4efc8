"""Images on their way through a registry: pushed once, pulled by each kind node.

Only layers that the registry lacks are pushed, and only those that a kind node lacks are pulled.
Pods run the name that an image has in the registry, so a kind node that lost it pulls it again.
The name has a digest: any process on this host can push to a registry without a password.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.engines.registry import pushed_name
from pytest_kindinfra.errors import ClusterError, CommandError, KindInfraError
from pytest_kindinfra.references import by_digest, has_digest, name_in_node
from pytest_kindinfra.system.timeline import Deadline, retry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.images.load import Sending, Sent
    from pytest_kindinfra.protocols.cluster import KindNodes
    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.protocols.registry import Registry, RegistryHost


_TRIES = 3


_PAUSE = 1.0


_TIDIES_IN = 10.0


_LAYER = re.compile(r"^\w+: (Pushed|Layer already exists|Mounted from .*)\s*$", re.MULTILINE)
"""What Docker says of each layer in the end (moby, distribution/push_v2.go)."""


_DIGEST = re.compile(r"^\S+: digest: (sha256:[0-9a-f]{64}) size: \d+\s*$", re.MULTILINE)
"""What Docker says of the manifest that it pushed, computed by itself."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """How much of images had to be pushed: layers, of how many in all."""

    layers: int
    of: int
    sent: int | None = None

    @property
    def note(self) -> str:
        """`2 of 5 layers pushed`."""
        return f"{self.layers} of {self.of} layers pushed" if self.of else "in the registry"


def pushed_digest(printed: str) -> str | None:
    """Return the digest of the manifest that Docker pushed, by what it printed."""
    found = _DIGEST.search(printed)
    return found[1] if found else None


def pushed_layers(printed: str) -> Pushed:
    """Return how much Docker pushed, by what it printed."""
    layers = _LAYER.findall(printed)
    return Pushed(layers.count("Pushed"), len(layers))


class _Puller:
    """Has kind nodes pull from one registry; opens each to it before the first pull."""

    def __init__(
        self, registry: Registry, *, host: RegistryHost, kind_nodes: KindNodes, folder: Path
    ) -> None:
        self._registry = registry
        self._host = host
        self._kind_nodes = kind_nodes
        self._folder = folder
        self._open: set[str] = set()

    def pull(self, names: list[str], nodes: tuple[str, ...], deadline: Deadline) -> None:
        """Return when all of `nodes` have all images."""
        with ThreadPoolExecutor(len(nodes)) as pool:
            for done in [pool.submit(self._pull, node, names, deadline) for node in nodes]:
                done.result()

    def _pull(self, node: str, names: list[str], deadline: Deadline) -> None:
        if node not in self._open:
            self._host.open_to(node, self._registry, self._folder, deadline)
            self._open.add(node)
        there = self._kind_nodes.images_in(node, deadline)
        for name in names:
            if name not in there:
                _often(partial(self._kind_nodes.pull, node, name, deadline), deadline)


class RegistrySender:
    """Brings images into kind nodes through a registry; one call at a time.

    Attributes:
        layers: Nothing: what Docker packs on its way is not seen here.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        host: RegistryHost,
        engine: Engine,
        kind_nodes: KindNodes,
        folder: Path,
    ) -> None:
        self._registry = registry
        self._host = host
        self._engine = engine
        self._puller = _Puller(registry, host=host, kind_nodes=kind_nodes, folder=folder)
        self._names: dict[str, str] = {}
        self._layers: dict[str, list[str]] = {}
        self.layers: dict[str, dict[str, int]] = {}

    def passed(self) -> int:
        """See `Sending.passed`: the registry's programs do not say."""
        return 0

    def name_of(self, reference: str, deadline: Deadline) -> str:
        """Return what pods run in place of `reference`, pushed by now: `localhost:5001/x:1@DIGEST`.

        Raises:
            KindInfraError: The engine has no such image, or it could not be pushed.
        """
        if reference not in self._names:
            ids = self._engine.image_ids([reference], deadline)
            if reference not in ids:
                msg = f'the engine has no image "{reference}"'
                raise KindInfraError(msg)
            self._names[reference] = self._push(reference, ids[reference], deadline)
        return self._names[reference]

    def listed_as(self, reference: str, deadline: Deadline) -> str:
        """See `Sending.listed_as`."""
        return by_digest(self.name_of(reference, deadline))

    def send(
        self, references: tuple[str, ...], nodes: tuple[str, ...], deadline: Deadline
    ) -> Pushed:
        """Return when all of `nodes` have all images.

        Raises:
            CommandError: One could not be pushed or pulled in three tries.
            CancelledError: The run is ending.
        """
        names = [self.listed_as(reference, deadline) for reference in references]
        layers = [one for ref in references for one in self._layers.pop(ref, ())]
        self._puller.pull(names, nodes, deadline)
        return Pushed(layers.count("Pushed"), len(layers))

    def _push(self, reference: str, image_id: str, deadline: Deadline) -> str:
        """Push an image unless it is there, and return its name with its digest."""
        name = pushed_name(self._registry.address, reference, image_id)
        digest = self._host.digest_of(name, image_id, deadline)
        if digest is None:
            printed = _often(partial(self._push_as, name, reference, deadline), deadline)
            self._layers[reference] = _LAYER.findall(printed)
            digest = pushed_digest(printed) or self._host.digest_of(name, image_id, deadline)
        if digest is None:
            raise ClusterError(self._replaced(name, image_id))
        return f"{name}@{digest}"

    def _replaced(self, name: str, image_id: str) -> str:
        return (
            f'"{name}" in the registry is no longer the image that this run pushed ({image_id}): '
            "another user of this registry pushed a different image under the same name\n"
            f"To fix: docker rm --force --volumes {self._registry.container}, or set another"
            " registry in [cluster]"
        )

    def _push_as(self, name: str, reference: str, deadline: Deadline) -> str:
        """Push under a name that the engine has for that long only, or `gc --images` would fail."""
        self._engine.tag(reference, name, deadline)
        try:
            return self._engine.push(name, deadline)
        finally:
            with suppress(CommandError):  # also when the run is ending
                self._engine.remove(name, Deadline.after(_TIDIES_IN))


@dataclass(frozen=True, slots=True)
class _Pulled:
    """How much a load took of which kind nodes pulled a part."""

    names: int
    rest: Sent | None

    @property
    def sent(self) -> int | None:
        return self.rest.sent if self.rest else None

    @property
    def note(self) -> str:
        pulled = f"{self.names} pulled by the kind nodes"
        return f"{pulled}, {self.rest.note}" if self.rest else pulled


class PullSender:
    """Has kind nodes pull what the registry of images has; sends other images in another way.

    Args:
        others: That way.
        registry: The registry of images, as its container has it.
        address: What the names of its images begin with.
        host: Opens kind nodes to it.
        kind_nodes: Pull.
        folder: Gets the file that kind nodes are given.

    Attributes:
        layers: See `Sending`; of those that are sent.
    """

    def __init__(
        self,
        others: Sending,
        registry: Registry,
        *,
        address: str,
        host: RegistryHost,
        kind_nodes: KindNodes,
        folder: Path,
    ) -> None:
        self._others = others
        self._address = address
        self._puller = _Puller(registry, host=host, kind_nodes=kind_nodes, folder=folder)
        self.layers = others.layers

    def passed(self) -> int:
        """See `Sending.passed`."""
        return self._others.passed()

    def name_of(self, reference: str, deadline: Deadline) -> str:
        """See `Sending.name_of`."""
        return reference if self._has(reference) else self._others.name_of(reference, deadline)

    def listed_as(self, reference: str, deadline: Deadline) -> str:
        """See `Sending.listed_as`."""
        if self._has(reference):
            return name_in_node(reference)
        return self._others.listed_as(reference, deadline)

    def send(self, references: tuple[str, ...], nodes: tuple[str, ...], deadline: Deadline) -> Sent:
        """See `Sending.send`."""
        names = [name_in_node(one) for one in references if self._has(one)]
        rest = tuple(one for one in references if not self._has(one))
        if names:
            self._puller.pull(names, nodes, deadline)
        return _Pulled(len(names), self._others.send(rest, nodes, deadline) if rest else None)

    def _has(self, reference: str) -> bool:
        return reference.startswith(f"{self._address}/") and has_digest(reference)


def _often(act: Callable[[], str], deadline: Deadline) -> str:
    """Call until it works, three times at most: kind restarts containerd while it boots."""
    return retry(act, tries=_TRIES, on=CommandError, between=lambda _: deadline.pause(_PAUSE))
