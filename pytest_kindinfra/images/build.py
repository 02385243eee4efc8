"""How images come into the engine: built once per content, in the order that ends soonest.

A build's rank is the longest path behind it: images that start from it, services that run it, and
services that need those.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CommandError, ImageMissingError, KindInfraError
from pytest_kindinfra.images.archive import load_image_file
from pytest_kindinfra.images.buildlog import last_line, last_step
from pytest_kindinfra.images.checks import chosen_builder
from pytest_kindinfra.images.content import content_of, write_ignore_file
from pytest_kindinfra.images.digests import Digests
from pytest_kindinfra.images.dockerfile import build_secrets, unshown_arguments
from pytest_kindinfra.images.names import find_by_context, give_names
from pytest_kindinfra.images.saved import ImageSources, find_images, read_saved_images
from pytest_kindinfra.images.slots import BuildSlots
from pytest_kindinfra.images.store import open_store
from pytest_kindinfra.images.tags import add_name, archive_reference, further_names, tag_image
from pytest_kindinfra.model import BuiltImage
from pytest_kindinfra.protocols import BuildRequest
from pytest_kindinfra.references import name_in_node
from pytest_kindinfra.state.memory import (
    ImageUse,
    keep_durations,
    keep_sizes,
    note_use,
    read_durations,
)
from pytest_kindinfra.state.records import CacheUsed, ImageFailed, ImageReady
from pytest_kindinfra.system.timeline import PHASE_KINDS, call_within, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.images.store import ImageStore
    from pytest_kindinfra.images.tags import Circumstances, Tagged
    from pytest_kindinfra.model import Image, Plan
    from pytest_kindinfra.protocols import Engine
    from pytest_kindinfra.state.memory import Layers
    from pytest_kindinfra.system.timeline import Deadline, Timeline


_Node = tuple[str, str]
"""`image` or `service`, and its name."""


def build_ranks(plan: Plan, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return, for each image of the plan, the seconds of its longest remaining path.

    Args:
        plan: Images and services, each after what it needs.
        seconds: Phase to its seconds in an earlier run. Without any, the mean of others counts.
    """
    needs = _needs(plan)
    own = {
        **_filled({node: _known(node, seconds) for node in needs if node[0] == "image"}),
        **_filled({node: _known(node, seconds) for node in needs if node[0] == "service"}),
    }
    paths = dict(own)
    for node in reversed(needs):  # those that wait for it come before it
        for need in needs[node]:
            paths[need] = max(paths[need], own[need] + paths[node])
    return {image.name: paths["image", image.name] for image in plan.images}


def _needs(plan: Plan) -> dict[_Node, list[_Node]]:
    """Return what each image and service waits for; each stands after that."""
    images: dict[_Node, list[_Node]] = {
        ("image", image.name): [("image", name) for name in image.needs] for image in plan.images
    }
    services: dict[_Node, list[_Node]] = {
        ("service", service.name): [
            *(("image", name) for name in service.images),
            *(("service", need.name) for need in service.needs),
        ]
        for service in plan.services
    }
    return {**images, **services}


def _known(node: _Node, seconds: Mapping[str, float]) -> float | None:
    kind, name = node
    phases = (f"{verb} {name}" for verb, one in PHASE_KINDS.items() if one.ranks == kind)
    known = [seconds[phase] for phase in phases if phase in seconds]
    return sum(known) if known else None


def _filled(seconds: Mapping[_Node, float | None]) -> dict[_Node, float]:
    usual = _mean(value for value in seconds.values() if value is not None)
    return {node: usual if value is None else value for node, value in seconds.items()}


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 1.0


ATTEMPTS = 3
"""Builds of one image whose files change while it is built, before that is an error."""


_FILES_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSetup:
    """What builds of one run have in common.

    Attributes:
        folder: Where relative paths start.
        output: The run's folder for build logs.
        engine: Builds the images.
        slots: Limits the number of builds at a time.
        timeline: Gets a `build` phase if something is built.
        digests: Digests of the files that images are built from.
        anew: Build without any cache, also what the engine has.
        names: Declared images to the further names that a Dockerfile may call them.
        store: The registry of images, None without one.
        builder: Builds the images whose options name none; None for the engine's own.
    """

    folder: Path
    output: Path
    engine: Engine
    slots: BuildSlots
    timeline: Timeline
    digests: Digests = field(default_factory=Digests)
    anew: bool = False
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    store: ImageStore | None = None
    builder: str | None = None


