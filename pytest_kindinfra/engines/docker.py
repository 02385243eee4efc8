"""Docker by its command line, with BuildKit through buildx.

The command line follows the user's contexts, credentials and proxies without our help, and
only it speaks BuildKit, which runs a step that several builds share once (docs/decisions/0001).
"""

from __future__ import annotations

import os
import re
import socket
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines.builders import Builders, builder_flags
from pytest_kindinfra.engines.common import CliEngine, build_flags, given_by_environment
from pytest_kindinfra.engines.failures import buildkit_failure
from pytest_kindinfra.engines.host import docker_root
from pytest_kindinfra.errors import EngineError, NothingHereError
from pytest_kindinfra.plan.buildoptions import builder_of
from pytest_kindinfra.references import has_digest, name_in_node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.errors import CommandError, KindInfraError
    from pytest_kindinfra.protocols import BuildRequest
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


class Docker(CliEngine):
    """The Docker engine that `docker` on PATH talks to."""

    name = "docker"
    inspecting = ("docker", "image", "inspect", "--format", "{{json .}}")
    pushing = ("docker", "push")
    reads = _READ_BY_DOCKER
    build_env = MappingProxyType({"BUILDKIT_PROGRESS": "plain"})

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self._builders = Builders(runner)

    def disk_root(self, environ: Mapping[str, str]) -> Path | None:
        """See `Engine.disk_root`."""
        return docker_root(environ)

    def _no_answer(self, error: CommandError) -> KindInfraError:
        kind = NothingHereError if _is_absent(error.output) else EngineError
        return kind(f"the Docker engine does not answer: {error}\nTo fix: {_FIX}")

    def _unfit(self, version: str) -> str:
        if not _OF_PODMAN.match(version):
            return ""
        return (
            f'"docker" on PATH is podman {version}, which builds and loads in other ways\n'
            "To fix: --kindinfra-engine=podman, or put Docker's own program on PATH"
        )

    def _asked_for(self, reference: str) -> str:
        return _familiar(reference) if has_digest(reference) else reference

    def _listed_as(self, reference: str) -> str:
        return _familiar(reference)

    def _build_command(self, request: BuildRequest, deadline: Deadline) -> list[str]:
        return _build_command(request, self._builder_flags(request, deadline))

    def _failure(self, output: str, *, dockerfile: str) -> str:
        return buildkit_failure(output, dockerfile=dockerfile)

    def _builder_flags(self, request: BuildRequest, deadline: Deadline) -> tuple[str, ...]:
        builder = self._builders.builder(builder_of(request.options) or "", deadline)
        if builder and builder.is_own:
            return ()
        items = self._inspect(request.bases, deadline)
        digests = {name: _in_registry(name, item) for name, item in items.items()}
        own = self._builders.own(deadline)
        return builder_flags(request, builder, digests, own=own)

    def tag(self, reference: str, name: str, deadline: Deadline) -> None:
        """See `Engine.tag`."""
        argv = ["docker", "tag", self._asked_for(reference), name]
        self._runner.run(argv, deadline=deadline.within(60))

    def save(self, reference: str, archive: Path, deadline: Deadline) -> None:
        """See `Engine.save`; Docker itself writes aside and renames."""
        argv = ["docker", "save", "--output", os.fspath(archive), _familiar(reference)]
        self._runner.run(argv, deadline=deadline, what=f'saving "{reference}"')

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
