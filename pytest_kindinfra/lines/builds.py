"""The images' lines as far as the engine: built as soon as their bases are, or found."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.buildsecrets import build_secrets
from pytest_kindinfra.digests import Digests
from pytest_kindinfra.durations import keep_durations, read_durations
from pytest_kindinfra.imagesizes import keep_sizes
from pytest_kindinfra.imageuses import ImageUse, note_use
from pytest_kindinfra.lines.context import needed
from pytest_kindinfra.lines.names import Names
from pytest_kindinfra.ranking import build_ranks
from pytest_kindinfra.references import name_in_node
from pytest_kindinfra.results import BROKEN
from pytest_kindinfra.savedimages import read_saved_images
from pytest_kindinfra.slots import BuildSlots
from pytest_kindinfra.steps.build import Workshop, build_image
from pytest_kindinfra.steps.find import Shelf, find_images
from pytest_kindinfra.tags import further_names
from pytest_kindinfra.timeline import call_within, now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future, ThreadPoolExecutor

    from pytest_kindinfra.imagesizes import Layers
    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.model import BuiltImage, Image


class Builds:
    """All images of a run on their way into the engine.

    Attributes:
        built: Name to the image, as soon as the engine has it; filled by `begin`.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._problems: list[str] = []
        self._ranks = build_ranks(context.plan, self._recall())
        self._digests = Digests(context.request.cache)
        self._found: dict[str, BuiltImage] = {}
        self.built: dict[str, Future[BuiltImage]] = {}

    def look(self) -> None:
        """Where nothing is built: find every image, or say all that are missing.

        It belongs to the set-up, since without images a cluster is made for nothing.

        Raises:
            KindInfraError: Some are missing.
        """
        request = self._context.request
        if not request.no_build:
            return
        saved = request.images and (request.images, read_saved_images(request.images))
        shelf = Shelf(
            folder=request.folder,
            engine=self._context.tools.engine,
            digests=self._digests,
            saved=saved or None,
            names=further_names(self._context.plan.images),
        )
        self._found = find_images(
            self._context.plan, shelf, before=self._call_hook, deadline=self._context.deadline
        )

    def begin(self, pool: ThreadPoolExecutor, ready: Future[Any]) -> None:
        """Begin with all images; each waits for `ready`, which says that there is an engine."""
        self._ready = ready
        self._names = Names(self._context, pool)
        self._workshop = self._make_workshop()
        for image in self._wanted:  # bases come first
            self.built[image.name] = pool.submit(self._bring, image)

    @property
    def _wanted(self) -> tuple[Image, ...]:
        """The images to have; where nothing is built, bases that no service runs are not needed."""
        plan = self._context.plan
        if not self._context.request.no_build:
            return plan.images
        run = {name for service in plan.services for name in service.images}
        return tuple(image for image in plan.images if image.name in run)

    def remember(self, layers: Mapping[str, Layers] | None = None) -> None:
        """Keep what later runs want to know; call it when all is done.

        Args:
            layers: Full reference of an image to its layers, where they were seen.
        """
        if (cache := self._context.request.cache) is None:
            return
        phases = self._context.tools.timeline.phases
        self._note(keep_durations(cache, self._context.plan.declaration, phases))
        self._note(keep_sizes(cache, self._context.request.folder, self._named(layers or {})))
        problems = [*self._problems, *self._digests.keep()]
        self._context.run.write("memory", {"folder": str(cache), "problems": problems})

    def _named(self, layers: Mapping[str, Layers]) -> dict[str, Layers]:
        """Return them by declared name where there is one: tags are others in the next run."""
        built = (one.result() for one in self.built.values() if one.done() and not one.exception())
        names = {name_in_node(one.reference): one.name for one in built}
        return {names.get(reference, reference): found for reference, found in layers.items()}

    def _make_workshop(self) -> Workshop:
        context = self._context
        return Workshop(
            folder=context.request.folder,
            output=context.run.path / "build",
            engine=context.tools.engine,
            slots=BuildSlots(context.request.build_jobs),
            timeline=context.tools.timeline,
            digests=self._digests,
            names=further_names(context.plan.images),
            anew=context.request.build_anew,
        )

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

    def _bring(self, image: Image) -> BuiltImage:
        try:
            needed("the set-up", self._ready)
            built = self._names.add_to(self._build_or_take(image))
        except BaseException as error:
            subject = f'image "{image.name}"'
            self._context.failure.note(subject, error)
            record = self._context.failure_record(error, subject=subject)
            self._context.run.write(f"{BROKEN}{image.name}", record)
            raise
        self._context.run.write(f"image-{image.name}", asdict(built))
        self._note_use(built)
        return built

    def _note_use(self, built: BuiltImage) -> None:
        """Keep that it is used, so that `kindinfra gc --images` leaves it alone."""
        if cache := self._context.request.cache:
            use = ImageUse(run=self._context.run.path, at=now())
            self._problems += note_use(cache, (built.reference, *built.also), use)

    def _build_or_take(self, image: Image) -> BuiltImage:
        if self._context.request.no_build:
            return self._found[image.name]
        bases = [needed(f'image "{name}"', self.built[name]) for name in image.needs]
        self._call_hook(image)
        secrets = build_secrets(image, folder=self._context.request.folder)
        self._context.tools.redactor.learn(secrets)  # the hook may have set a variable
        return build_image(
            image,
            bases=bases,
            workshop=self._workshop,
            rank=self._ranks[image.name],
            deadline=self._context.deadline,
        )

    def _call_hook(self, image: Image) -> None:
        call_within(
            lambda: self._context.hooks.before_build(image),
            self._context.deadline(),
            what=f'a hook for image "{image.name}"',
        )
