"""Build caches that others share, in a registry for instance: read by builds, exported afterwards.

A build with `--cache-to` ends when its cache is exported, which may take longer than the build. So
an image is built without it, and when the stack is up, a second build on the same builder takes
each step from the cache there and exports it (docs/decisions/0090).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.engines.refusals import remedy_of_registry
from pytest_kindinfra.errors import CancelledError, CommandError, KindInfraError, last_lines, listed
from pytest_kindinfra.images.buildlog import last_line, last_step
from pytest_kindinfra.images.expansion import expand
from pytest_kindinfra.plan.buildoptions import with_home
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.model import Image
    from pytest_kindinfra.protocols.engine import BuildRequest


_NOTE = 100


_REFUSED_INDEX = re.compile(r"^ERROR: .*error writing manifest blob: .*\b40[04]\b", re.MULTILINE)
"""Distribution 3 and others check the layers of an index, which a cache is by default, as images
(docs.docker.com, "Registry cache", `image-manifest`)."""


def cache_problems(image: Image, *, prepared: bool) -> Iterator[str]:
    """Yield what is wrong with `cache_from` and `cache_to` of an image, in this environment.

    Args:
        image: What was declared.
        prepared: A hook is called before each build, which may set variables.
    """
    for key, values in (("cache_from", image.cache_from), ("cache_to", image.cache_to)):
        for value in values:
            found = expand(value, os.environ)
            unset = () if prepared and found.names else found.problems
            wrong = [*unset] or ([] if found.problems else [*_mistakes(key, found.text)])
            yield from (f'[images.{image.name}] {key} has "{value}": {one}' for one in wrong)


def cache_values(values: Sequence[str]) -> tuple[str, ...]:
    """Return values of `cache_from` or `cache_to` as `docker buildx build` takes them.

    Variables are replaced; what is empty then is left out; a mere reference gets its type.
    """
    texts = [text for value in values if (text := expand(value, os.environ).text.strip())]
    return tuple(
        with_home(("--cache-to", text if "=" in text else f"type=registry,ref={text}"))[1]
        for text in texts
    )


def cache_sources(image: Image) -> tuple[str, ...]:
    """Return the flags by which a build reads the caches of `cache_from`."""
    return tuple(word for one in cache_values(image.cache_from) for word in ("--cache-from", one))


@dataclass(frozen=True, slots=True)
class _Export:
    """An export to come.

    Attributes:
        request: The build that exports.
        changed: Returns the files that changed since the image was built.
    """

    request: BuildRequest
    changed: Callable[[], Sequence[str]]


class CacheExports:
    """The build caches of a run's images, exported when no test waits for the machine.

    Args:
        context: The bring-up; its hook `say` gets a text for each that could not be exported.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: list[_Export] = []

    @property
    def wanted(self) -> bool:
        """Whether there is anything to export."""
        return bool(self._waiting)

    def add(self, request: BuildRequest, changed: Callable[[], Sequence[str]]) -> None:
        """Take note of an image that was built; its cache is exported if that was declared.

        Args:
            request: What was built.
            changed: Returns the files that changed since; a build would no longer be the same.
        """
        if request.cache_to:
            # Each step is in the builder's cache by now, also that of a build without any.
            options = tuple(one for one in request.options if one != "--no-cache")
            self._waiting.append(_Export(replace(request, options=options, exports=True), changed))

    def run(self, over: threading.Event) -> None:
        """Export them one after another; one that cannot be exported is said, and fails nothing.

        Args:
            over: Ends it when it is set.
        """
        option = "--kindinfra-timeout"
        deadline = Deadline.after(self._context.request.timeout, over, option=option)
        while self._waiting:
            one = self._waiting.pop(0)
            try:
                self._export(one, deadline)
            except CancelledError:
                names = [one.request.name, *(left.request.name for left in self._waiting)]
                self._say(f"build caches were not exported, since the run ended: {listed(names)}")
                return
            except (KindInfraError, OSError) as error:
                self._say(f'image "{one.request.name}": its build cache was not exported: {error}')

    def _export(self, export: _Export, deadline: Deadline) -> None:
        name = export.request.name
        if changed := export.changed():
            msg = f"files of its context changed after the build: {listed(changed)}"
            raise KindInfraError(msg)
        tools, log = self._context.tools, self._context.run.path / "build" / f"{name}.cache.log"
        says, reached = partial(last_line, log), partial(last_step, log)
        with tools.timeline.span("export", name, says=says, reached=reached) as span:
            try:
                tools.engine.build(export.request, deadline=deadline, log=log)
            except CommandError as error:
                said = tools.redactor.text(last_lines(error.output, 1).strip())
                span.note = f"build cache not exported: {said}"[:_NOTE]
                raise error.with_remedy(_remedy(export.request, error.output)) from None

    def _say(self, text: str) -> None:
        self._context.hooks.say(self._context.tools.redactor.text(text))


def _mistakes(key: str, text: str) -> Iterator[str]:
    """Yield what is wrong with a value whose variables are replaced."""
    if "=" not in text:  # a reference, or nothing
        return
    fields = _fields(text)
    kind = fields.get("type")
    if not kind:
        yield "it has no type; write type=registry,ref=REFERENCE"
    elif kind == "registry" and not fields.get("ref"):
        yield "type=registry needs ref=REFERENCE"
    elif (key, kind) == ("cache_to", "inline"):
        yield (
            "such a cache is a part of the image and cannot be exported later; write"
            ' "--cache-to=type=inline" in build_options'
        )


def _fields(text: str) -> dict[str, str]:
    pairs = (field.partition("=") for field in text.split(","))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _remedy(request: BuildRequest, output: str) -> str:
    """Return what to do about an export that failed."""
    if "export is not supported" in output:
        return (
            "name a builder that can export caches (--kindinfra-builder), or have the engine keep"
            f" images in containerd's image store, or remove cache_to from [images.{request.name}]"
        )
    if _REFUSED_INDEX.search(output):
        return (
            f"add image-manifest=true to cache_to in [images.{request.name}]: the registry takes no"
            " other form of caches"
        )
    references = [_fields(value).get("ref", "") for value in request.cache_to]
    hosts = [reference.partition("/")[0] for reference in references if reference]
    if hosts:
        return remedy_of_registry(output, hosts[0])
    return f"correct cache_to in [images.{request.name}], or remove it"
