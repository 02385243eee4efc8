"""Docker by its command line, with BuildKit through buildx.

The command line follows the user's contexts, credentials and proxies without our help, and
only it speaks BuildKit, which runs a step that several builds share once (docs/decisions/0001).
"""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines.builders import Builders, builder_flags
from pytest_kindinfra.engines.common import (
    build_flags,
    given_by_environment,
    inspected,
    names_of,
    own_image,
    shown_dockerfile,
)
from pytest_kindinfra.engines.failures import buildkit_failure
from pytest_kindinfra.errors import (
    CommandError,
    EngineError,
    KindInfraError,
    NothingHereError,
    ToolMissingError,
)
from pytest_kindinfra.model import IMAGE_LABEL
from pytest_kindinfra.plan.buildoptions import builder_of
from pytest_kindinfra.protocols import ImageSize
from pytest_kindinfra.references import has_digest, name_in_node

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindinfra.protocols import BuildRequest, OwnImage
    from pytest_kindinfra.system.programs import Runner
    from pytest_kindinfra.system.timeline import Deadline


# What docker, buildx and what they start read for themselves: an argument of that name stays in
# the command, or a build's PATH would become docker's own.
_READ_BY_DOCKER = re.compile(
    r"PATH|HOME|TMPDIR|SSH_AUTH_SOCK|GODEBUG|GOMAXPROCS|GIT_(?:DIR|WORK_TREE|CONFIG\w*)|\w*_PROXY"
    r"|(?:LD|XDG|SSL_CERT|OTEL|BUILDKIT|BUILDX)_\w+|DOCKER_(?:API_VERSION|AUTH_CONFIG|BUILDKIT"
    r"|CERT_PATH|CLI_\w+|CONFIG|CONTENT_TRUST\w*|CONTEXT|CUSTOM_HEADERS|DEFAULT_PLATFORM|HOST"
    r"|TLS\w*)",
    re.IGNORECASE,
)


_SOCKET = re.compile(r"unix://(/[^\s;,]*[^\s;,.:])")


_ASK_SOCKET = 2.0


_OF_PODMAN = re.compile(r"[1-9]\.\d")
"""A version that Docker last had in 2017 (1.13); the package podman-docker calls podman docker."""


_FIX = "install Docker with buildx and start it (`docker version` must show a server)"


