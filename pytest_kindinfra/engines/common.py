"""What the command-line engines share: commands, flags of builds, answers of `inspect`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines.failures import remedy_of_pull
from pytest_kindinfra.engines.host import elsewhere_problem
from pytest_kindinfra.engines.refusals import remedy_of_registry
from pytest_kindinfra.errors import (
    CommandError,
    EngineError,
    KindInfraError,
    NothingHereError,
    ToolMissingError,
    last_lines,
)
from pytest_kindinfra.model import IMAGE_LABEL
from pytest_kindinfra.protocols import Finding, ImageContent, ImageSize, OwnImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.engines.host import EngineAddress
    from pytest_kindinfra.protocols import BuildRequest
    from pytest_kindinfra.system.runner import Runner
    from pytest_kindinfra.system.timeline import Deadline


_BEING_REMOVED = re.compile(r"removal of container \S+ is already in progress")


_BETWEEN_REMOVALS = 0.5


_VERSION = re.compile(r"(?<![\d.])v?(\d+)\.(\d+)")


def inspected(printed: str) -> list[dict[str, Any]]:
    """Return the objects, in the order in which they were printed."""
    if printed.lstrip().startswith("["):
        found: list[dict[str, Any]] = json.loads(printed)
        return found
    return [json.loads(line) for line in printed.splitlines() if line.strip()]


def remove_patiently(remove: Callable[[], object], deadline: Deadline) -> None:
    """Remove a container; wait if another program, such as that of a killed run, is removing it.

    Docker refuses the second of two removals at once (moby, daemon/delete.go); podman waits itself.

    Raises:
        CommandError: It cannot be removed for another reason, or not before the deadline.
        CancelledError: The run ends.
    """
    while True:
        try:
            remove()
        except CommandError as error:
            if deadline.passed or not _BEING_REMOVED.search(error.output):
                raise
            deadline.pause(_BETWEEN_REMOVALS)
        else:
            return


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


def _shown_dockerfile(request: BuildRequest) -> str:
    """Return the Dockerfile that the user wrote, as its path from the project's folder."""
    path = request.source or request.dockerfile
    inside = request.folder is not None and path.is_relative_to(request.folder)
    return os.fspath(path.relative_to(request.folder) if inside and request.folder else path)


def _own_image(item: dict[str, Any]) -> OwnImage:
    """Return an inspected image with our label; podman does not say when it was last named."""
    times = (item["Created"], item.get("Metadata", {}).get("LastTagTime") or item["Created"])
    return OwnImage(
        name=item["Config"]["Labels"][IMAGE_LABEL],
        references=tuple(item.get("RepoTags") or ()),
        since=max(datetime.fromisoformat(time).timestamp() for time in times),
    )


_IN_CONFIG = (
    "Env", "Cmd", "Entrypoint", "Labels", "WorkingDir", "User", "ExposedPorts", "Volumes",
    "StopSignal", "Healthcheck", "OnBuild", "Shell",
)  # fmt: skip
"""What counts of an image's configuration (OCI image-spec, config.md, and Docker's additions).
Engines print further fields, some of them only in some versions."""


