"""What the command-line engines share: commands, flags of builds, answers of `inspect`."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import (
    CommandError,
    EngineError,
    KindInfraError,
    NothingHereError,
    ToolMissingError,
)
from pytest_kindinfra.model import IMAGE_LABEL
from pytest_kindinfra.protocols import ImageSize, OwnImage

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.protocols import BuildRequest
    from pytest_kindinfra.system.programs import Runner
    from pytest_kindinfra.system.timeline import Deadline


def inspected(printed: str) -> list[dict[str, Any]]:
    """Return the objects, in the order in which they were printed."""
    if printed.lstrip().startswith("["):
        found: list[dict[str, Any]] = json.loads(printed)
        return found
    return [json.loads(line) for line in printed.splitlines() if line.strip()]


def given_by_environment(request: BuildRequest, *, read: re.Pattern[str]) -> dict[str, str]:
    """Return the build arguments that come by the environment, so that no `ps` has them.

    `--build-arg NAME` without a value means the variable NAME (docs.docker.com, `docker buildx
    build`, `--build-arg`; tried with buildx 0.13 and podman 4.3).

    Args:
        request: What is to be built.
        read: Names that the program and what it starts read for themselves.
    """
    return {
        name: value
        for name, value in request.build_args.items()
        if name in request.unshown and (os.environ.get(name) == value or not read.fullmatch(name))
    }


def build_flags(request: BuildRequest, *, elsewhere: dict[str, str]) -> Iterator[str]:
    """Give the flags that both know: names, label, stage and arguments.

    Args:
        request: What is to be built.
        elsewhere: Arguments whose values are in the environment.
    """
    yield from ("--tag", request.reference, "--file", os.fspath(request.dockerfile))
    yield from ("--label", f"{IMAGE_LABEL}={request.name}")
    if request.target:
        yield from ("--target", request.target)
    for name, value in sorted(request.build_args.items()):
        yield from ("--build-arg", name if name in elsewhere else f"{name}={value}")


def shown_dockerfile(request: BuildRequest) -> str:
    """Return the Dockerfile that the user wrote, as its path from the project's folder."""
    path = request.source or request.dockerfile
    inside = request.folder is not None and path.is_relative_to(request.folder)
    return os.fspath(path.relative_to(request.folder) if inside and request.folder else path)


def own_image(item: dict[str, Any]) -> OwnImage:
    """Return an inspected image with our label; podman does not say when it was last named."""
    times = (item["Created"], item.get("Metadata", {}).get("LastTagTime") or item["Created"])
    return OwnImage(
        name=item["Config"]["Labels"][IMAGE_LABEL],
        references=tuple(item.get("RepoTags") or ()),
        since=max(datetime.fromisoformat(time).timestamp() for time in times),
    )


def names_of(item: dict[str, object]) -> list[str]:
    """Return every name under which an inspected image can be asked for, less its id."""
    names: list[str] = []
    for key in ("RepoTags", "RepoDigests"):
        value = item.get(key)
        names += value if isinstance(value, list) else []
    return names