class Docker:
    """The Docker engine that `docker` on PATH talks to."""

    name = "docker"

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._builders = Builders(runner)

    def check(self, deadline: Deadline) -> str:
        """See `Engine.check`."""
        argv = ["docker", "version", "--format", "{{.Server.Version}}"]
        try:
            version = self._runner.run(argv, deadline=deadline.within(20)).stdout.strip()
        except ToolMissingError as error:
            raise NothingHereError(str(error)) from error
        except CommandError as error:
            kind = NothingHereError if _is_absent(error.output) else EngineError
            msg = f"the Docker engine does not answer: {error}\nTo fix: {_FIX}"
            raise kind(msg) from error
        if _OF_PODMAN.match(version):
            msg = (
                f'"docker" on PATH is podman {version}, which builds and loads in other ways\n'
                "To fix: --kindinfra-engine=podman, or put Docker's own program on PATH"
            )
            raise EngineError(msg)
        return version

    def foreign_options(self, options: Sequence[str]) -> tuple[str, ...]:
        """See `Engine.foreign_options`: the declaration's options are Docker's."""
        del options
        return ()

    def image_ids(self, references: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """See `Engine.image_ids`."""
        found = self._inspect(references, deadline)
        return {reference: item["Id"] for reference, item in found.items()}

    def image_sizes(self, references: Sequence[str], deadline: Deadline) -> dict[str, ImageSize]:
        """See `Engine.image_sizes`."""
        return {
            reference: ImageSize(size=item["Size"], layers=tuple(item["RootFS"]["Layers"] or ()))
            for reference, item in self._inspect(references, deadline).items()
        }

    def _inspect(self, references: Sequence[str], deadline: Deadline) -> dict[str, dict[str, Any]]:
        if not references:
            return {}
        wanted = list(dict.fromkeys(references))
        asked = [_familiar(ref) if has_digest(ref) else ref for ref in wanted]
        argv = ["docker", "image", "inspect", "--format", "{{json .}}", *asked]
        result = self._runner.run(argv, deadline=deadline.within(60), check=False)
        found = inspected(result.stdout)
        items = {tag: item for item in found for tag in (*names_of(item), item["Id"])}
        return {ref: items[short] for ref in wanted if (short := _familiar(ref)) in items}

    def build(self, request: BuildRequest, *, deadline: Deadline, log: Path) -> None:
        """See `Engine.build`."""
        argv = _build_command(request, self._builder_flags(request, deadline))
        try:
            self._runner.run(
                argv,
                deadline=deadline,
                what=f'building image "{request.name}"',
                env={
                    "BUILDKIT_PROGRESS": "plain",
                    **given_by_environment(request, read=_READ_BY_DOCKER),
                },
                cwd=request.folder,
                log=log,
            )
        except CommandError as error:
            raise error.about(
                buildkit_failure(error.output, dockerfile=shown_dockerfile(request))
            ) from None

    def _builder_flags(self, request: BuildRequest, deadline: Deadline) -> tuple[str, ...]:
        builder = self._builders.builder(builder_of(request.options) or "", deadline)
        if builder and builder.is_own:
            return ()
        items = self._inspect(request.bases, deadline)
        digests = {name: _in_registry(name, item) for name, item in items.items()}
        own = self._builders.own(deadline)
        return builder_flags(request, builder, digests, own=own)

    def load(self, archive: Path, deadline: Deadline) -> str:
        """See `Engine.load`; Docker unpacks gzip, bzip2, xz and zstd by itself."""
        argv = ["docker", "load", "--quiet", "--input", os.fspath(archive)]
        printed = self._runner.run(argv, deadline=deadline, what=f'loading "{archive}"').stdout
        loaded = [line.partition(": ")[2] for line in printed.splitlines() if ": " in line]
        if len(loaded) != 1:
            msg = f'"{archive}" holds {len(loaded)} images\nTo fix: save one image in each archive'
            raise KindInfraError(msg)
        return loaded[0]

    def tag(self, reference: str, name: str, deadline: Deadline) -> None:
        """See `Engine.tag`."""
        source = _familiar(reference) if has_digest(reference) else reference
        self._runner.run(["docker", "tag", source, name], deadline=deadline.within(60))

    def save(self, reference: str, archive: Path, deadline: Deadline) -> None:
        """See `Engine.save`; Docker itself writes aside and renames."""
        argv = ["docker", "save", "--output", os.fspath(archive), _familiar(reference)]
        self._runner.run(argv, deadline=deadline, what=f'saving "{reference}"')

    def push(self, name: str, deadline: Deadline) -> str:
        """See `Engine.push`."""
        argv = ["docker", "push", name]
        return self._runner.run(argv, deadline=deadline, what=f'pushing "{name}"').stdout

    def own_images(self, deadline: Deadline) -> list[OwnImage]:
        """See `Engine.own_images`."""
        listing = [
            "docker",
            "image",
            "ls",
            "--quiet",
            "--no-trunc",
            "--filter",
            f"label={IMAGE_LABEL}",
        ]
        listed = self._runner.run(listing, deadline=deadline.within(60)).stdout.split()
        if not (ids := list(dict.fromkeys(listed))):
            return []
        argv = ["docker", "image", "inspect", "--format", "{{json .}}", *ids]
        # One that went meanwhile is an error, but the others are printed all the same.
        printed = self._runner.run(argv, deadline=deadline.within(60), check=False).stdout
        return [own_image(item) for item in inspected(printed)]

    def remove(self, reference: str, deadline: Deadline) -> None:
        """See `Engine.remove`; without force, which would take it from containers."""
        argv = ["docker", "image", "rm", reference]
        self._runner.run(argv, deadline=deadline.within(60), what=f'removing "{reference}"')

    def save_command(self, references: Sequence[str]) -> tuple[str, ...]:
        """See `Engine.save_command`; with a tag, or Docker would save all that a name has."""
        return ("docker", "save", *map(_familiar, references))


def _in_registry(reference: str, item: dict[str, Any]) -> str | None:
    """Return what a registry calls an image; None for one that was built or loaded here."""
    from pytest_kindinfra.references import normalise, split

    repository = split(normalise(reference))[0]
    names = item.get("RepoDigests") or ()
    found = (name for name in names if split(normalise(name))[0] == repository)
    return None if repository.startswith("localhost/") else next(found, None)


def _is_absent(output: str) -> bool:
    """Whether nobody listens on the local socket that `docker` names in its complaint.

    `docker` says "Cannot connect to the Docker daemon" for time-outs and much else too, so the
    socket is asked. One that may not be opened is no proof of anything.
    """
    if "permission denied" in output.lower() or not (match := _SOCKET.search(output)):
        return False
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(_ASK_SOCKET)
        try:
            asked.connect(match[1])
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return True
        except OSError:  # a time-out, no permission, a path that is too long
            return False
    return False


def _build_command(request: BuildRequest, builder: tuple[str, ...] = ()) -> list[str]:
    """Return the argv; without provenance, since kind cannot load attestations (kind#3795)."""
    elsewhere = given_by_environment(request, read=_READ_BY_DOCKER)
    argv = ["docker", "buildx", "build", "--load", "--provenance=false", "--sbom=false"]
    argv += build_flags(request, elsewhere=elsewhere)
    for name, reference in sorted(request.contexts.items()):
        argv += ["--build-context", f"{name}=docker-image://{reference}"]
    return [*argv, *request.options, *builder, os.fspath(request.context)]


def _familiar(reference: str) -> str:
    """Return the form in which Docker prints a reference: `docker.io/library/x` is `x:latest`.

    Of a tag and a digest it prints the digest alone, which is also what it looks for.
    """
    full = name_in_node(reference)
    return full.removeprefix("docker.io/library/").removeprefix("docker.io/")