def build_image(
    image: Image,
    *,
    bases: Sequence[BuiltImage],
    setup: BuildSetup,
    deadline: Callable[[float | None], Deadline],
    rank: float = 0.0,
) -> BuiltImage:
    """Return the image; build it unless the engine has it from the same sources and bases.

    Args:
        image: What was declared.
        bases: The declared images that it starts FROM, built.
        setup: Where it is built.
        deadline: Makes the deadline of a piece of work that begins now and may take so many
            seconds (None: the usual ones), so that waiting for a slot does not count.
        rank: Of those that wait for a slot, who has more goes first.

    Raises:
        CommandError: The build failed.
        KindInfraError: The context cannot be read, or its files do not stay as they are.
    """
    engine = setup.engine
    if image.prebuilt:
        return _prebuilt(image, engine, deadline(None))
    if image.archive:
        return _from_archive(image, setup, deadline(None))
    weight = None if image.exclusive else image.weight
    with setup.slots.queue(rank=rank, weight=weight) as place:
        changed: list[str] = []
        for _ in range(ATTEMPTS):
            tagged = _tagged(image, bases, setup, deadline)
            contexts = _contexts(tagged, bases)
            if not setup.anew and (found := _found(image, contexts, tagged, setup, deadline)):
                return found
            request = _request(image, tagged, bases, setup)
            with setup.slots.turn(place, deadline(None)):
                _build(image, request, setup, deadline(image.timeout))
            reference = ""
            if not (changed := _changed_since(image, tagged, setup)):
                reference = give_names(
                    engine, image.name, request.reference, contexts, deadline(None)
                )
            _drop(request.reference, engine, deadline(None))
            if reference:
                return _built(image, reference, contexts, tagged, cached=False)
    raise KindInfraError(_unsteady(image, changed))


def _found(
    image: Image,
    contexts: tuple[str, ...],
    tagged: Tagged,
    setup: BuildSetup,
    deadline: Callable[[float | None], Deadline],
) -> BuiltImage | None:
    """Return an image that was built before, here or by another machine that pushed it."""
    there = find_by_context(setup.engine, image.name, contexts[::-1], deadline(None))
    pushed = setup.store.find(image, contexts) if setup.store else None
    if reference := there or pushed:
        found = _built(image, reference, contexts, tagged, cached=True)
        return replace(found, pushed=pushed or "")
    return None


def _tagged(
    image: Image,
    bases: Sequence[BuiltImage],
    setup: BuildSetup,
    deadline: Callable[[float | None], Deadline],
) -> Tagged:
    return tag_image(
        image,
        named={base.name: base.reference for base in bases},
        folder=setup.folder,
        ids=lambda references: setup.engine.image_ids(references, deadline(None)),
        names=setup.names,
        digests=setup.digests,
    )


def _contexts(tagged: Tagged, bases: Sequence[BuiltImage]) -> tuple[str, ...]:
    """Return the names of an image by what it is built from; see `BuiltImage.contexts`.

    The last one decides whether it is built: a base that was built again with the same content
    changes nothing. The first one can be told without the bases.
    """
    by_sources = tagged.named_by({base.name: base.by_sources for base in bases})
    return tuple(dict.fromkeys([by_sources, tagged.reference]))


def _built(
    image: Image, reference: str, contexts: tuple[str, ...], tagged: Tagged, *, cached: bool
) -> BuiltImage:
    return BuiltImage(
        name=image.name,
        reference=reference,
        cached=cached,
        bases=tagged.bases,
        contexts=contexts,
    )


def _build(image: Image, request: BuildRequest, setup: BuildSetup, deadline: Deadline) -> None:
    log, seconds = setup.output / f"{request.name}.log", deadline.left
    says, reached = partial(last_line, log), partial(last_step, log)
    with setup.timeline.span("build", request.name, says=says, reached=reached):
        try:
            setup.engine.build(request, deadline=deadline, log=log)
        except CommandError as error:
            if error.exit_code is not None:
                raise
            output = f"{error.output.rstrip()}\n{_too_slow(image, seconds)}"
            raise error.about(output) from None