def content_digest(item: Mapping[str, Any]) -> str:
    """Return a hash of what an image holds, in hexadecimal.

    Neither times nor the history count: BuildKit sets them whenever a step runs again, while
    the layers are the same. The id would not do: it is the digest of the configuration in Docker's
    own image store and in podman, and that of a manifest in containerd's.

    Args:
        item: What `inspect` prints of it.
    """
    config = item.get("Config") or {}
    kept = {key: config[key] for key in _IN_CONFIG if config.get(key)}
    if kept.get("WorkingDir") == "/":  # some engines print the default
        del kept["WorkingDir"]
    layers = (item.get("RootFS") or {}).get("Layers") or [item["Id"]]  # an image without any
    platform = [item.get(key) or "" for key in ("Os", "Architecture", "Variant")]
    text = json.dumps([layers, kept, platform], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _names_of(item: dict[str, object]) -> list[str]:
    """Return every name under which an inspected image can be asked for, less its id."""
    names: list[str] = []
    for key in ("RepoTags", "RepoDigests"):
        value = item.get(key)
        names += value if isinstance(value, list) else []
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Oldest:
    """The oldest version of a program that can be used.

    Attributes:
        version: Its first two numbers.
        lacks: What older ones lack.
        fix: What to do about an older one.
    """

    version: tuple[int, int]
    lacks: str
    fix: str


def asked(what: str, ask: Callable[[], str]) -> Finding:
    """Return what a program says of itself, or as `missing` that it does not answer.

    Args:
        what: The program.
        ask: Returns its version; may raise a `KindInfraError`.
    """
    try:
        return Finding(state="ok", what=what, said=ask())
    except KindInfraError as error:
        said, _, fix = str(error).partition("To fix: ")
        return Finding(state="missing", what=what, said=in_one_line(said), fix=fix.strip())


def new_enough(found: Finding, oldest: Oldest | None) -> Finding:
    """Return a finding of a program, a warning if its version lacks what is used of it."""
    version = _VERSION.search(found.said)
    if found.state != "ok" or oldest is None or version is None:
        return found
    if tuple(int(part) for part in version.groups()) >= oldest.version:
        return found
    wanted = ".".join(str(part) for part in oldest.version)
    said = f"{found.said}, older than {wanted}: {oldest.lacks}"
    return Finding(state="warning", what=found.what, said=said, fix=oldest.fix)


def in_one_line(text: str) -> str:
    """Return the first and the last line of a text, as one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if len(lines) < 2 else f"{lines[0]}: {last_lines(text, 1).strip()}"  # noqa: PLR2004 - first and last


class CliEngine(ABC):
    """An engine whose program understands most of what `docker` does; see `Engine`.

    Attributes:
        name: What the user calls it, its program, and what kind calls it.
        runs_registries: See `Engine`.
        stops_slowly: See `Engine`.
        oldest: The oldest version that can be used, None if `check` knows it.
        inspecting: The command that prints images as JSON, less their names.
        pushing: The command that pushes an image, less its name.
        reads: Names of variables that the program and what it starts read for themselves.
        build_env: Further variables of a build.
    """

    name: str
    runs_registries: bool = False
    stops_slowly: bool = False
    oldest: Oldest | None = None
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

    def examine(self, deadline: Deadline) -> Iterator[Finding]:
        """See `Engine.examine`."""
        found = asked("engine", lambda: f"{self.name} {self.check(deadline)}")
        yield new_enough(found, self.oldest)

    def host_problem(self, environ: Mapping[str, str]) -> str | None:
        """See `Engine.host_problem`."""
        return elsewhere_problem(self.name, self.address(environ))

    @abstractmethod
    def address(self, environ: Mapping[str, str]) -> EngineAddress:
        """Return where the program finds its engine."""

    @abstractmethod
    def _no_answer(self, error: CommandError) -> KindInfraError:
        """Return what to raise when the program cannot say the engine's version."""

    @abstractmethod
    def _unfit(self, version: str) -> str:
        """Return why an engine of this version cannot be used; empty if it can."""

    def shares_images(self, builder: str, deadline: Deadline) -> bool:  # noqa: ARG002
        """See `Engine.shares_images`."""
        msg = f'"{builder}" is a builder of docker buildx, but the engine is {self.name}'
        raise KindInfraError(msg)

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

    def image_contents(
        self, references: Sequence[str], deadline: Deadline
    ) -> dict[str, ImageContent]:
        """See `Engine.image_contents`."""
        return {
            reference: ImageContent(
                digest=content_digest(item), names=tuple(item.get("RepoTags") or ())
            )
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
        items = {name: one for one in inspected(printed) for name in (*_names_of(one), one["Id"])}
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
            dockerfile = _shown_dockerfile(request)
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

    def pull(self, reference: str, deadline: Deadline) -> None:
        """See `Engine.pull`."""
        argv = [self.name, "pull", "--quiet", reference]
        try:
            self._runner.run(argv, deadline=deadline, what=f'pulling "{reference}"')
        except CommandError as error:
            raise error.with_remedy(remedy_of_pull(error.output)) from error

    def push(self, name: str, deadline: Deadline) -> str:
        """See `Engine.push`."""
        argv = [*self.pushing, name]
        try:
            return self._runner.run(argv, deadline=deadline, what=f'pushing "{name}"').stdout
        except CommandError as error:
            fix = remedy_of_registry(error.output, name.partition("/")[0])
            raise error.with_remedy(fix) from None

    def digest_of(self, name: str, deadline: Deadline) -> str | None:
        """See `Engine.digest_of`."""
        del deadline
        msg = f'{self.name} cannot be asked whether a registry has "{name}"'
        raise EngineError(msg)

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
        return [_own_image(item) for item in inspected(printed)]

    def remove(self, reference: str, deadline: Deadline) -> None:
        """See `Engine.remove`; without force, which would take it from containers."""
        argv = [self.name, "image", "rm", reference]
        self._runner.run(argv, deadline=deadline.within(60), what=f'removing "{reference}"')
