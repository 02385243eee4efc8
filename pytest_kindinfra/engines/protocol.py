"""What this project asks of a container engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindinfra.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One image to build.

    Attributes:
        name: The declared name.
        reference: What to tag the result.
        context: The build context.
        dockerfile: The Dockerfile; an ignore file `NAME.dockerignore` beside it applies.
        target: The stage, None for the last.
        build_args: Name to value.
        unshown: Names of build arguments whose values belong into no command.
        contexts: Named contexts: the name in FROM to the reference of an image.
        options: Further flags.
        bases: The other images that it starts from, as the Dockerfile names them.
        folder: Where relative paths in `options` start; None means the current folder.
        source: The Dockerfile that the user wrote, for messages; None means `dockerfile`.
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
class ImageSize:
    """How large an image is.

    Attributes:
        size: Bytes, of all its layers.
        layers: What names its layers.
    """

    size: int
    layers: tuple[str, ...]


class Engine(Protocol):
    """Builds and exports images."""

    @property
    def name(self) -> str:
        """What the user calls it and its program: `docker` or `podman`."""
        ...

    def check(self, deadline: Deadline) -> str:
        """Return the engine's version.

        Raises:
            NothingHereError: It is not installed, or nobody listens on its local socket.
            EngineError: It is there, but refused, did not answer in time, or is too old.
        """
        ...

    def foreign_options(self, options: Sequence[str]) -> tuple[str, ...]:
        """Return those of the flags of `docker buildx build` that it cannot take."""
        ...

    def image_ids(self, references: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """Return the ids of those images that the engine has, by reference as given."""
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
        """Write an archive with one image, in place of what is there.

        Raises:
            CommandError: There is no such image, or it could not be written.
        """
        ...

    def push(self, name: str, deadline: Deadline) -> str:
        """Push an image to the registry that its name begins with; return what was printed.

        Raises:
            CommandError: There is no such image, or the registry does not take it.
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
