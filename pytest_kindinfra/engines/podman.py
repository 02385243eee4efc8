"""podman by its command line; no service of it has to run.

What differs from Docker (all tried with podman 4.3): names are listed in full, ids without
`sha256:`, builds are buildah's, and an archive that is there is not written over. A short name in
FROM means `docker.io/library/...` here as it does with Docker, whatever registries.conf says.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines.common import (
    build_flags,
    given_by_environment,
    inspected,
    names_of,
    own_image,
    shown_dockerfile,
)
from pytest_kindinfra.engines.failures import podman_failure
from pytest_kindinfra.errors import (
    CommandError,
    EngineError,
    KindInfraError,
    NothingHereError,
    ToolMissingError,
)
from pytest_kindinfra.model import IMAGE_LABEL
from pytest_kindinfra.protocols import ImageSize
from pytest_kindinfra.references import name_in_node, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_kindinfra.protocols import BuildRequest, OwnImage
    from pytest_kindinfra.system.programs import Runner
    from pytest_kindinfra.system.timeline import Deadline


# What podman, buildah and what they start read for themselves.
_READ_BY_PODMAN = re.compile(
    r"PATH|HOME|TMPDIR|SSH_AUTH_SOCK|GODEBUG|GOMAXPROCS|GIT_(?:DIR|WORK_TREE|CONFIG\w*)|\w*_PROXY"
    r"|REGISTRY_AUTH_FILE|DBUS_SESSION_BUS_ADDRESS|NOTIFY_SOCKET|LISTEN_\w+|DOCKER_(?:CONFIG|HOST)"
    r"|(?:LD|XDG|SSL_CERT|CONTAINERS?|STORAGE|BUILDAH|PODMAN|_CONTAINERS)_\w+",
    re.IGNORECASE,
)


_OLDEST = (4, 2)
"""The first with named build contexts, which `needs` of images become."""


_OF_BUILDKIT = re.compile(
    r"--(?:allow|attest|builder|call|check|metadata-file|no-cache-filter|print|provenance|push|sbom)"
    r"(?:=.*)?|--cache-(?:from|to)=type=.*"
)
"""Flags of `docker buildx build` that `podman build` does not know, or knows otherwise (tried)."""


_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


_FIX = "install podman 4.2 or newer (`podman version` must show one)"


class Podman:
    """The podman on PATH."""

    name = "podman"

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def check(self, deadline: Deadline) -> str:
        """See `Engine.check`."""
        argv = ["podman", "version", "--format", "{{.Server.Version}}"]
        try:
            version = self._runner.run(argv, deadline=deadline.within(20)).stdout.strip()
        except ToolMissingError as error:
            raise NothingHereError(str(error)) from error
        except CommandError as error:
            msg = f"podman does not answer: {error}\nTo fix: {_FIX}"
            raise EngineError(msg) from error
        if _numbers(version) < _OLDEST:
            msg = f"podman {version} does not know named build contexts\nTo fix: {_FIX}"
            raise EngineError(msg)
        return version

    def foreign_options(self, options: Sequence[str]) -> tuple[str, ...]:
        """See `Engine.foreign_options`."""
        return tuple(
            option.partition("=")[0]
            for option, following in pairwise((*options, ""))
            if _OF_BUILDKIT.fullmatch(option) or _OF_BUILDKIT.fullmatch(f"{option}={following}")
        )

    def image_ids(self, references: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """See `Engine.image_ids`; ids as Docker writes them, so that tags are the same."""
        found = self._inspect(references, deadline)
        return {reference: f"sha256:{item['Id']}" for reference, item in found.items()}

    def image_sizes(self, references: Sequence[str], deadline: Deadline) -> dict[str, ImageSize]:
        """See `Engine.image_sizes`."""
        return {
            reference: ImageSize(size=item["Size"], layers=tuple(item["RootFS"]["Layers"] or ()))
            for reference, item in self._inspect(references, deadline).items()
        }

    def _inspect(self, references: Sequence[str], deadline: Deadline) -> dict[str, dict[str, Any]]:
        if not references:
            return {}
        full = {ref: name_in_node(ref) for ref in references}  # it takes no tag with a digest
        argv = ["podman", "image", "inspect", *dict.fromkeys(full.values())]
        result = self._runner.run(argv, deadline=deadline.within(60), check=False)
        items = {name: item for item in inspected(result.stdout) for name in names_of(item)}
        return {ref: items[name] for ref, name in full.items() if name in items}

    def build(self, request: BuildRequest, *, deadline: Deadline, log: Path) -> None:
        """See `Engine.build`."""
        try:
            self._runner.run(
                _build_command(request),
                deadline=deadline,
                what=f'building image "{request.name}"',
                env=given_by_environment(request, read=_READ_BY_PODMAN),
                cwd=request.folder,
                log=log,
            )
        except CommandError as error:
            raise error.about(
                podman_failure(error.output, dockerfile=shown_dockerfile(request))
            ) from None

    def load(self, archive: Path, deadline: Deadline) -> str:
        """See `Engine.load`."""
        argv = ["podman", "load", "--quiet", "--input", os.fspath(archive)]
        printed = self._runner.run(argv, deadline=deadline, what=f'loading "{archive}"').stdout
        loaded = [line.partition(": ")[2] for line in printed.splitlines() if ": " in line]
        if len(loaded) != 1:
            msg = f'"{archive}" holds {len(loaded)} images\nTo fix: save one image in each archive'
            raise KindInfraError(msg)
        return loaded[0]

    def tag(self, reference: str, name: str, deadline: Deadline) -> None:
        """See `Engine.tag`; a short name would become one of localhost's."""
        argv = ["podman", "tag", _full(reference), _full(name)]
        self._runner.run(argv, deadline=deadline.within(60))

    def save(self, reference: str, archive: Path, deadline: Deadline) -> None:
        """See `Engine.save`; written aside, since podman adds to no archive that is there."""
        aside = archive.with_name(f".{archive.name}.partial")
        aside.unlink(missing_ok=True)
        argv = ["podman", "save", "--quiet", "--format", "docker-archive"]
        argv += ["--output", os.fspath(aside), _full(reference)]
        try:
            self._runner.run(argv, deadline=deadline, what=f'saving "{reference}"')
            aside.replace(archive)
        finally:
            aside.unlink(missing_ok=True)

    def push(self, name: str, deadline: Deadline) -> str:
        """See `Engine.push`; unlike Docker it takes no address for safe without TLS."""
        argv = ["podman", "push", "--tls-verify=false", name]
        return self._runner.run(argv, deadline=deadline, what=f'pushing "{name}"').stdout

    def own_images(self, deadline: Deadline) -> list[OwnImage]:
        """See `Engine.own_images`; one that went meanwhile is an error, the others are printed."""
        listing = [
            "podman",
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
        argv = ["podman", "image", "inspect", *ids]
        printed = self._runner.run(argv, deadline=deadline.within(60), check=False).stdout
        return [own_image(item) for item in inspected(printed)]

    def remove(self, reference: str, deadline: Deadline) -> None:
        """See `Engine.remove`; without force, which would take it from containers."""
        argv = ["podman", "image", "rm", reference]
        self._runner.run(argv, deadline=deadline.within(60), what=f'removing "{reference}"')

    def save_command(self, references: Sequence[str]) -> tuple[str, ...]:
        """See `Engine.save_command`; without the second flag further images are further names."""
        how = ("--quiet", "--format", "docker-archive", "--multi-image-archive")
        return ("podman", "save", *how, *map(_full, references))


def _build_command(request: BuildRequest) -> list[str]:
    """Return the argv; in Docker's format, since OCI's has no HEALTHCHECK and no SHELL."""
    elsewhere = given_by_environment(request, read=_READ_BY_PODMAN)
    argv = ["podman", "build", "--format", "docker", *build_flags(request, elsewhere=elsewhere)]
    argv += ["--ignorefile", f"{os.fspath(request.dockerfile)}.dockerignore"]
    for name, reference in sorted({**_long_names(request.bases), **request.contexts}.items()):
        argv += ["--build-context", f"{name}=container-image://{reference}"]
    return [*argv, *request.options, os.fspath(request.context)]


def _long_names(bases: Sequence[str]) -> dict[str, str]:
    """Return, for each base that is named shortly, the name that Docker would take it for."""
    return {name: full for name in bases if (full := normalise(name)) != name}


def _full(reference: str) -> str:
    return reference if _ID.fullmatch(reference) else name_in_node(reference)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(_leading_numbers(version))


def _leading_numbers(version: str) -> Iterator[int]:
    for part in version.split(".")[:2]:
        if not part.isdecimal():
            return
        yield int(part)
