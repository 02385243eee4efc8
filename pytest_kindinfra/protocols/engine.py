"""What an engine can do, and what it says of images and of itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One image to build.

    Attributes:
        name: The declared name.
        reference: What to tag the result.
        context: The build context.
        dockerfile: The Dockerfile; an ignore file `NAME.dockerignore` next to it applies.
        target: The stage, None for the last.
        build_args: Name to value.
        unshown: Names of build arguments whose values belong into no command.
        contexts: Named contexts: the name in FROM to the reference of an image.
        options: Further flags.
        bases: The other images that it starts from, as the Dockerfile names them.
        folder: Where relative paths in `options` start; None means the current folder.
        source: The Dockerfile that the user wrote, for messages; None means `dockerfile`.
        cache_to: Where its build cache goes, which has a say in the choice of a builder.
        exports: Export that cache and no image; a build does not export it.
    """

    name: str
    reference: str
    context: Path
    dockerfile: Path
    target: str | None
    build_args: dict[str, str]
    unshown: frozenset[str]
    contexts: dict[str, str]
    options: tuple[str, ...]
    bases: tuple[str, ...] = ()
    folder: Path | None = None
    source: Path | None = None
    cache_to: tuple[str, ...] = ()
    exports: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnImage:
    """An image that the engine has and that was built by us.

    Attributes:
        name: The declared name that it was built under.
        references: All its names.
        since: When it was made or last named, in seconds since the epoch.
    """

    name: str
    references: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContent:
    """What an image holds.

    Attributes:
        digest: A hash of its layers, its configuration and its platform, in hexadecimal. Times of
            creation do not count, and it is the same in each engine and image store.
        names: All references that the engine has for it.
    """

    digest: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSize:
    """How large an image is.

    Attributes:
        size: Bytes, of all its layers.
        layers: What names its layers.
    """

    size: int
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What `kindinfra doctor` found of one thing.

    Attributes:
        state: `missing` is what no cluster comes up without, `warning` what may be in the way.
        what: The thing.
        said: What is known of it.
        fix: What to do about it; empty for what is well.
    """

    state: Literal["ok", "warning", "missing"]
    what: str
    said: str
    fix: str = ""

    @property
    def lines(self) -> list[str]:
        """Return the lines that show it."""
        head = f"{self.state:<8} {self.what:<12} {self.said}"
        return [head, f"{'':<8} {'':<12} To fix: {self.fix}"] if self.fix else [head]

    @property
    def record(self) -> dict[str, str]:
        """The same for JSON."""
        return asdict(self)


class Engine(Protocol):
    """Builds and exports images."""

    @property
    def name(self) -> str:
        """What the user calls it, its program, and what kind calls it: `docker`, `podman`."""
        ...

    @property
    def runs_registries(self) -> bool:
        """Whether images can go through a registry in a container of the engine."""
        ...

    @property
    def stops_slowly(self) -> bool:
        """Whether it waits for kind nodes to end, so that deletion has to kill them first."""
        ...

    def check(self, deadline: Deadline) -> str:
        """Return the engine's version.

        Raises:
            NothingHereError: It is not installed, or no process listens on its local socket.
            EngineError: It is there, but refused, did not answer in time, or is too old.
        """
        ...

    def disk_root(self, environ: Mapping[str, str]) -> Path | None:
        """Return the folder of this host where it keeps all it has; None if that is unknown.

        Args:
            environ: The environment, which may lead to another engine.
        """
        ...

    def host_problem(self, environ: Mapping[str, str]) -> str | None:
        """Return a sentence if it is on another host, where tests cannot reach a cluster.

        Args:
            environ: The environment, which may lead to another engine.
        """
        ...

    def examine(self, deadline: Deadline) -> Iterator[Finding]:
        """Yield what `kindinfra doctor` says of it and of what it needs; the first is itself."""
        ...

    def foreign_options(self, options: Sequence[str]) -> tuple[str, ...]:
        """Return those of the flags of `docker buildx build` that it cannot take."""
        ...

    def shares_images(self, builder: str, deadline: Deadline) -> bool:
        """Return whether a builder sees the images that the engine has.

        Raises:
            KindInfraError: There is no such builder, or the engine has none but its own.
        """
        ...

    def image_ids(self, references: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """Return the ids of those images that the engine has, by reference as given."""
        ...

    def image_contents(
        self, references: Sequence[str], deadline: Deadline
    ) -> dict[str, ImageContent]:
        """Return what those images hold that the engine has, by reference as given."""
        ...

    def image_sizes(self, references: Sequence[str], deadline: Deadline) -> dict[str, ImageSize]:
        """Return the sizes of those images that the engine has, by reference as given."""
        ...

    def build(self, request: BuildRequest, *, deadline: Deadline, log: Path) -> None:
        """Build and tag one image; what the build prints goes to `log` as it comes.

        Raises:
            CommandError: The build failed.
        """
        ...

    def load(self, archive: Path, deadline: Deadline) -> str:
        """Take the one image of an archive, and return its name or id.

        Raises:
            CommandError: The engine cannot read it.
            KindInfraError: It holds several images, or none.
        """
        ...

    def tag(self, reference: str, name: str, deadline: Deadline) -> None:
        """Give an image another name; whatever had that name before loses it.

        Raises:
            CommandError: There is no such image, or it cannot have that name.
        """
        ...

    def save(self, reference: str, archive: Path, deadline: Deadline) -> None:
        """Write an archive with one image, in place of an existing file.

        Raises:
            CommandError: There is no such image, or it could not be written.
        """
        ...

    def pull(self, reference: str, deadline: Deadline) -> None:
        """Pull an image from the registry that its reference names.

        Raises:
            CommandError: The registry cannot be reached, does not have it, or refuses; names the
                remedy.
        """
        ...

    def push(self, name: str, deadline: Deadline) -> str:
        """Push an image to the registry that its name begins with; return what was printed.

        Raises:
            CommandError: There is no such image, or the registry does not take it.
        """
        ...

    def digest_of(self, name: str, deadline: Deadline) -> str | None:
        """Return the digest by which a registry has an image; None if it does not have it.

        Args:
            name: `REGISTRY/NAME:TAG`; the engine's own configuration has the credentials.
            deadline: When to give up.

        Raises:
            CommandError: The registry cannot be reached, or refuses; names the remedy.
            EngineError: The engine cannot ask registries.
        """
        ...

    def own_images(self, deadline: Deadline) -> list[OwnImage]:
        """Return the images with our label.

        Raises:
            CommandError: The engine did not say.
        """
        ...

    def remove(self, reference: str, deadline: Deadline) -> None:
        """Take a name from an image, and remove the image if that was its last one.

        Raises:
            CommandError: A container uses it.
        """
        ...

    def save_command(self, references: Sequence[str]) -> tuple[str, ...]:
        """Return the command that prints an archive of these images."""
        ...