class CliEngine(ABC):
    """An engine whose program understands most of what `docker` does; see `Engine`.

    Attributes:
        name: What the user calls it, and its program.
        inspecting: The command that prints images as JSON, less their names.
        pushing: The command that pushes an image, less its name.
        reads: Names of variables that the program and what it starts read for themselves.
        build_env: Further variables of a build.
    """

    name: str
    inspecting: tuple[str, ...]
    pushing: tuple[str, ...]
    reads: re.Pattern[str]
    build_env: Mapping[str, str] = MappingProxyType({})

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def check(self, deadline: Deadline) -> str:
        """See `Engine.check`."""
        argv = [self.name, "version", "--format", "{{.Server.Version}}"]
        try:
            version = self._runner.run(argv, deadline=deadline.within(20)).stdout.strip()
        except ToolMissingError as error:
            raise NothingHereError(str(error)) from error
        except CommandError as error:
            raise self._no_answer(error) from error
        if problem := self._unfit(version):
            raise EngineError(problem)
        return version

    @abstractmethod
    def _no_answer(self, error: CommandError) -> KindInfraError:
        """Return what to raise when the program cannot say the engine's version."""

    @abstractmethod
    def _unfit(self, version: str) -> str:
        """Return why an engine of this version cannot be used; empty if it can."""

    def foreign_options(self, options: Sequence[str]) -> tuple[str, ...]:
        """See `Engine.foreign_options`; the declaration's options are Docker's."""
        del options
        return ()

    def image_ids(self, references: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """See `Engine.image_ids`; ids as Docker writes them, so that tags are the same."""
        return {
            reference: f"sha256:{item['Id'].removeprefix('sha256:')}"
            for reference, item in self._inspect(references, deadline).items()
        }

    def image_sizes(self, references: Sequence[str], deadline: Deadline) -> dict[str, ImageSize]:
        """See `Engine.image_sizes`."""
        return {
            reference: ImageSize(size=item["Size"], layers=tuple(item["RootFS"]["Layers"] or ()))
            for reference, item in self._inspect(references, deadline).items()
        }

    def _inspect(self, references: Sequence[str], deadline: Deadline) -> dict[str, dict[str, Any]]:
        """Return what the engine says of those images that it has, by reference as given."""
        if not references:
            return {}
        argv = [*self.inspecting, *dict.fromkeys(map(self._asked_for, references))]
        printed = self._runner.run(argv, deadline=deadline.within(60), check=False).stdout
        items = {name: one for one in inspected(printed) for name in (*names_of(one), one["Id"])}
        listed = {reference: self._listed_as(reference) for reference in references}
        return {reference: items[name] for reference, name in listed.items() if name in items}

    @abstractmethod
    def _asked_for(self, reference: str) -> str:
        """Return by which name `inspect` finds an image."""

    @abstractmethod
    def _listed_as(self, reference: str) -> str:
        """Return which name `inspect` prints of an image."""

    def build(self, request: BuildRequest, *, deadline: Deadline, log: Path) -> None:
        """See `Engine.build`."""
        argv = self._build_command(request, deadline)
        try:
            self._runner.run(
                argv,
                deadline=deadline,
                what=f'building image "{request.name}"',
                env={**self.build_env, **given_by_environment(request, read=self.reads)},
                cwd=request.folder,
                log=log,
            )
        except CommandError as error:
            dockerfile = shown_dockerfile(request)
            raise error.about(self._failure(error.output, dockerfile=dockerfile)) from None

    @abstractmethod
    def _build_command(self, request: BuildRequest, deadline: Deadline) -> list[str]:
        """Return the command that builds."""

    @abstractmethod
    def _failure(self, output: str, *, dockerfile: str) -> str:
        """Return what matters of what a failed build printed."""

    def load(self, archive: Path, deadline: Deadline) -> str:
        """See `Engine.load`."""
        argv = [self.name, "load", "--quiet", "--input", os.fspath(archive)]
        printed = self._runner.run(argv, deadline=deadline, what=f'loading "{archive}"').stdout
        loaded = [line.partition(": ")[2] for line in printed.splitlines() if ": " in line]
        if len(loaded) != 1:
            msg = f'"{archive}" holds {len(loaded)} images\nTo fix: save one image in each archive'
            raise KindInfraError(msg)
        return loaded[0]

    def push(self, name: str, deadline: Deadline) -> str:
        """See `Engine.push`."""
        argv = [*self.pushing, name]
        return self._runner.run(argv, deadline=deadline, what=f'pushing "{name}"').stdout

    def own_images(self, deadline: Deadline) -> list[OwnImage]:
        """See `Engine.own_images`."""
        listing = [self.name, "image", "ls", "--quiet", "--no-trunc"]
        listing += ["--filter", f"label={IMAGE_LABEL}"]
        listed = self._runner.run(listing, deadline=deadline.within(60)).stdout.split()
        if not (ids := list(dict.fromkeys(listed))):
            return []
        # One that went meanwhile is an error, but the others are printed all the same.
        argv = [*self.inspecting, *ids]
        printed = self._runner.run(argv, deadline=deadline.within(60), check=False).stdout
        return [own_image(item) for item in inspected(printed)]

    def remove(self, reference: str, deadline: Deadline) -> None:
        """See `Engine.remove`; without force, which would take it from containers."""
        argv = [self.name, "image", "rm", reference]
        self._runner.run(argv, deadline=deadline.within(60), what=f'removing "{reference}"')
