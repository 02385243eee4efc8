"""Which builder of buildx builds an image: one that has the images which the tag counts.

Each context of Docker has a builder of the driver `docker`, which is the engine itself and has the
context's name. Any other (`docker buildx use`, BUILDX_BUILDER, what
docker/setup-buildx-action makes) has images of its own: it sees none that only the engine has, and
may resolve `python:3.12` to another image than the engine (moby/buildkit#2343). So it is left only
for what it is asked for: a name in `build_options`, or a cache that the engine's own cannot keep.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.plan.buildoptions import builder_of, flags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindinfra.protocols import BuildRequest
    from pytest_kindinfra.system.programs import Runner
    from pytest_kindinfra.system.timeline import Deadline


_DEFAULT = "default"
"""The context without any setting, and with DOCKER_HOST."""


_FIELD = re.compile(r"^(Name|Driver):[ \t]*(\S+)", re.MULTILINE)


_SECONDS = 30.0


_CACHES = {"--cache-to": ("inline",), "--cache-from": ("inline", "registry")}
"""What the engine's own builder can do without a containerd image store."""


_TYPE = re.compile(r"(?:^|,)\s*type=([\w-]+)")


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

    def _context(self, deadline: Deadline) -> str:
        if not self._own:
            argv = ["docker", "context", "inspect", "--format", "{{.Name}}"]
            result = self._runner.run(argv, deadline=deadline.within(_SECONDS), check=False)
            known = "" if result.exit_code else result.stdout.strip()
            self._own = known or _DEFAULT
        return self._own

    def _inspected(self, name: str, deadline: Deadline) -> tuple[str, str] | None:
        if name not in self._found:
            argv = ["docker", "buildx", "inspect", *((name,) if name else ())]
            try:
                printed = self._runner.run(argv, deadline=deadline.within(_SECONDS)).stdout
            except CommandError:
                printed = ""
            fields = dict(reversed(_FIELD.findall(printed)))  # a builder's nodes have names too
            complete = "Name" in fields and "Driver" in fields
            self._found[name] = (fields["Name"], fields["Driver"]) if complete else None
        return self._found[name]


def builder_flags(
    request: BuildRequest, builder: Builder | None, digests: Mapping[str, str | None], *, own: str
) -> tuple[str, ...]:
    """Return the flags by which a build takes its images from where its tag says.

    Args:
        request: What is to be built.
        builder: The one that would be taken without a flag.
        digests: Those bases that the engine has, to what a registry calls them, as NAME@DIGEST;
            None for one that no registry knows.
        own: The name of the engine's own builder.

    Raises:
        KindInfraError: `build_options` names a builder that cannot see an image.
    """
    explicit = builder_of(request.options)
    needed = [*request.contexts, *(name for name, known in digests.items() if known is None)]
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
        if flag.name in _CACHES and flag.value:
            match = _TYPE.search(flag.value)
            if match and match[1] not in _CACHES[flag.name]:
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
        f'image "{name}": the builder "{builder.name}" ({builder.driver}) in build_options cannot'
        f" see images that only the engine has: {images}\n"
        "To fix: remove --builder from build_options, and the engine's own builder is used"
    )
