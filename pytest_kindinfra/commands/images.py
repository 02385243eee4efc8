"""The stages as functions, for scripts and for the `kindinfra` command: without pytest.

    from pytest_kindinfra import build_images, resolve

    plan = resolve(folder="shop", services=["web"])
    images = build_images(plan)
    print(images["web"].reference)

Options come from the arguments, else from the environment and the declaration, as in a test run.
Hooks are not called: they live in conftest files, which only pytest reads.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.context import Hooks, new_context
from pytest_kindinfra.errors import CancelledError, DeclarationError, KindInfraError
from pytest_kindinfra.images import saved as save
from pytest_kindinfra.images.build import Builds
from pytest_kindinfra.images.secrets import build_secrets
from pytest_kindinfra.plan.options import Settings, ignored_by
from pytest_kindinfra.plan.settings import read_settings
from pytest_kindinfra.run.prepare import Door, prepare, read_declaration
from pytest_kindinfra.run.recipe import add_builds
from pytest_kindinfra.run.tasks import Tasks, given
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.results import BlockedError, text_of, verb_of
from pytest_kindinfra.state.runnames import new_run_id
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_kindinfra.context import Context, Tools
    from pytest_kindinfra.images.saved import SavedImage
    from pytest_kindinfra.model import BuiltImage, Declaration, Phase, Plan
    from pytest_kindinfra.run.prepare import Prepared


_ASKING = ("this call",)
"""Who needs the services, for messages that else name tests."""


def resolve(*, folder: Path | str = ".", services: Iterable[str] | None = None) -> Plan:
    """Return what bringing services up takes: images and services in order, objects, ports.

    Args:
        folder: Where the declaration is: `kindinfra.toml`, or `pyproject.toml`.
        services: Their names; None means all that is declared, images that no service runs too.

    Raises:
        DeclarationError: Something in it cannot work, or a service is not declared; all problems.
    """
    door = Door(purpose="resolve", ignored=ignored_by("functions"))
    return prepare_services(folder, services, options={}, door=door).plan


def prepare_services(
    folder: Path | str,
    services: Iterable[str] | None,
    *,
    options: Mapping[str, Any],
    door: Door,
) -> Prepared:
    """Prepare services by their names, None for all that is declared in `folder`.

    Args:
        folder: Where the declaration is.
        services: Their names; None means all, and images that no service runs too.
        options: As for `given_options`.
        door: What differs between the callers.

    Raises:
        DeclarationError: With all problems.
    """
    declaration = read_declaration(Path(folder).resolve())
    if declaration.source is None:
        problem = f"{declaration.folder} has no kindinfra.toml and no [tool.kindinfra] table"
        raise DeclarationError([problem])
    names = [one.name for one in declaration.services] if services is None else services
    return prepare(
        declaration,
        dict.fromkeys(names, _ASKING),
        option=given_options(options),
        door=replace(door, unused_images=services is None),
    )


def build_images(
    plan: Plan,
    *,
    jobs: int | None = None,
    timeout: float | None = None,
    tag: str | None = None,
    no_cache: bool = False,
    artifacts: Path | str | None = None,
    progress: Callable[[Phase, bool], None] | None = None,
) -> dict[str, BuiltImage]:
    """Build the images of a plan, in parallel, unless the engine has them; no cluster is made.

    An image is named after its content, so that nothing is built that this or another run built
    from the same files.

    Args:
        plan: What `resolve` returned.
        jobs: Builds at a time; None means `--kindinfra-build-jobs`'s value.
        timeout: Seconds for each build; None means `--kindinfra-timeout`'s value.
        tag: A template for a further tag; None means `--kindinfra-tag`'s value.
        no_cache: Build everything again, once: for inputs that are not pinned.
        artifacts: Where to leave logs, in a folder of their own; None means
            `--kindinfra-artifacts`'s value.
        progress: Called with each phase at its start (False) and end (True), from threads.

    Returns:
        Declared name to image, for all images of the plan.

    Raises:
        DeclarationError: An argument or option cannot be used.
        ToolMissingError: The engine is missing.
        KindInfraError: Images could not be built; the text holds all causes.
    """
    given = {"build_jobs": jobs, "timeout": timeout, "tag": tag, "artifacts": artifacts}
    prepared = prepare(
        plan.declaration,
        plan,
        option=given_options(given),
        door=Door(purpose="build", run_id=new_run_id(), ignored=ignored_by("functions")),
    )
    tools = new_tools(prepared, progress=progress)
    tools.engine.check(Deadline.after(prepared.settings.timeout))
    with new_run(prepared) as run:
        context = own_context(prepared, tools=tools, run=run)
        request = replace(context.request, no_build=False, images=None, build_anew=no_cache)
        return _build(replace(context, request=request))


def save_images(
    plan: Plan, images: Mapping[str, BuiltImage], *, folder: Path | str
) -> dict[str, SavedImage]:
    """Write built images into a folder, for a run with `--kindinfra-images=FOLDER`.

    Args:
        plan: What was built.
        images: What `build_images` returned.
        folder: Made if missing; files of the same names are replaced.

    Raises:
        CommandError: One could not be written.
    """
    settings = settings_of(plan.declaration, {})
    tools = make_tools(settings.engine)
    return save.save_images(
        plan,
        images,
        into=Path(folder),
        engine=tools.engine,
        deadline=lambda: Deadline.after(settings.timeout),
    )


def settings_of(declaration: Declaration, given: Mapping[str, Any]) -> Settings:
    """Return all options: those given, then the environment's, then the declaration's.

    Args:
        declaration: With its `[options]`.
        given: Key as in `[options]` to value; None means that it is not given.

    Raises:
        DeclarationError: One cannot be used.
    """
    option = given_options(given)
    settings, problems = read_settings(option, declaration.options, source=declaration.source)
    if problems:
        raise DeclarationError(problems)
    return settings


def given_options(given: Mapping[str, Any]) -> Callable[[str], str | None]:
    """Return what gives the text of an option by its dest, as pytest's `getoption` does.

    Args:
        given: Key as in `[options]` to value; None means that it is not given.
    """
    return {f"kindinfra_{key}": str(value) for key, value in given.items() if value is not None}.get


def new_tools(prepared: Prepared, *, progress: Callable[[Phase, bool], None] | None) -> Tools:
    """Return who does the work, telling `progress`, keeping the secrets of the plan's builds."""
    tools, folder = make_tools(prepared.settings.engine), prepared.request.folder
    if progress:
        tools.timeline.subscribe(progress)
    tools.redactor.learn(
        value for image in prepared.plan.images for value in build_secrets(image, folder=folder)
    )
    return tools


