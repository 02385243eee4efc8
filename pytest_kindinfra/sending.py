"""One stream from the engine into kind nodes: the smallest first, a whole archive if that fails.

A kind node's content store is asked once what it holds; what was sent to it since is remembered,
and forgotten at the first failure. See docs/decisions/0012.
"""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.archive import DeltaCopy
from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.references import has_digest, name_in_node
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Load
    from pytest_kindinfra.process import Runner

# Whether each try leaves out what a kind node holds. Loads fail now and then for no reason, once
# in 30,000 in one project's CI (kind#921, istio#18027), so there is more than one.
_TRIES: dict[Load, tuple[bool, ...]] = {
    "auto": (True, False, False),
    "archive": (False, False, False),
    "delta": (True, True, True),
}
_FOR_A_LOAD = "localhost/kindinfra-load"
_PAUSE = 1.0
_TIDIES_IN = 10.0
_LACKS_CONTENT = re.compile(r"content digest \w+:[0-9a-f]+: not found")
_HOPELESS = re.compile(
    "no space left on device|no such (image|container)|reference does not exist"
    "|not present locally|is not running|cannot connect to the docker daemon",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Volume:
    """How much a load took.

    Attributes:
        sent: Bytes that went to all kind nodes together.
        whole: Bytes that whole archives would have been.
    """

    sent: int
    whole: int

    @property
    def note(self) -> str:
        """`3 of 263 MB`, or `263 MB` if all of it was sent."""
        sent, whole = (f"{number / 1_000_000:.0f}" for number in (self.sent, self.whole))
        return f"{whole} MB" if sent == whole else f"{sent} of {whole} MB"


class Sender:
    """Sends images to kind nodes; one stream at a time.

    Attributes:
        layers: The name of each image that was sent to its layers, digest to bytes; without what
            went in whole archives, which nobody looked into.
    """

    def __init__(
        self, *, engine: Engine, provider: Provider, runner: Runner, how: Load = "auto"
    ) -> None:
        self._engine = engine
        self._provider = provider
        self._runner = runner
        self._how: Load = how
        self._held: dict[str, frozenset[str]] = {}
        self.layers: dict[str, dict[str, int]] = {}

    def listed_as(self, reference: str, deadline: Deadline) -> str:
        """See `Sending.listed_as`."""
        return name_in_node(self.name_of(reference, deadline))

    def name_of(self, reference: str, deadline: Deadline) -> str:  # noqa: ARG002 - others ask
        """Return what pods run in place of `reference`: in an archive it keeps its name."""
        return reference

    def send(
        self, references: tuple[str, ...], nodes: tuple[str, ...], deadline: Deadline
    ) -> Volume:
        """Return when all of `nodes` have all images.

        Raises:
            CommandError: It failed three times, or for a reason that stays. The kind nodes then
                list none of these images, of which they may have parts.
            CancelledError: The run is ending.
        """
        with self._named(references, deadline) as names:
            return self._send(names, nodes, deadline)

    @contextmanager
    def _named(self, references: tuple[str, ...], deadline: Deadline) -> Iterator[dict[str, str]]:
        """Give each reference the name that its image has in the archive, for that long.

        An archive has no names with digests, so an image that is asked for by one gets a tag.
        """
        made: dict[str, str] = {}
        try:
            for reference in filter(has_digest, references):
                made[reference] = f"{_FOR_A_LOAD}:{secrets.token_hex(8)}"
                self._engine.tag(reference, made[reference], deadline)
            yield {reference: made.get(reference, reference) for reference in references}
        finally:
            for name in made.values():
                with suppress(KindInfraError):  # also when the run is ending
                    self._engine.remove(name, Deadline.after(_TIDIES_IN))

    def _send(self, names: dict[str, str], nodes: tuple[str, ...], deadline: Deadline) -> Volume:
        tries = _TRIES[self._how]
        for number, delta in enumerate(tries, start=1):
            try:
                return self._try(names, nodes, deadline, delta=delta)
            except CommandError as error:
                self._held.clear()
                if number == len(tries) or _is_hopeless(error):
                    self._forget((*names, *names.values()), nodes)
                    raise
                if not _LACKS_CONTENT.search(error.output):
                    deadline.pause(_PAUSE)
        raise AssertionError  # the last try returns or raises

    def _try(
        self,
        names: dict[str, str],
        nodes: tuple[str, ...],
        deadline: Deadline,
        *,
        delta: bool,
    ) -> Volume:
        copy = DeltaCopy([self._held_by(node, deadline) for node in nodes]) if delta else None
        sent = self._runner.pipe(
            self._engine.save_command(tuple(names.values())),
            [self._provider.import_command(node) for node in nodes],
            deadline=deadline,
            what=f"loading {', '.join(names)} into {', '.join(nodes)}",
            copy=copy,
        )
        for node in nodes:
            self._name_by_digest(node, names, deadline)
        if copy is None:
            return Volume(sum(sent), sum(sent))
        for node in nodes:
            self._held[node] |= copy.sizes.keys()
        called = {name: reference for reference, name in names.items()}
        self.layers |= {called.get(name, name): found for name, found in copy.layers().items()}
        return Volume(sum(sent), copy.size * len(nodes))

    def _name_by_digest(self, node: str, names: dict[str, str], deadline: Deadline) -> None:
        """Give images the names by which pods ask for them, beside those of the archive.

        Those stay: of several names containerd's CRI takes one with a tag first, and it does not
        find the one without that `ctr images import --digests` makes (`import-DATE@DIGEST`).
        """
        for reference, name in names.items():
            if name != reference:
                self._provider.name_image(node, name, reference, deadline)

    def _held_by(self, node: str, deadline: Deadline) -> frozenset[str]:
        if node not in self._held:
            self._held[node] = self._provider.blobs_in(node, deadline)
        return self._held[node]

    def _forget(self, references: tuple[str, ...], nodes: tuple[str, ...]) -> None:
        """Have no kind node list what it may not have whole, or a later load would skip it."""
        for node in nodes:
            with suppress(KindInfraError):  # also when the time is up
                self._provider.forget_images(node, references, Deadline.after(_TIDIES_IN))


def _is_hopeless(error: CommandError) -> bool:
    return error.exit_code is None or bool(_HOPELESS.search(error.output))
