"""Docker by its command line, with BuildKit through buildx.

The command line follows the user's contexts, credentials and proxies without our help, and
only it speaks BuildKit, which runs a step that several builds share once (docs/decisions/0001).
"""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines.protocol import OwnImage
from pytest_kindinfra.errors import CommandError, KindInfraError, ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindinfra.engines.protocol import BuildRequest
    from pytest_kindinfra.process import Runner
    from pytest_kindinfra.timeline import Deadline

# What docker, buildx and what they start read for themselves: an argument of that name stays in
# the command, or a build's PATH would become docker's own.
_READ_BY_DOCKER = re.compile(
    r"PATH|HOME|TMPDIR|SSH_AUTH_SOCK|GODEBUG|GOMAXPROCS|GIT_(?:DIR|WORK_TREE|CONFIG\w*)|\w*_PROXY"
    r"|(?:LD|XDG|SSL_CERT|OTEL|BUILDKIT|BUILDX)_\w+|DOCKER_(?:API_VERSION|AUTH_CONFIG|BUILDKIT"
    r"|CERT_PATH|CLI_\w+|CONFIG|CONTENT_TRUST\w*|CONTEXT|CUSTOM_HEADERS|DEFAULT_PLATFORM|HOST"
    r"|TLS\w*)",
    re.IGNORECASE,
)
_LABEL = "dev.kindinfra.image"
_FIX = "install Docker with buildx and start it (`docker version` must show a server)"


class Docker:
    """The Docker engine that `docker` on PATH talks to."""

    name = "docker"

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def check(self, deadline: Deadline) -> str:
        """See `Engine.check`."""
        argv = ["docker", "version", "--format", "{{.Server.Version}}"]
        try:
            return self._runner.run(argv, deadline=deadline.within(20)).stdout.strip()
        except CommandError as error:
            msg = f"the Docker engine does not answer: {error}\nTo fix: {_FIX}"
            raise ToolMissingError(msg) from error

    def image_ids(self, references: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """See `Engine.image_ids`."""
        if not references:
            return {}
        wanted = list(dict.fromkeys(references))
        argv = ["docker", "image", "inspect", "--format", "{{json .}}", *wanted]
        result = self._runner.run(argv, deadline=deadline.within(60), check=False)
        found = [json.loads(line) for line in result.stdout.splitlines() if line]
        ids = {tag: item["Id"] for item in found for tag in _names(item)}
        return {ref: ids[short] for ref in wanted if (short := _familiar(ref)) in ids}

    def build(self, request: BuildRequest, *, deadline: Deadline, log: Path) -> None:
        """See `Engine.build`."""
        self._runner.run(
            _build_command(request),
            deadline=deadline,
            what=f'building image "{request.name}"',
            env={"BUILDKIT_PROGRESS": "plain", **_given_by_environment(request)},
            log=log,
        )

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
        self._runner.run(["docker", "tag", reference, name], deadline=deadline.within(60))

    def save(self, reference: str, archive: Path, deadline: Deadline) -> None:
        """See `Engine.save`; Docker itself writes aside and renames."""
        argv = ["docker", "save", "--output", os.fspath(archive), _familiar(reference)]
        self._runner.run(argv, deadline=deadline, what=f'saving "{reference}"')

    def own_images(self, deadline: Deadline) -> list[OwnImage]:
        """See `Engine.own_images`."""
        listing = ["docker", "image", "ls", "--quiet", "--no-trunc", "--filter", f"label={_LABEL}"]
        listed = self._runner.run(listing, deadline=deadline.within(60)).stdout.split()
        if not (ids := list(dict.fromkeys(listed))):
            return []
        argv = ["docker", "image", "inspect", "--format", "{{json .}}", *ids]
        # One that went meanwhile is an error, but the others are printed all the same.
        printed = self._runner.run(argv, deadline=deadline.within(60), check=False).stdout
        return [_own_image(json.loads(line)) for line in printed.splitlines() if line]

    def remove(self, reference: str, deadline: Deadline) -> None:
        """See `Engine.remove`; without force, which would take it from containers."""
        argv = ["docker", "image", "rm", reference]
        self._runner.run(argv, deadline=deadline.within(60), what=f'removing "{reference}"')

    def save_command(self, references: Sequence[str]) -> tuple[str, ...]:
        """See `Engine.save_command`; with a tag, or Docker would save all that a name has."""
        return ("docker", "save", *map(_familiar, references))


def _given_by_environment(request: BuildRequest) -> dict[str, str]:
    """Return the build arguments that docker takes from its environment, so that no `ps` has them.

    `--build-arg NAME` without a value means the variable NAME (docs.docker.com, `docker buildx
    build`, `--build-arg`; tried with buildx 0.13).
    """
    return {
        name: value
        for name, value in request.build_args.items()
        if name in request.unshown
        and (os.environ.get(name) == value or not _READ_BY_DOCKER.fullmatch(name))
    }


def _build_command(request: BuildRequest) -> list[str]:
    """Return the argv; without provenance, since kind cannot load attestations (kind#3795)."""
    elsewhere = _given_by_environment(request)
    argv = ["docker", "buildx", "build", "--load", "--provenance=false", "--sbom=false"]
    argv += ["--tag", request.reference, "--file", os.fspath(request.dockerfile)]
    argv += ["--label", f"{_LABEL}={request.name}"]
    if request.target:
        argv += ["--target", request.target]
    for name, value in sorted(request.build_args.items()):
        argv += ["--build-arg", name if name in elsewhere else f"{name}={value}"]
    for name, reference in sorted(request.contexts.items()):
        argv += ["--build-context", f"{name}=docker-image://{reference}"]
    return [*argv, *request.options, os.fspath(request.context)]


def _own_image(item: dict[str, Any]) -> OwnImage:
    times = (item["Created"], item.get("Metadata", {}).get("LastTagTime") or item["Created"])
    return OwnImage(
        name=item["Config"]["Labels"][_LABEL],
        references=tuple(item.get("RepoTags") or ()),
        since=max(datetime.fromisoformat(time).timestamp() for time in times),
    )


def _names(item: dict[str, object]) -> list[str]:
    """Return every name under which an inspected image can be asked for."""
    names: list[str] = []
    for key in ("RepoTags", "RepoDigests"):
        value = item.get(key)
        names += value if isinstance(value, list) else []
    return [*names, str(item["Id"])]


def _familiar(reference: str) -> str:
    """Return the form in which Docker prints a reference: `docker.io/library/x` is `x:latest`."""
    from pytest_kindinfra.references import normalise

    full = normalise(reference)
    return full.removeprefix("docker.io/library/").removeprefix("docker.io/")