def own_context(prepared: Prepared, *, tools: Tools, run: RunDirectory) -> Context:
    """Return the context of a bring-up in this process, without hooks."""
    return new_context(
        prepared.plan,
        prepared.request,
        tools=tools,
        run=run,
        hooks=Hooks(),
        cancelled=threading.Event(),
    )


@contextmanager
def new_run(prepared: Prepared) -> Iterator[RunDirectory]:
    """Give a run directory that is alive in the block."""
    run = new_folder(prepared)
    lock = hold(run.lock)
    try:
        yield run
    finally:
        lock.release()


def new_folder(prepared: Prepared) -> RunDirectory:
    """Make the run directory; the run counts as alive once a process has its lock."""
    folder, settings = prepared.request.folder, prepared.settings
    run = RunDirectory(folder / settings.artifacts / prepared.request.run_id)
    run.make()
    return run


def _build(context: Context) -> dict[str, BuiltImage]:
    """Build all images of a plan, or say everything that went wrong."""
    builds = Builds(context)
    with Tasks() as tasks:
        built = add_builds(tasks, context, builds, after=given("the engine", None))
        try:
            errors = {name: task.error for name, task in built.items()}
        except BaseException:  # Ctrl-C: programs are ended, then threads
            context.cancelled.set()
            raise
    builds.remember([image for task in built.values() if (image := task.made)])
    if failed := {name: error for name, error in errors.items() if error}:
        raise KindInfraError(context.tools.redactor.text(_failures(failed, context)))
    builds.caches.run(context.cancelled)
    return {name: task.result() for name, task in built.items()}


def _failures(errors: Mapping[str, BaseException], context: Context) -> str:
    roots = {
        name: error
        for name, error in errors.items()
        if not isinstance(error, BlockedError | CancelledError)
    } or errors
    heads = {name: f'image "{name}" {verb_of("image", error)}' for name, error in roots.items()}
    texts = [f"{heads[name]}:\n{text_of(error)}" for name, error in roots.items()]
    if blocked := sorted(errors.keys() - roots.keys()):
        texts.append(f"not built because of it: {', '.join(blocked)}")
    return "\n".join([*texts, f"logs and details: {context.run.path}"])
