"""The only place that names a concrete engine or provider."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, get_args

from pytest_kindinfra import engines
from pytest_kindinfra.clusters.existing import Existing, SharedObjects, scope_of
from pytest_kindinfra.clusters.kind import KindProvider
from pytest_kindinfra.context import Tools
from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.engines.registry import DockerRegistry
from pytest_kindinfra.engines.snapshots import DockerSnapshots
from pytest_kindinfra.errors import ClusterError, KindInfraError
from pytest_kindinfra.images.load import ImageLoader
from pytest_kindinfra.kube.cleanup import OwnedObjects
from pytest_kindinfra.kube.membership import leave_group
from pytest_kindinfra.model import EngineName
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.system.runner import Runner
from pytest_kindinfra.system.secrets import Redactor
from pytest_kindinfra.system.timeline import Deadline, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_kindinfra.context import Request
    from pytest_kindinfra.engines.host import EngineAddress
    from pytest_kindinfra.model import Load
    from pytest_kindinfra.protocols.engine import Engine


_ASK_SECONDS = 10.0


def _class_of(name: EngineName) -> Callable[[Runner], Engine]:
    """Return an engine's class: `ENGINE` of the module that is called as the engine."""
    engine: Callable[[Runner], Engine] = import_module(f"{engines.__name__}.{name}").ENGINE
    return engine


_ENGINES: dict[EngineName, Callable[[Runner], Engine]] = {
    name: _class_of(name) for name in get_args(EngineName) if name != "auto"
}
"""Every engine, by the name that users and kind give it; `auto` takes the first that answers."""


def choose_engine(wanted: EngineName) -> EngineName:
    """Return which engine `auto` is: the first that answers, else the first on PATH.

    None is asked where only one of the programs is there; its check says what is wrong with it.
    """
    if wanted != "auto":
        return wanted
    here = [name for name in _ENGINES if shutil.which(name)] or [*_ENGINES]
    if len(here) > 1 and all(map(shutil.which, here)):
        return next(filter(_answers, here), here[0])
    return here[0]


def engines_here(*, required: bool = True) -> tuple[EngineName, ...]:
    """Return all engines that answer; the first if none does, whose check says what is wrong.

    Args:
        required: False returns none where no program of an engine is installed.
    """
    if not required and not any(map(shutil.which, _ENGINES)):
        return ()
    return tuple(filter(_answers, _ENGINES)) or tuple(_ENGINES)[:1]


def _answers(name: EngineName) -> bool:
    if shutil.which(name):
        with suppress(KindInfraError):
            return bool(_ENGINES[name](Runner()).check(Deadline.after(_ASK_SECONDS)))
    return False


def docker_address(environ: Mapping[str, str]) -> EngineAddress:
    """Return where the `docker` command finds its engine."""
    return Docker(Runner()).address(environ)


def make_tools(engine: EngineName = "auto") -> Tools:
    """Return who does the work on this machine."""
    redactor = Redactor()
    runner = Runner(redactor)
    chosen = _ENGINES[choose_engine(engine)](runner)
    kind = _kind(chosen, runner)
    return Tools(
        engine=chosen,
        provider=kind,
        creator=kind,
        kind_nodes=kind,
        runner=runner,
        timeline=Timeline(),
        registries=DockerRegistry(runner),
        snapshots=_snapshots(chosen),
        redactor=redactor,
    )


def _snapshots(engine: Engine) -> DockerSnapshots | None:
    """Return who keeps snapshots; podman commits and mounts volumes in other ways."""
    return DockerSnapshots(partial(docker_address, os.environ)) if engine.name == "docker" else None


def _kind(engine: Engine, runner: Runner) -> KindProvider:
    return KindProvider(runner, program=engine.name, kill_first=engine.stops_slowly)


def tools_for(request: Request, kubeconfig: Path, tools: Tools) -> Tools:
    """Return who does the work in the cluster of a request, which may be there already.

    Args:
        request: Says which cluster.
        kubeconfig: That of the run.
        tools: Who does the work where a cluster is made.
    """
    if (existing := request.existing) is None:
        return tools
    run = RunDirectory(kubeconfig.parent)
    scope = lambda: scope_of(run, request.namespace)  # noqa: E731 - asked at the end
    objects = OwnedObjects(request.label_id, kubeconfig, scope)
    if not request.group:
        return replace(tools, provider=Existing(tools.provider, objects, existing.nodes))
    of_tests, own = OwnedObjects(request.run_id, kubeconfig, scope), tools.own

    def leave() -> bool:
        """Leave the group, also for a provisioner that has ended."""
        return (own.leave or partial(leave_group, kubeconfig, request.group, request.run_id))()

    shared = SharedObjects(of_tests, objects, leave)
    return replace(tools, provider=Existing(tools.provider, shared, existing.nodes))


def load_one_image(
    cluster: str,
    reference: str,
    *,
    engine: EngineName,
    how: Load,
    runner: Runner,
    deadline: Deadline,
) -> None:
    """Load an image of the engine into every kind node of `cluster`, unless they have it.

    Never through a registry: the caller runs it under the name that it has in the engine.

    Raises:
        CommandError: It could not be loaded.
        ClusterError: The cluster has no kind nodes here.
    """
    chosen = _ENGINES[choose_engine(engine)](runner)
    kind = _kind(chosen, runner)
    if not (nodes := kind.nodes(cluster, deadline)):
        msg = (
            f'image "{reference}" cannot be loaded into "{cluster}", which is no kind cluster of '
            "this host\nTo fix: push it to a registry that the cluster pulls from"
        )
        raise ClusterError(msg)
    loader = ImageLoader(
        nodes,
        engine=chosen,
        kind_nodes=kind,
        runner=runner,
        timeline=Timeline(),
        how="auto" if how == "registry" else how,
    )
    loader.load(reference, reference, deadline)
