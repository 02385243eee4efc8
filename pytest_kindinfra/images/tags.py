"""The names of images: by their content, and a further tag by the user's template."""

from __future__ import annotations

import getpass
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.content import bases_of, content_of, file_tag, read_source
from pytest_kindinfra.images.names import content_name, context_tag
from pytest_kindinfra.plan.buildoptions import with_images
from pytest_kindinfra.references import is_tag, split
from pytest_kindinfra.state.records import GitState
from pytest_kindinfra.system.timeline import Deadline, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.images.content import BuildSource, Content
    from pytest_kindinfra.images.digests import Digests
    from pytest_kindinfra.model import BuiltImage, Image, Plan
    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.system.runner import Runner


_FOREIGN = re.compile(r"[^\w.-]", re.ASCII)


_NO_COMMIT = "nogit"


_COMMIT_DIGITS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What fields of a template stand for, the same for all images of a run.

    Attributes:
        user: Who runs it.
        commit: The commit that is checked out, None without git.
        time: When the run began, in whole seconds since the epoch.
        random: Letters and digits that no other run has.
    """

    user: str
    commit: str | None
    time: int
    random: str


def make_tag(template: str, *, image: str, content: str, around: Circumstances) -> str:
    """Return the tag of one image.

    Args:
        template: Text with fields in braces.
        image: The declared name, which `{service}` stands for.
        content: The tag that is its content.
        around: The other fields.

    Raises:
        KindInfraError: That is no tag: too long.
    """
    values = {
        "service": image,
        "user": _FOREIGN.sub("-", around.user),
        "git": (around.commit or _NO_COMMIT)[:_COMMIT_DIGITS],
        "time": str(around.time),
        "content": content,
        "random": around.random,
    }
    tag = template.format_map(values)
    if not is_tag(tag):
        msg = (
            f'image "{image}": the template "{template}" makes "{tag}", which is no tag\n'
            "To fix: a shorter template; a tag has 128 characters at most"
        )
        raise KindInfraError(msg)
    return tag


_GIT_SECONDS = 10.0


def read_git_state(folder: Path, runner: Runner, deadline: Deadline) -> GitState | None:
    """Return the state of the checkout that `folder` is in, None without one."""
    commit = _ask(("rev-parse", "--verify", "HEAD"), folder, runner, deadline)
    if not commit:
        return None
    # Without optional locks, or it might be in the way of git in another terminal.
    changes = _ask(("--no-optional-locks", "status", "--porcelain"), folder, runner, deadline)
    return GitState(commit=commit, dirty=None if changes is None else bool(changes))


def _ask(words: tuple[str, ...], folder: Path, runner: Runner, deadline: Deadline) -> str | None:
    argv = ["git", "-C", str(folder), *words]
    try:
        return runner.run(argv, deadline=deadline.within(_GIT_SECONDS)).stdout.strip()
    except (KindInfraError, OSError):
        return None


PENDING = "pending: not known until its base image has been pulled"
"""In place of a name by what an image is built from."""


_SECONDS = 10.0


_PATIENCE = 3.0
"""Seconds for the engine to answer at all: the plan needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """What a build of an image would make.

    Attributes:
        reference: Its name by what it is built from.
        source: What it is built from.
        content: What was found in its files.
        contexts: What the Dockerfile calls declared images, to their references.
        options: `build_options` with the references of declared images.
        bases: The other images, to their ids; empty for one that the engine has not got.
    """

    reference: str
    source: BuildSource
    content: Content
    contexts: dict[str, str]
    options: tuple[str, ...]
    bases: dict[str, str]

    def named_by(self, named: Mapping[str, str]) -> str:
        """Return its name where the declared images that it starts from have other references."""
        name = self.reference.partition(":")[0]
        return f"{name}:{context_tag(self.content.digest, {**self.bases, **named})}"


def tag_image(
    image: Image,
    *,
    named: Mapping[str, str],
    folder: Path,
    ids: Callable[[Sequence[str]], Mapping[str, str]],
    names: Mapping[str, Sequence[str]] | None = None,
    digests: Digests | None = None,
) -> Tagged:
    """Return what a build of an image would make.

    Args:
        image: A declared image that is built.
        named: The declared images that it starts from, to their references.
        folder: Where relative paths start.
        ids: Gives the ids of the other images that it starts from, as far as they are known.
        names: Declared images to the further names that a Dockerfile may call them.
        digests: Knows those of files that were read before.

    Raises:
        KindInfraError: A file cannot be read.
    """
    source = read_source(image, folder=folder)
    further = {name: (names or {}).get(name, ()) for name in named}
    found = bases_of(image, source, names=further)
    known = ids(found.external)
    bases = {reference: known.get(reference, "") for reference in found.external}
    content = content_of(image, source, digests=digests)
    called = {reference: named[name] for reference, name in found.declared.items()}
    return Tagged(
        reference=f"localhost/{image.name}:{context_tag(content.digest, {**bases, **named})}",
        source=source,
        content=content,
        contexts={**named, **called},
        options=with_images(source.options, called.get),
        bases=bases,
    )