def _too_slow(image: Image, seconds: float) -> str:
    place = f"timeout in [images.{image.name}]"
    said, fix = (
        (place, f"raise {place}")
        if image.timeout
        else ("--kindinfra-timeout", f"raise --kindinfra-timeout, or set {place}")
    )
    return f"It was stopped after {seconds:.0f} s, the limit of {said}\nTo fix: {fix}"


def _changed_since(image: Image, tagged: Tagged, setup: BuildSetup) -> list[str]:
    """Return the files that changed since an image was tagged; a change undone is one too.

    The Dockerfile and the ignore file are copies, so that those cannot change.
    """
    try:
        now = content_of(image, tagged.source, digests=setup.digests)
    except KindInfraError as error:  # one went while it was looked at
        return [getattr(error.__cause__, "filename", None) or str(error)]
    return tagged.content.changed_in(now)


def _drop(reference: str, engine: Engine, deadline: Deadline) -> None:
    """Take the name that was for the build alone; `kindinfra gc --images` takes one that stays."""
    with suppress(CommandError):
        engine.remove(reference, deadline)


def _unsteady(image: Image, changed: Sequence[str]) -> str:
    """Return the message about files that change during each build."""
    named = ", ".join(f'"{name}"' for name in changed[:_FILES_NAMED])
    more = f" and {len(changed) - _FILES_NAMED} more" if len(changed) > _FILES_NAMED else ""
    return (
        f'image "{image.name}": it was built {ATTEMPTS} times, and each time files of its context'
        f" changed during the build, so its content is unknown: {named}{more}\n"
        "To fix: stop the program that writes there, or exclude these files: `ignore` in "
        f"[images.{image.name}], or .dockerignore"
    )


def _request(
    image: Image, tagged: Tagged, bases: Sequence[BuiltImage], setup: BuildSetup
) -> BuildRequest:
    source, builder = tagged.source, chosen_builder(image, setup.builder)
    pushed = {base.reference: base.pushed for base in bases if builder and base.pushed}
    return BuildRequest(
        name=image.name,
        reference=f"{tagged.reference}-{secrets.token_hex(4)}",
        context=source.context,
        dockerfile=write_ignore_file(source, into=setup.output / image.name),
        target=image.target,
        build_args=source.build_args,
        unshown=unshown_arguments(image),
        contexts={name: pushed.get(one, one) for name, one in tagged.contexts.items()},
        options=(*tagged.options, *builder, *(("--no-cache",) if setup.anew else ())),
        bases=tuple(tagged.bases),
        folder=setup.folder,
        source=source.dockerfile,
    )


def _from_archive(image: Image, setup: BuildSetup, deadline: Deadline) -> BuiltImage:
    """Load the archive into the engine, once for each content of the file."""
    context = archive_reference(image, folder=setup.folder, digests=setup.digests)
    reference = find_by_context(setup.engine, image.name, [context], deadline)
    if reference is None:
        path = setup.folder / (image.archive or "")
        load_image_file(path, context, setup.engine, deadline)
        reference = give_names(setup.engine, image.name, context, [context], deadline)
    return BuiltImage(name=image.name, reference=reference, cached=True, contexts=(context,))


def _prebuilt(image: Image, engine: Engine, deadline: Deadline) -> BuiltImage:
    reference = image.prebuilt or ""
    if not engine.image_ids([reference], deadline):
        msg = (
            f'image "{image.name}": the prebuilt "{reference}" is not in the engine\n'
            f"To fix: {engine.name} pull {reference}"
        )
        raise ImageMissingError(msg)
    return BuiltImage(name=image.name, reference=reference, cached=True)


