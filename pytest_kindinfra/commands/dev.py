"""`kindinfra dev`: bring services up, and after each change of theirs again; then run the tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.commands.images import prepare_services
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.tags import look_up
from pytest_kindinfra.kube.rewrite import content_hash
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.plan.kustomize import local_folders
from pytest_kindinfra.plan.manifests import matching_files
from pytest_kindinfra.plan.options import find_option, ignored_by
from pytest_kindinfra.run.prepare import Door
from pytest_kindinfra.system.programs import run_here
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pytest_kindinfra.run.prepare import Prepared


TESTS = (sys.executable, "-m", "pytest", "--lf", "--kindinfra-reuse")
"""What is run after each change unless a command is given."""


_DEBOUNCE = 300
"""Milliseconds for which changes are collected: an editor writes a file in several steps."""


_LOOK = 250
"""Milliseconds after which each watch yields though nothing changed."""


_SHOWN = 3


def dev(
    services: Sequence[str],
    command: Sequence[str],
    *,
    cluster: Mapping[str, Any],
    bring_up: Callable[[], bool],
    say: Callable[[str], object],
) -> None:
    """Bring services up, then watch their files and do it again, until it is interrupted.

    The command is run after each bring-up that went well. A change that alters neither an image's
    content nor an object is none.

    Args:
        services: Their names; none means all that are declared.
        command: The words to run.
        cluster: The options that name the cluster: key as in `[options]` to value.
        bring_up: Does what `kindinfra up` does, and returns whether all is ready.
        say: Shows a line.

    Raises:
        DeclarationError: The declaration is wrong at the beginning; later it is shown.
        KindInfraError: The extra `dev` is not installed.
    """
    _check_extra()
    env = {find_option(key).variable: str(value) for key, value in cluster.items() if value}
    prepared = _prepare(services, cluster)
    known = _fingerprint(prepared)
    artifacts = (prepared.request.folder / prepared.settings.artifacts).resolve()
    watched = _watched(prepared)
    begun = False
    for changed in _changes(watched):
        if not begun:
            begun = True
            _go(bring_up, command, env, say)
            shown = _listed(sorted(watched))
            say(f"kindinfra: watching {shown}; Ctrl-C stops watching and keeps the services")
        files = [path for path in sorted(changed)
                 if _is_watched(path, watched) and not path.is_relative_to(artifacts)]  # fmt: skip
        if not files:
            continue
        try:
            prepared = _prepare(services, cluster)
            fingerprint = _fingerprint(prepared)
        except KindInfraError as error:
            say(f"kindinfra: {error}")
            continue
        watched = _watched(prepared)
        if fingerprint != known:
            known = fingerprint
            say(f"kindinfra: changed: {_listed(files)}")
            _go(bring_up, command, env, say)


def _check_extra() -> None:
    try:
        import watchfiles  # noqa: F401 - whether it is there
    except ImportError:
        msg = 'kindinfra dev needs watchfiles\nTo fix: pip install "pytest-kindinfra[dev]"'
        raise KindInfraError(msg) from None


def _changes(watched: Collection[Path]) -> Iterator[set[Path]]:
    """Yield the paths that changed, again and again; none if nothing did.

    What changes after the first set is seen. A file is watched by its folder, since a watch on a
    file ends when an editor saves it as another file under the same name. Such a folder is watched
    without the folders in it, which may hold a virtual environment.
    """
    from watchfiles import watch

    folders = {path for path in watched if path.is_dir()}
    parents = {path.parent for path in watched if path not in folders}
    watches = [
        watch(*sorted(paths), debounce=_DEBOUNCE, step=50, rust_timeout=_LOOK,
              yield_on_timeout=True, ignore_permission_denied=True, recursive=recursive)
        for paths, recursive in ((folders, True), (parents, False))
        if paths
    ]  # fmt: skip
    for found in zip(*watches, strict=True):
        yield {Path(path) for changes in found for _, path in changes}


def _go(
    bring_up: Callable[[], bool],
    command: Sequence[str],
    env: dict[str, str],
    say: Callable[[str], object],
) -> None:
    try:
        well = bring_up()
    except KindInfraError as error:
        say(f"kindinfra: {error}")
        return
    if well:
        code = run_here(command, env=env, cwd=declaration_folder(Path.cwd()))
        say(f"kindinfra: the tests ended with exit code {code}; waiting for changes")
    else:
        say("kindinfra: the tests were not run; waiting for changes")


def _prepare(services: Sequence[str], cluster: Mapping[str, Any]) -> Prepared:
    return prepare_services(
        declaration_folder(Path.cwd()),
        services or None,
        options={"reuse": True, **cluster},
        door=Door(purpose="plan", run_id="RUN_ID", ignored=ignored_by("command")),
    )


def _fingerprint(prepared: Prepared) -> tuple[object, ...]:
    """Return what another bring-up would do something about: sources of images, and objects."""
    plan = prepared.plan
    known = look_up(plan, make_tools(prepared.settings.engine).engine)
    folder = prepared.request.folder
    inputs = [_stamp(folder / path) for service in plan.services for pattern in service.inputs
              for path in matching_files(pattern, folder)]  # fmt: skip
    objects = {name: content_hash(found) for name, found in plan.objects.items()}
    charts = {name: release.content for name, release in plan.releases.items()}
    contexts = tuple(known.contexts.items())
    return contexts, tuple(objects.items()), tuple(charts.items()), tuple(inputs)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_mtime_ns, found.st_size


def _watched(prepared: Prepared) -> set[Path]:
    """Return the folders and files that the services are made of, without those within others."""
    folder, plan = prepared.request.folder, prepared.plan
    found = {folder / str(plan.declaration.source)}
    for image in plan.images:
        if not (image.prebuilt or image.archive):
            found.add(folder / image.context)
            found.add(folder / (image.dockerfile or image.context / "Dockerfile"))
    for service in plan.services:
        patterns = (*service.manifests, *service.inputs)
        found |= {folder / path for one in patterns for path in matching_files(one, folder)}
        found |= local_folders(folder / service.kustomize) if service.kustomize else set()
        if service.helm:
            found |= {folder / path for path in (service.helm.chart, *service.helm.values)}
    there = {path.resolve() for path in found if path.exists()}
    return {path for path in there if not any(other in path.parents for other in there)}


def _is_watched(path: Path, watched: Collection[Path]) -> bool:
    return path in watched or any(folder in watched for folder in path.parents)


def _listed(paths: Sequence[Path]) -> str:
    here = Path.cwd()
    names = [str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
             for path in paths[:_SHOWN]]  # fmt: skip
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(names) + more
