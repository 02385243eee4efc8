"""The builders of `docker buildx`: which one builds an image, and what it can see.

A builder of another driver than `docker` has images of its own: bases that the engine pulled are
named to it by their digest, and it cannot build on one that only the engine has.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CommandError, KindInfraError, did_you_mean, listed
from pytest_kindinfra.plan.buildoptions import builder_of, flags
from pytest_kindinfra.references import has_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindinfra.protocols import BuildRequest
    from pytest_kindinfra.system.runner import Runner
    from pytest_kindinfra.system.timeline import Deadline


_DEFAULT = "default"
"""The context without any setting, and with DOCKER_HOST."""


_BUILDER_FIELD = re.compile(r"^(Name|Driver):[ \t]*(\S+)", re.MULTILINE)


_BUILDER_ROW = re.compile(r"^(?!NAME/NODE)([\w.-]+)", re.MULTILINE | re.ASCII)
"""A row of `docker buildx ls` about a builder; those about its nodes are indented."""


_BUILDX_SECONDS = 30.0


_OWN_CACHES = {"--cache-to": ("inline",), "--cache-from": ("inline", "registry")}
"""What the engine's own builder can do without a containerd image store."""


_CACHE_TYPE = re.compile(r"(?:^|,)\s*type=([\w-]+)")


@dataclass(frozen=True, slots=True)
class Builder:
    """A builder of buildx.

    Attributes:
        name: Its name.
        driver: `docker`, `docker-container`, `kubernetes` or `remote`.
        own: The name of the engine's own builder.
    """

    name: str
    driver: str
    own: str

    @property
    def is_own(self) -> bool:
        """Whether it is the engine's own."""
        return (self.name, self.driver) == (self.own, "docker")


class Builders:
    """The builders of one Docker engine; each is asked for once, by any thread."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._lock = threading.Lock()
        self._found: dict[str, tuple[str, str] | None] = {}
        self._own = ""

    def builder(self, name: str, deadline: Deadline) -> Builder | None:
        """Return the builder of that name, or the one in use for an empty one.

        None if buildx does not say: the build will say what is wrong.
        """
        with self._lock:
            found, own = self._inspected(name, deadline), self._context(deadline)
        return Builder(*found, own=own) if found else None

    def own(self, deadline: Deadline) -> str:
        """Return the name of the engine's own builder: that of the context in use."""
        with self._lock:
            return self._context(deadline)

    def named(self, name: str, deadline: Deadline) -> Builder:
        """Return the builder of that name.

        Raises:
            KindInfraError: There is none; names those there are.
        """
        if found := self.builder(name, deadline):
            return found
        known = self._names(deadline)
        hint = did_you_mean(name, known) or f"; known: {listed(known)}"
        msg = f'`docker buildx inspect` knows no builder "{name}"{hint}'
        raise KindInfraError(msg)

    def _names(self, deadline: Deadline) -> list[str]:
        """Return the names of all builders; none if buildx does not say."""
        argv = ["docker", "buildx", "ls"]
        printed = self._runner.run(argv, deadline=deadline.within(_BUILDX_SECONDS), check=False)
        return _BUILDER_ROW.findall(printed.stdout)

    def _context(self, deadline: Deadline) -> str:
        if not self._own:
            argv = ["docker", "context", "inspect", "--format", "{{.Name}}"]
            result = self._runner.run(argv, deadline=deadline.within(_BUILDX_SECONDS), check=False)
            known = "" if result.exit_code else result.stdout.strip()
            self._own = known or _DEFAULT
        return self._own

    def _inspected(self, name: str, deadline: Deadline) -> tuple[str, str] | None:
        if name not in self._found:
            argv = ["docker", "buildx", "inspect", *((name,) if name else ())]
            try:
                printed = self._runner.run(argv, deadline=deadline.within(_BUILDX_SECONDS)).stdout
            except CommandError:
                printed = ""
            fields = dict(
                reversed(_BUILDER_FIELD.findall(printed))
            )  # a builder's nodes have names too
            complete = "Name" in fields and "Driver" in fields
            self._found[name] = (fields["Name"], fields["Driver"]) if complete else None
        return self._found[name]


def builder_flags(
    request: BuildRequest, builder: Builder | None, digests: Mapping[str, str | None], *, own: str
) -> tuple[str, ...]:
    """Return the flags by which a build takes its images from where its tag says.

    Args:
        request: What is to be built.
        builder: The one that is used without a flag.
        digests: Those bases that the engine has, to what a registry calls them, as NAME@DIGEST;
            None for one that no registry knows.
        own: The name of the engine's own builder.

    Raises:
        KindInfraError: The options name a builder that cannot see an image.
    """
    explicit = builder_of(request.options)
    # What has a digest is in a registry, which every builder pulls from.
    local = (name for name, reference in request.contexts.items() if not has_digest(reference))
    needed = [*local, *(name for name, known in digests.items() if known is None)]
    if builder is None:
        return ("--builder", own) if needed and not explicit else ()
    if builder.is_own:
        return ()
    if explicit and needed:
        raise KindInfraError(_unseen(request.name, builder, needed))
    if explicit or (builder.driver != "docker" and not needed and _wants_cache(request.options)):
        return _pinned(digests)
    return ("--builder", own)


def _wants_cache(options: Sequence[str]) -> bool:
    """Whether a flag asks for a cache that may be why another builder is in use."""
    for flag in flags(options):
        if flag.name in _OWN_CACHES and flag.value:
            match = _CACHE_TYPE.search(flag.value)
            if match and match[1] not in _OWN_CACHES[flag.name]:
                return True
    return False


def _pinned(digests: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return flags that have another builder take just the bases that the engine has."""
    pairs = [
        ("--build-context", f"{name}=docker-image://{known}")
        for name, known in sorted(digests.items())
        if known and "@" not in name
    ]
    return tuple(word for pair in pairs for word in pair)


def _unseen(name: str, builder: Builder, needed: Sequence[str]) -> str:
    images = ", ".join(f'"{one}"' for one in dict.fromkeys(needed))
    return (
        f'image "{name}": the builder "{builder.name}" ({builder.driver}) cannot see images'
        f" that only the engine has: {images}\n"
        "To fix: remove --builder from build_options, or --kindinfra-builder, and the engine's own"
        " builder is used"
    )