class Builds:
    """How the images of a run come into the engine: built, found, or named by the user."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._problems: list[str] = []
        self._ranks = build_ranks(context.plan, self._recall())
        self._digests = Digests(context.request.cache)
        self._found: dict[str, BuiltImage] = {}
        self._store = open_store(context)
        self._setup = self._make_setup()

    def find(self) -> None:
        """Where nothing is built: find every image, or say all that are missing.

        It belongs to the set-up, since without images a cluster is made for nothing.

        Raises:
            KindInfraError: Some are missing.
        """
        request = self._context.request
        if not request.no_build:
            return
        saved = request.images and (request.images, read_saved_images(request.images))
        sources = ImageSources(
            folder=request.folder,
            engine=self._context.tools.engine,
            digests=self._digests,
            saved=saved or None,
            names=further_names(self._context.plan.images),
            store=self._store,
        )
        self._found = find_images(
            self._context.plan, sources, before=self._call_hook, deadline=self._context.deadline
        )

    @property
    def wanted(self) -> tuple[Image, ...]:
        """The images to have; where nothing is built, bases that no service runs are not needed."""
        plan = self._context.plan
        if not self._context.request.no_build:
            return plan.images
        run = {name for service in plan.services for name in service.images}
        return tuple(image for image in plan.images if image.name in run)

    def remember(
        self, built: Iterable[BuiltImage], layers: Mapping[str, Layers] | None = None
    ) -> None:
        """Keep what makes later runs quicker: durations, sizes and digests.

        Args:
            built: The images that this run brought.
            layers: Full reference of an image to its layers (digest to bytes), if they were seen.
        """
        if (cache := self._context.request.cache) is None:
            return
        phases = self._context.tools.timeline.phases
        self._note(keep_durations(cache, self._context.plan.declaration, phases))
        self._note(keep_sizes(cache, self._context.request.folder, _named(layers or {}, built)))
        problems = (*self._problems, *self._digests.keep())
        self._context.run.write(CacheUsed(folder=cache, problems=problems))

    def _make_setup(self) -> BuildSetup:
        context = self._context
        return BuildSetup(
            folder=context.request.folder,
            output=context.run.path / "build",
            engine=context.tools.engine,
            slots=BuildSlots(context.request.build_jobs),
            timeline=context.tools.timeline,
            digests=self._digests,
            names=further_names(context.plan.images),
            anew=context.request.build_anew,
            store=self._store,
            builder=context.request.builder,
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

    def bring(
        self,
        image: Image,
        bases: Sequence[BuiltImage],
        circumstances: Callable[[], Circumstances],
    ) -> BuiltImage:
        """Build an image unless its content was built before, push it, and return it.

        Args:
            image: The image.
            bases: The declared images that it starts from.
            circumstances: Waits for what the fields of a tag template stand for.

        Raises:
            KindInfraError: It could not be built.
        """
        built = add_name(self._build_or_find(image, bases), self._context, circumstances)
        if self._store:
            built = self._store.keep(image, built, anew=self._setup.anew)
        self._context.run.write(ImageReady(image=built), image.name)
        self._note_use(built)
        return built

    def note_failure(self, image: Image, error: BaseException) -> None:
        """Leave the reason why an image failed for reports."""
        subject = f'image "{image.name}"'
        self._context.failure.note(subject, error)
        failure = self._context.failure_of(error, subject=subject, kind=ImageFailed)
        self._context.run.write(failure, image.name)

    def _note_use(self, built: BuiltImage) -> None:
        """Keep that it is used, so that `kindinfra gc --images` leaves it alone."""
        if cache := self._context.request.cache:
            use = ImageUse(run=self._context.run.path, at=now())
            self._problems += note_use(cache, built.names, use)

    def _build_or_find(self, image: Image, bases: Sequence[BuiltImage]) -> BuiltImage:
        request = self._context.request
        if image.prebuilt and request.existing and not request.existing.nodes:
            # The cluster pulls it, and so does a build on top of it.
            return BuiltImage(name=image.name, reference=image.prebuilt, cached=True)
        if request.no_build:
            return self._found[image.name]
        self._call_hook(image)
        secrets = build_secrets(image, folder=self._context.request.folder)
        self._context.tools.redactor.learn(secrets)  # the hook may have set a variable
        return build_image(
            image,
            bases=bases,
            setup=self._setup,
            rank=self._ranks[image.name],
            deadline=self._context.deadline,
        )

    def _call_hook(self, image: Image) -> None:
        call_within(
            lambda: self._context.hooks.before_build(image),
            self._context.deadline(),
            what=f'a hook for image "{image.name}"',
        )


def _named(layers: Mapping[str, Layers], built: Iterable[BuiltImage]) -> dict[str, Layers]:
    """Return layers by declared name where there is one: the next run has other tags."""
    names = {name_in_node(one.reference): one.name for one in built}
    return {names.get(reference, reference): found for reference, found in layers.items()}
