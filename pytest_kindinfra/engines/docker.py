"""Docker by its command line, with BuildKit through buildx: all that is known of this engine.

The command line follows the user's contexts, credentials and proxies without our help, and
only it speaks BuildKit, which runs a step that several builds share once (docs/decisions/0001).

Each context of Docker has a builder of the driver `docker`, which is the engine itself and has the
context's name. Any other (`docker buildx use`, BUILDX_BUILDER, what docker/setup-buildx-action
makes) has images of its own: it sees none that only the engine has, and may resolve `python:3.12`
to another image than the engine (moby/buildkit#2343). So it is used only for what it is asked for:
a name in `build_options` or `--kindinfra-builder`, or a cache that the engine's own cannot keep.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines.builders import Builders, builder_flags
from pytest_kindinfra.engines.common import (
    CliEngine,
    Oldest,
    asked,
    build_flags,
    given_by_environment,
    new_enough,
)
from pytest_kindinfra.engines.failures import buildkit_failure
from pytest_kindinfra.engines.host import EngineAddress, read_json
from pytest_kindinfra.engines.refusals import lacks_image, remedy_of_registry
from pytest_kindinfra.errors import CommandError, EngineError, KindInfraError, NothingHereError
from pytest_kindinfra.plan.buildoptions import builder_of
from pytest_kindinfra.protocols import Finding
from pytest_kindinfra.references import has_digest, name_in_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kindinfra.protocols import BuildRequest, Engine
    from pytest_kindinfra.system.runner import Runner
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


_OLDEST_BUILDX = Oldest(
    version=(0, 10),
    lacks="it does not know --provenance and --sbom, which each build gives it",
    fix="install buildx 0.10 or newer: https://docs.docker.com/go/buildx/",
)


_BUILDX_FIX = "install the buildx plugin: https://docs.docker.com/go/buildx/"


_DAEMON = Path("/etc/docker/daemon.json")


_DISK_ROOT = "/var/lib/docker"


_USUAL = frozenset({"", "unix:///var/run/docker.sock", "unix:///run/docker.sock"})
"""The addresses of the engine that a host has by default."""


_REGISTRY_SECONDS = 30.0


_FIX = "install Docker with buildx and start it (`docker version` must show a server)"


class Docker(CliEngine):
    """The Docker engine that `docker` on PATH talks to."""

    name = "docker"
    runs_registries = True
    oldest = Oldest(
        version=(23, 0),
        lacks="its BuildKit has no named contexts, which `needs` of images become",
        fix="install Docker Engine 23.0 or newer: https://docs.docker.com/engine/install/",
    )
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

    def address(self, environ: Mapping[str, str]) -> EngineAddress:
        """Return where `docker` finds its engine: DOCKER_HOST, DOCKER_CONTEXT, current context."""
        return _address(environ)

    def examine(self, deadline: Deadline) -> Iterator[Finding]:
        """See `Engine.examine`; also buildx, and which builder is in use."""
        for engine in super().examine(deadline):
            yield engine
            if engine.state == "missing":
                return
        buildx = asked("buildx", lambda: self._buildx_version(deadline))
        if buildx.state != "ok":
            yield replace(buildx, fix=buildx.fix or _BUILDX_FIX)
            return
        yield new_enough(buildx, _OLDEST_BUILDX)
        yield from self._examine_builder(deadline)

    def _buildx_version(self, deadline: Deadline) -> str:
        printed = self._runner.run(["docker", "buildx", "version"], deadline=deadline).stdout
        return printed.partition("\n")[0].strip()

    def _examine_builder(self, deadline: Deadline) -> Iterator[Finding]:
        """Yield what is to be known of the builder in use, unless it is the engine's own."""
        builder = self._builders.builder("", deadline)
        use = f"docker buildx use {self._builders.own(deadline)}"
        if builder is None:
            said = "`docker buildx inspect` does not say which builder is in use"
            fix = f"{use}, and unset BUILDX_BUILDER"
            yield Finding(state="warning", what="builder", said=said, fix=fix)
        elif not builder.is_own:
            said = (
                f'"{builder.name}" ({builder.driver}) is in use, which cannot see the engine\'s'
                " images; images are built by the engine's own builder instead"
            )
            fix = f"nothing, or {use} (and unset BUILDX_BUILDER)"
            yield Finding(state="warning", what="builder", said=said, fix=fix)

    def _no_answer(self, error: CommandError) -> KindInfraError:
        kind = NothingHereError if _is_absent(error.output) else EngineError
        return kind(f"the Docker engine does not answer: {error}\nTo fix: {_FIX}")

    def _unfit(self, version: str) -> str:
        if not _OF_PODMAN.match(version):
            return ""
        return (
            f'"docker" on PATH is podman {version}, which needs other commands to build and load\n'
            "To fix: --kindinfra-engine=podman, or put Docker's own program on PATH"
        )

    def _asked_for(self, reference: str) -> str:
        return _familiar(reference) if has_digest(reference) else reference

    def _listed_as(self, reference: str) -> str:
        return _familiar(reference)

    def _build_command(self, request: BuildRequest, deadline: Deadline) -> list[str]:
        return _build_command(request, self._builder_flags(request, deadline))

    def _failure(self, output: str, *, dockerfile: str) -> str:
        return buildkit_failure(output, dockerfile=dockerfile, program=self.name)

    def _builder_flags(self, request: BuildRequest, deadline: Deadline) -> tuple[str, ...]:
        builder = self._builders.builder(builder_of(request.options) or "", deadline)
        if builder and builder.is_own:
            return ()
        items = self._inspect(request.bases, deadline)
        digests = {name: _in_registry(name, item) for name, item in items.items()}
        own = self._builders.own(deadline)
        return builder_flags(request, builder, digests, own=own)

    def shares_images(self, builder: str, deadline: Deadline) -> bool:
        """See `Engine.shares_images`."""
        return self._builders.named(builder, deadline).is_own

    def tag(self, reference: str, name: str, deadline: Deadline) -> None:
        """See `Engine.tag`."""
        argv = ["docker", "tag", self._asked_for(reference), name]
        self._runner.run(argv, deadline=deadline.within(60))

    def digest_of(self, name: str, deadline: Deadline) -> str | None:
        """See `Engine.digest_of`; buildx takes the credentials from where `docker` has them.

        `docker manifest inspect` would ask for images of loopback addresses by HTTPS.
        """
        argv = ["docker", "buildx", "imagetools", "inspect", name, "--format", "{{json .Manifest}}"]
        try:
            printed = self._runner.run(
                argv, deadline=deadline.within(_REGISTRY_SECONDS), what=f'looking for "{name}"'
            ).stdout
        except CommandError as error:
            if lacks_image(error.output):
                return None
            fix = remedy_of_registry(error.output, name.partition("/")[0])
            raise error.with_remedy(fix) from None
        return str(json.loads(printed)["digest"])

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
    """Whether no process listens on the local socket that `docker` names in its error.

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


def docker_root(environ: Mapping[str, str], *, daemon: Path = _DAEMON) -> Path | None:
    """Return where the Docker engine of this host keeps all it has; None if that is unknown.

    Args:
        environ: The environment, which may lead to another engine.
        daemon: The engine's configuration (docs.docker.com, dockerd, `data-root`).
    """
    if _address(environ).url not in _USUAL:
        return None
    return Path(read_json(daemon).get("data-root") or _DISK_ROOT)


def _address(environ: Mapping[str, str]) -> EngineAddress:
    """Resolve as the `docker` command does: DOCKER_HOST, DOCKER_CONTEXT, the current context."""
    if host := environ.get("DOCKER_HOST"):
        return EngineAddress(url=host, source="DOCKER_HOST")
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    config = read_json(folder / "config.json")
    name = environ.get("DOCKER_CONTEXT") or config.get("currentContext")
    if not isinstance(name, str) or name in {"", "default"}:
        return EngineAddress()
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = read_json(folder / "contexts" / "meta" / digest / "meta.json")
    endpoints = meta.get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = docker.get("Host") if isinstance(docker, dict) else None
    source = f'docker context "{name}"'
    return EngineAddress(url=host if isinstance(host, str) else None, source=source)


ENGINE: Callable[[Runner], Engine] = Docker
