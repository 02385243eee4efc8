"""A registry that images are looked up in by what they are built from, and pushed to.

An image is called there as in the engine: `REGISTRY/NAME:CONTENT` by what it holds, and
`REGISTRY/NAME:ctx-CONTEXT-PLATFORM` by what it was built from. The latter answers whether it must
be built, on any machine; pods get `REGISTRY/NAME@DIGEST`. The engine asks, pushes and pulls, so
that credentials stay in its configuration.
"""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.images.bases import target_platform
from pytest_kindinfra.images.names import find_by_context, give_names
from pytest_kindinfra.images.registry import pushed_digest, pushed_layers
from pytest_kindinfra.references import split
from pytest_kindinfra.system.timeline import Deadline, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.model import BuiltImage, Image
    from pytest_kindinfra.protocols.engine import Engine


_FOREIGN = re.compile(r"[^\w.-]+", re.ASCII)


_TIDIES_IN = 10.0


_PROBE = "ctx-0000000000000000"
"""A tag that no image has."""


class ImageStore:
    """A registry of images; safe from several threads.

    Args:
        address: `HOST[:PORT][/PREFIX]`.
        engine: Asks, pushes and pulls.
        deadline: Makes the deadline of a piece of work that begins now.
        timeline: Gets a phase for each push.
    """

    def __init__(
        self,
        address: str,
        engine: Engine,
        deadline: Callable[[], Deadline],
        timeline: Timeline | None = None,
    ) -> None:
        self._address = address
        self._engine = engine
        self._deadline = deadline
        self._timeline = timeline or Timeline()
        # One after another: Docker would send a layer that two images share twice.
        self._pushing = threading.Lock()
        self._lacking: set[str] = set()

    def problem(self, image: str) -> str | None:
        """Return why the registry cannot be asked for an image of that name, None if it can."""
        try:
            self._engine.digest_of(f"{self._address}/{image}:{_PROBE}", self._deadline())
        except KindInfraError as error:
            return str(error)
        return None

    def find(self, image: Image, contexts: Iterable[str]) -> str | None:
        """Return `REGISTRY/NAME@DIGEST` of an image, None if the registry does not have it.

        Args:
            image: What was declared.
            contexts: Its names in the engine by what it is built from.

        Raises:
            CommandError: The registry did not answer, or refused.
        """
        for name in self._names(image, contexts):
            if digest := self._engine.digest_of(name, self._deadline()):
                return f"{self._address}/{image.name}@{digest}"
            self._lacking.add(name)
        return None

    def keep(self, image: Image, built: BuiltImage, *, anew: bool = False) -> BuiltImage:
        """Have the registry hold an image that the engine has, and return it with its name there.

        Args:
            image: What was declared.
            built: What the engine has.
            anew: Push it whatever the registry has.

        Raises:
            CommandError: It could not be pushed.
            KindInfraError: The engine did not say under which digest it was pushed.
        """
        if built.pushed or not built.contexts:  # a prebuilt one has a registry of its own
            return built
        with self._pushing, self._timeline.span("push", image.name) as span:
            there = None if anew or self._lacks(image, built) else self.find(image, built.contexts)
            span.counts = there is None  # another machine was quicker
            if there is None:
                there, span.note = self._push_all(image, built)
        return replace(built, pushed=there)

    def _lacks(self, image: Image, built: BuiltImage) -> bool:
        """Whether it was just asked for an image that needed no build, and does not have it."""
        return built.cached and self._lacking.issuperset(self._names(image, built.contexts))

    def _push_all(self, image: Image, built: BuiltImage) -> tuple[str, str]:
        """Push an image under all its names; return its name by digest, and how much was pushed.

        The names that are asked for come last, when the rest is there.
        """
        names = [f"{self._address}/{image.name}:{split(built.reference)[1]}"]
        names += self._names(image, built.contexts)
        printed = [self._push(built.reference, name) for name in names]
        digest = pushed_digest(printed[-1]) or self._engine.digest_of(names[-1], self._deadline())
        if digest is None:
            msg = f'"{names[-1]}" was pushed, but the registry does not have it'
            raise KindInfraError(msg)
        return f"{self._address}/{image.name}@{digest}", pushed_layers(printed[0]).note

    def fetch(self, built: BuiltImage) -> BuiltImage:
        """Have the engine hold an image that only the registry has; named there as if built there.

        Raises:
            CommandError: It could not be pulled.
        """
        if built.reference != built.pushed or not built.contexts:
            return built
        deadline = self._deadline()
        reference = find_by_context(self._engine, built.name, built.contexts[::-1], deadline)
        if reference is None:
            self._engine.pull(built.pushed, deadline)
            reference = give_names(self._engine, built.name, built.pushed, built.contexts, deadline)
            self._forget(built.pushed)
        return replace(built, reference=reference)

    def _names(self, image: Image, contexts: Iterable[str]) -> Iterator[str]:
        platform = _FOREIGN.sub("-", target_platform(image))
        for context in dict.fromkeys(contexts):
            yield f"{self._address}/{image.name}:{split(context)[1]}-{platform}"

    def _push(self, reference: str, name: str) -> str:
        """Push under a name that the engine has for that long only, or `gc --images` would fail."""
        self._engine.tag(reference, name, self._deadline())
        try:
            return self._engine.push(name, self._deadline())
        finally:
            self._forget(name)

    def _forget(self, name: str) -> None:
        with suppress(CommandError):  # also when the run is ending
            self._engine.remove(name, Deadline.after(_TIDIES_IN))


def open_store(context: Context) -> ImageStore | None:
    """Return the registry of a run's images, None without one."""
    address = context.request.image_registry
    tools = context.tools
    return ImageStore(address, tools.engine, context.deadline, tools.timeline) if address else None
