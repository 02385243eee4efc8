"""podman by its command line; no service of it has to run.

What differs from Docker (all tried with podman 4.3): names are listed in full, ids without
`sha256:`, builds are buildah's, and an existing archive is not overwritten. A short name in
FROM means `docker.io/library/...` here as it does with Docker, whatever registries.conf says.
"""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.engines.common import CliEngine, build_flags, given_by_environment
from pytest_kindinfra.engines.failures import podman_failure
from pytest_kindinfra.engines.host import EngineAddress, read_json
from pytest_kindinfra.errors import EngineError
from pytest_kindinfra.references import name_in_node, normalise
from pytest_kindinfra.system.files import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kindinfra.errors import CommandError, KindInfraError
    from pytest_kindinfra.protocols.engine import BuildRequest, Engine
    from pytest_kindinfra.system.runner import Runner
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


_CONTAINERS_CONF = (Path("/usr/share/containers"), Path("/etc/containers"))


_STORAGE = Path("/etc/containers/storage.conf")


_DISK_ROOT = Path("/var/lib/containers/storage")


_FIX = "install podman 4.2 or newer (`podman version` must show one)"


class Podman(CliEngine):
    """The podman on PATH."""

    name = "podman"
    stops_slowly = True
    inspecting = ("podman", "image", "inspect")
    pushing = ("podman", "push", "--tls-verify=false")
    """Unlike Docker it takes no address for safe without TLS."""
    reads = _READ_BY_PODMAN

    def disk_root(self, environ: Mapping[str, str]) -> Path | None:
        """See `Engine.disk_root`."""
        return podman_root(environ)

    def address(self, environ: Mapping[str, str]) -> EngineAddress:
        """Return where podman's engine is: CONTAINER_HOST, CONTAINER_CONNECTION, or no server."""
        return _address(environ)

    def _no_answer(self, error: CommandError) -> KindInfraError:
        return EngineError(f"podman does not answer: {error}\nTo fix: {_FIX}")

    def _unfit(self, version: str) -> str:
        if _numbers(version) >= _OLDEST:
            return ""
        return f"podman {version} does not know named build contexts\nTo fix: {_FIX}"

    def foreign_options(self, options: Sequence[str]) -> tuple[str, ...]:
        """See `Engine.foreign_options`."""
        return tuple(
            option.partition("=")[0]
            for option, following in pairwise((*options, ""))
            if _OF_BUILDKIT.fullmatch(option) or _OF_BUILDKIT.fullmatch(f"{option}={following}")
        )

    def _asked_for(self, reference: str) -> str:
        return name_in_node(reference)  # it takes no tag with a digest

    def _listed_as(self, reference: str) -> str:
        return name_in_node(reference)

    def _build_command(self, request: BuildRequest, deadline: Deadline) -> list[str]:
        del deadline
        return _build_command(request)

    def _failure(self, output: str, *, dockerfile: str) -> str:
        return podman_failure(output, dockerfile=dockerfile, program=self.name)

    def tag(self, reference: str, name: str, deadline: Deadline) -> None:
        """See `Engine.tag`; a short name would become one of localhost's."""
        argv = ["podman", "tag", _full(reference), _full(name)]
        self._runner.run(argv, deadline=deadline.within(60))

    def save(self, reference: str, archive: Path, deadline: Deadline) -> None:
        """See `Engine.save`; written aside, since podman adds to no existing archive."""
        aside = archive.with_name(f".{archive.name}.partial")
        aside.unlink(missing_ok=True)
        argv = ["podman", "save", "--quiet", "--format", "docker-archive"]
        argv += ["--output", os.fspath(aside), _full(reference)]
        try:
            self._runner.run(argv, deadline=deadline, what=f'saving "{reference}"')
            aside.replace(archive)
        finally:
            aside.unlink(missing_ok=True)

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


def podman_root(environ: Mapping[str, str], *, storage: Path = _STORAGE) -> Path | None:
    """Return where podman keeps all it has; None if that is unknown.

    Args:
        environ: The environment, which may lead to podman elsewhere.
        storage: The host's configuration (containers-storage.conf(5), `graphroot`).
    """
    if _address(environ).url != "":
        return None
    if os.geteuid():
        data = Path(environ.get("XDG_DATA_HOME") or Path(environ.get("HOME", "/"), ".local/share"))
        return data / "containers" / "storage"
    with suppress(OSError, ValueError):
        found = tomllib.loads(read_text(storage)).get("storage", {}).get("graphroot")
        return Path(found or _DISK_ROOT)
    return _DISK_ROOT


def _address(environ: Mapping[str, str]) -> EngineAddress:
    """Resolve as podman does: CONTAINER_HOST, CONTAINER_CONNECTION; its default is no server."""
    if host := environ.get("CONTAINER_HOST"):
        return EngineAddress(url=host, source="CONTAINER_HOST")
    if name := environ.get("CONTAINER_CONNECTION"):
        source = f'podman connection "{name}" (CONTAINER_CONNECTION)'
        return EngineAddress(url=_connection(environ, name), source=source)
    if "CONTAINERS_STORAGE_CONF" in environ:  # here, but its folders may be anywhere
        return EngineAddress(url=None, source="CONTAINERS_STORAGE_CONF")
    return EngineAddress()


def _connection(environ: Mapping[str, str], name: str) -> str | None:
    config = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    listed = read_json(config / "containers" / "podman-connections.json").get("Connection")
    found = (listed.get("Connections") if isinstance(listed, dict) else None) or {}
    one = found.get(name) if isinstance(found, dict) else None
    if isinstance(one, dict) and isinstance(one.get("URI"), str):
        return str(one["URI"])
    for folder in (config / "containers", *reversed(_CONTAINERS_CONF)):
        with suppress(OSError, ValueError, LookupError, TypeError):
            engine = tomllib.loads((folder / "containers.conf").read_text("utf-8"))["engine"]
            return str(engine["service_destinations"][name]["uri"])
    return None


ENGINE: Callable[[Runner], Engine] = Podman