def further_names(images: Iterable[Image]) -> dict[str, tuple[str, ...]]:
    """Return the further names of declared images, for `tag_image`."""
    return {image.name: image.names for image in images}


def archive_reference(image: Image, *, folder: Path, digests: Digests | None = None) -> str:
    """Return the name, by its file, of an image that comes as an archive.

    Raises:
        OSError: It cannot be read.
    """
    tag = file_tag(folder / (image.archive or ""), digests)
    return f"localhost/{image.name}:{tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What can be said of a plan's images before a run.

    Attributes:
        tags: Image to its reference; without one in the engine, to its name by what it would be
            built from, or to why that is not known yet.
        contexts: Image to that name in any case.
        engine: The engine's name.
        there: The references that the engine has, built and external ones; None if it did not
            answer.
    """

    tags: dict[str, str]
    engine: str
    there: frozenset[str] | None
    contexts: dict[str, str] = field(default_factory=dict)


def look_up(plan: Plan, engine: Engine) -> Known:
    """Return the references of a plan's images, and which of them the engine has.

    An engine that is missing or does not answer soon is no error.
    """
    answering = engine if _answers(engine) else None
    contexts: dict[str, str] = {}
    for image in plan.images:
        contexts[image.name] = image.prebuilt or _by_context(image, plan, contexts, answering)
    tags = {**contexts, **_built(plan, contexts, answering)}
    references = [*tags.values(), *(one for found in plan.external.values() for one in found)]
    wanted = list(dict.fromkeys(one for one in references if one != PENDING))
    there = None if answering is None else frozenset(_ids(answering, wanted))
    return Known(tags=tags, engine=engine.name, there=there, contexts=contexts)


def _built(plan: Plan, contexts: Mapping[str, str], engine: Engine | None) -> dict[str, str]:
    """Return the references of those images that the engine has already."""
    wanted = {one.name: contexts[one.name] for one in plan.images if not one.prebuilt}
    if engine is None:
        return {}
    with suppress(KindInfraError):
        asked = [one for one in wanted.values() if one != PENDING]
        found = engine.image_contents(asked, Deadline.after(_SECONDS))
        there = {name: found[one] for name, one in wanted.items() if one in found}
        return {name: content_name(name, content) for name, content in there.items()}
    return {}


def _answers(engine: Engine) -> bool:
    with suppress(KindInfraError):
        return bool(engine.check(Deadline.after(_PATIENCE)))
    return False


def _ids(engine: Engine | None, references: Sequence[str]) -> Mapping[str, str]:
    with suppress(KindInfraError):
        return engine.image_ids(references, Deadline.after(_SECONDS)) if engine else {}
    return {}


def _by_context(image: Image, plan: Plan, tags: Mapping[str, str], engine: Engine | None) -> str:
    folder = plan.declaration.folder
    if image.archive:
        return archive_reference(image, folder=folder)
    named = {name: tags[name] for name in image.needs}
    if PENDING in named.values():
        return PENDING
    names = further_names(plan.declaration.images)
    ids = partial(_ids, engine)
    tagged = tag_image(image, named=named, folder=folder, ids=ids, names=names)
    return tagged.reference if all(tagged.bases.values()) else PENDING


_RANDOM_BYTES = 8


def ask_circumstances(context: Context) -> Circumstances:
    """Return what the fields of a tag template stand for; what git says goes to run.json too."""
    began = int(now())
    git = read_git_state(context.request.folder, context.tools.runner, context.deadline())
    if git:
        context.run.write(git)
    return Circumstances(
        user=_user(),
        commit=git.commit if git else None,
        time=began,
        random=secrets.token_hex(_RANDOM_BYTES),
    )


def add_name(
    built: BuiltImage, context: Context, circumstances: Callable[[], Circumstances]
) -> BuiltImage:
    """Give an image that this project builds the further name by the run's template, if any.

    The name by content stays, and is the one that pods run: with a new one for each run no image
    would ever be known to be in the kind nodes already.

    Args:
        built: The image.
        context: The bring-up.
        circumstances: Waits for what the fields stand for; called only if there is a template.
    """
    template = context.request.tag
    repository, content = split(built.reference)
    if template is None or repository != f"localhost/{built.name}":  # a prebuilt one
        return built
    tag = make_tag(template, image=built.name, content=content, around=circumstances())
    name = f"{repository}:{tag}"
    context.tools.engine.tag(built.reference, name, context.deadline())
    return replace(built, also=(name,))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "nobody"
