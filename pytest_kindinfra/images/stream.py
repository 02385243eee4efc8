"""Send archives of images into kind nodes, without the layers that a node has already."""

from __future__ import annotations

import json
import re
import secrets
import tarfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.references import has_digest, name_in_node
from pytest_kindinfra.system.timeline import Deadline, retry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.model import Load
    from pytest_kindinfra.protocols.cluster import KindNodes
    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.system.pipes import Sink
    from pytest_kindinfra.system.runner import Runner


_CHUNK = 1 << 20


_BLOB = re.compile(r"blobs/(\w+)/([0-9a-f]+)")


_DESCRIPTION = "manifest.json"


_END = bytes(2 * tarfile.BLOCKSIZE)


class DeltaCopy:
    """Copies an archive to several sinks, to each without the blobs that it holds.

    Attributes:
        sizes: Digests of all blobs in the archive, as far as it was read, to their bytes.
        size: Bytes of the archive, as far as it was read.
    """

    def __init__(self, present: Sequence[frozenset[str]]) -> None:
        """Take for each sink, in their order, the digests that it holds."""
        self._present = present
        self.sizes: dict[str, int] = {}
        self.size = 0
        self._described = b""

    def __call__(self, source: IO[bytes], sinks: Sequence[Sink]) -> None:
        """Read `source` and write to `sinks`.

        Raises:
            tarfile.ReadError: It is no archive, or ends too early.
        """
        with tarfile.open(fileobj=source, mode="r|", bufsize=_CHUNK) as archive:
            for member in archive:
                self._copy(archive, member, sinks)
        self.size += len(_END)
        _write(sinks, _END)

    def layers(self) -> dict[str, dict[str, int]]:
        """Return the name of each image in the archive to its layers, digest to bytes.

        An archive that does not say so, or not in Docker's words, has none.
        """
        try:
            described = json.loads(self._described or b"[]")
            return {
                name: {
                    digest: self.sizes[digest]
                    for path in one["Layers"]
                    if (digest := _digest_in(path)) in self.sizes
                }
                for one in described
                for name in one["RepoTags"] or ()
            }
        except (ValueError, LookupError, TypeError):
            return {}

    def _copy(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, sinks: Sequence[Sink]
    ) -> None:
        """Copy one file; unwanted content is skipped unread."""
        digest = _digest(member)
        wanted = [
            sink
            for sink, present in zip(sinks, self._present, strict=True)
            if digest is None or digest not in present
        ]
        self.size += tarfile.BLOCKSIZE + _padded(member.size)
        _write(wanted, member.tobuf(tarfile.GNU_FORMAT))
        if wanted and (content := archive.extractfile(member) if member.isreg() else None):
            while chunk := content.read(_CHUNK):
                _write(wanted, chunk)
                if member.name == _DESCRIPTION:
                    self._described += chunk
            _write(wanted, bytes(_padded(member.size) - member.size))
        if digest:
            self.sizes[digest] = member.size


def _digest(member: tarfile.TarInfo) -> str | None:
    """Return the digest of the blob that a file of the archive is."""
    return _digest_in(member.name) if member.isreg() else None


def _digest_in(name: str) -> str | None:
    """Return `sha256:0f1e...` of `blobs/sha256/0f1e...`."""
    found = _BLOB.fullmatch(name)
    return f"{found[1]}:{found[2]}" if found else None


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _write(sinks: Sequence[Sink], data: bytes) -> None:
    for sink in sinks:
        sink.write(data)


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
            went in whole archives, which were not inspected.
    """

    def __init__(
        self, *, engine: Engine, kind_nodes: KindNodes, runner: Runner, how: Load = "auto"
    ) -> None:
        self._engine = engine
        self._kind_nodes = kind_nodes
        self._runner = runner
        self._how: Load = how
        self._present: dict[str, frozenset[str]] = {}
        self._copy: DeltaCopy | None = None
        self.layers: dict[str, dict[str, int]] = {}

    def passed(self) -> int:
        """See `Sending.passed`; 0 for a whole archive, which is not counted."""
        copy = self._copy
        return copy.size if copy else 0

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
        deltas = iter(tries)
        try:
            return retry(
                lambda: self._try(names, nodes, deadline, delta=next(deltas)),
                tries=len(tries),
                on=CommandError,
                between=lambda error: self._before_another(error, deadline),
            )
        except CommandError:
            self._present.clear()
            self._forget((*names, *names.values()), nodes)
            raise

    def _before_another(self, error: CommandError, deadline: Deadline) -> None:
        """Raise an error that will come again; else wait, unless the next try sends more."""
        if _is_hopeless(error):
            raise error
        self._present.clear()
        if not _LACKS_CONTENT.search(error.output):
            deadline.pause(_PAUSE)

    def _try(
        self,
        names: dict[str, str],
        nodes: tuple[str, ...],
        deadline: Deadline,
        *,
        delta: bool,
    ) -> Volume:
        copy = DeltaCopy([self._present_in(node, deadline) for node in nodes]) if delta else None
        self._copy = copy
        sent = self._runner.pipe(
            self._engine.save_command(tuple(names.values())),
            [self._kind_nodes.import_command(node) for node in nodes],
            deadline=deadline,
            what=f"loading {', '.join(names)} into {', '.join(nodes)}",
            copy=copy,
        )
        for node in nodes:
            self._name_by_digest(node, names, deadline)
        if copy is None:
            return Volume(sum(sent), sum(sent))
        for node in nodes:
            self._present[node] |= copy.sizes.keys()
        called = {name: reference for reference, name in names.items()}
        self.layers |= {called.get(name, name): found for name, found in copy.layers().items()}
        return Volume(sum(sent), copy.size * len(nodes))

    def _name_by_digest(self, node: str, names: dict[str, str], deadline: Deadline) -> None:
        """Give images the names by which pods ask for them, in addition to those of the archive.

        Those stay: of several names containerd's CRI takes one with a tag first, and it does not
        find the one without that `ctr images import --digests` makes (`import-DATE@DIGEST`).
        """
        for reference, name in names.items():
            if name != reference:
                self._kind_nodes.name_image(node, name, reference, deadline)

    def _present_in(self, node: str, deadline: Deadline) -> frozenset[str]:
        if node not in self._present:
            self._present[node] = self._kind_nodes.blobs_in(node, deadline)
        return self._present[node]

    def _forget(self, references: tuple[str, ...], nodes: tuple[str, ...]) -> None:
        """Have no kind node list what it may not have whole, or a later load would skip it."""
        for node in nodes:
            with suppress(KindInfraError):  # also when the time is up
                self._kind_nodes.forget_images(node, references, Deadline.after(_TIDIES_IN))


def _is_hopeless(error: CommandError) -> bool:
    return error.exit_code is None or bool(_HOPELESS.search(error.output))
