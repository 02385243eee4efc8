"""The images' lines as far as the engine: built as soon as their bases are."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pytest_kindinfra.digests import Digests
from pytest_kindinfra.durations import keep_durations, read_durations
from pytest_kindinfra.lines.context import needed
from pytest_kindinfra.lines.names import Names
from pytest_kindinfra.ranking import build_ranks
from pytest_kindinfra.results import BROKEN, failure_record
from pytest_kindinfra.slots import BuildSlots
from pytest_kindinfra.steps.build import Workshop, build_image
from pytest_kindinfra.timeline import call_within

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.model import BuiltImage, Image


class Builds:
    """All images of a run on their way into the engine.

    Attributes:
        built: Name to the image, as soon as the engine has it.
    """

    def __init__(self, context: Context, pool: ThreadPoolExecutor, ready: Future[None]) -> None:
        """Begin; each image waits for `ready`, which says that there is an engine."""
        self._context = context
        self._ready = ready
        self._problems: list[str] = []
        self._ranks = build_ranks(context.plan, self._recall())
        self._digests = Digests(context.request.cache)
        self._workshop = Workshop(
            folder=context.request.folder,
            output=context.run.path / "build",
            engine=context.tools.engine,
            slots=BuildSlots(context.request.build_jobs),
            timeline=context.tools.timeline,
            digests=self._digests,
        )
        self._names = Names(context, pool)
        self.built: dict[str, Future[BuiltImage]] = {}
        for image in context.plan.images:  # bases come first
            self.built[image.name] = pool.submit(self._build, image)

    def remember(self) -> None:
        """Keep what saves time in later runs; call it when all is done."""
        if (cache := self._context.request.cache) is None:
            return
        phases = self._context.tools.timeline.phases
        self._note(keep_durations(cache, self._context.plan.declaration, phases))
        problems = [*self._problems, *self._digests.keep()]
        self._context.run.write("memory", {"folder": str(cache), "problems": problems})

    def _recall(self) -> dict[str, float]:
        """Return how long things took in earlier runs."""
        if (cache := self._context.request.cache) is None:
            return {}
        seconds, problem = read_durations(cache, self._context.request.folder)
        self._note(problem)
        return seconds

    def _note(self, problem: str | None) -> None:
        if problem:
            self._problems.append(problem)

    def _build(self, image: Image) -> BuiltImage:
        try:
            return self._build_on_bases(image)
        except BaseException as error:
            subject, failure = f'image "{image.name}"', self._context.failure
            failure.note(subject, error)
            record = failure_record(failure.explain(error), subject=subject)
            self._context.run.write(f"{BROKEN}{image.name}", record)
            raise

    def _build_on_bases(self, image: Image) -> BuiltImage:
        context = self._context
        needed("the set-up", self._ready)
        bases = [needed(f'image "{name}"', self.built[name]) for name in image.needs]
        call_within(
            lambda: context.hooks.before_build(image),
            context.deadline(),
            what=f'a hook for image "{image.name}"',
        )
        built = self._names.add_to(self._bring(image, bases))
        context.run.write(f"image-{image.name}", asdict(built))
        return built

    def _bring(self, image: Image, bases: list[BuiltImage]) -> BuiltImage:
        return build_image(
            image,
            bases=bases,
            workshop=self._workshop,
            rank=self._ranks[image.name],
            deadline=self._context.deadline,
        )
