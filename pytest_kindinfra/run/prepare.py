"""Everything that is checked and decided before a run: options and a plan become a request."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.config import loopback, mount_problems, network_problems
from pytest_kindinfra.clusters.existing import (
    find_existing,
    problems_of_images,
    problems_of_options,
)
from pytest_kindinfra.clusters.sweep import sweep
from pytest_kindinfra.context import Request, Reuse
from pytest_kindinfra.engines.host import elsewhere_problems
from pytest_kindinfra.engines.registry import with_registry
from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.images.saved import read_saved_images
from pytest_kindinfra.kube.kinds import numbers
from pytest_kindinfra.model import Declaration, EngineName, Plan, Standing
from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.plan.facts import ClusterFacts
from pytest_kindinfra.plan.source import Templating, kubernetes_version
from pytest_kindinfra.plan.sources import load_kind_config, load_tables
from pytest_kindinfra.run.machine import (
    busy_ports,
    disk_problem,
    docker_root,
    estimate_room,
    podman_root,
)
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.memory import cache_folder
from pytest_kindinfra.state.reused import home_of, name_after, refusal, why_unclear
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import choose_engine, make_tools

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.protocols import Engine, Provider
    from pytest_kindinfra.system.programs import Runner


_SWEEP_SECONDS = 120.0


_LOOK_SECONDS = 30.0


_ASK_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run is to do: the plan, and how.

    Attributes:
        plan: What to bring up.
        request: How.
        settings: The options.
        notes: Sentences for the user about what may be a mistake.
    """

    plan: Plan
    request: Request
    settings: Settings
    notes: tuple[str, ...] = ()


def _problems_of_saved(settings: Settings, folder: Path) -> Iterator[str]:
    if settings.images is not None:
        try:
            read_saved_images(folder / settings.images)
        except KindInfraError as error:
            yield f"{settings.sources['images']}: {error}"


def _problems_of_load(settings: Settings) -> Iterator[str]:
    if settings.load == "registry" and settings.engine == "podman":
        where = settings.sources["load"]
        yield f'{where}: load = "registry" needs Docker, but the engine is podman'


def _with_existing(request: Request, plan: Plan, settings: Settings) -> tuple[Request, list[str]]:
    """Return the request with the cluster that is there already, if one is named."""
    problems = list(problems_of_options(settings))
    if settings.kubeconfig is None or settings.plan:
        return request, problems
    file, provider = request.folder / settings.kubeconfig, make_tools(settings.engine).provider
    try:
        existing = find_existing(file, provider, Deadline.after(_LOOK_SECONDS))
    except KindInfraError as error:
        return request, [*problems, f"{settings.sources['kubeconfig']} {file}: {error}"]
    problems += problems_of_images(plan, existing)
    request = replace(request, existing=existing, cluster=existing.name, kind_config=None)
    return request, problems


def problems_of_mounts(request: Request, settings: Settings) -> list[str]:
    """Return a sentence for each folder that cannot be mounted into a cluster to be made."""
    if settings.kubeconfig is not None:
        return []
    artifacts = request.folder / settings.artifacts
    return mount_problems(request.kind_config, folder=request.folder, artifacts=artifacts)


def option_problems(plan: Plan, engine: Engine) -> Iterator[str]:
    """Give a sentence for each image whose build options the engine cannot take."""
    for image in plan.images:
        if foreign := engine.foreign_options(image.build_options):
            yield (
                f"[images.{image.name}] build_options: {engine.name} does not know "
                f"{', '.join(foreign)}; leave it out, or --kindinfra-engine=docker"
            )


def _problems_of_network(plan: Plan, request: Request, settings: Settings) -> list[str]:
    if request.existing:
        return []
    file = settings.kind_config or plan.declaration.cluster.config
    return network_problems(request.kind_config, plan.declaration.services, file=str(file))


def problems_of_making(plan: Plan, request: Request, settings: Settings) -> list[str]:
    """Return what forbids making the cluster, whoever asks for it and whatever is in it."""
    problems = _problems_of_network(plan, request, settings)
    return [*problems, *elsewhere_problems(os.environ, choose_engine(settings.engine))]


def problems_of_host(plan: Plan, request: Request, engine: EngineName) -> Iterator[str]:
    """Yield what makes a run impossible on this host: a name or ports taken, no room."""
    provider = make_tools(engine).provider
    if request.existing:
        yield from _busy_ports(plan, provider, ours=(), address=loopback(request.kind_config))
        return
    if elsewhere := elsewhere_problems(os.environ, engine):
        yield from elsewhere
        return
    there = _standing(request, provider)
    if there and there.folder is None:
        delete = " ".join(provider.delete_command(request.cluster))
        yield (
            f'there is already a cluster "{request.cluster}", and no run of ours made it; to fix: '
            f"choose another --kindinfra-cluster-name, or delete it: {delete}"
        )
    yield from _unclear(request, provider, there)
    ours = there.host_ports.values() if there else ()
    yield from _busy_ports(plan, provider, ours=ours, address=loopback(request.kind_config))
    nodes = len((request.kind_config or {}).get("nodes") or ({},))
    root = podman_root(os.environ) if engine == "podman" else docker_root(os.environ)
    room = partial(
        estimate_room,
        plan,
        cache=request.cache,
        engine=make_tools(engine).engine,
        deadline=Deadline.after(_LOOK_SECONDS),
    )
    if there is None and (problem := disk_problem(root, nodes=nodes, images=room)):
        yield problem


def _unclear(request: Request, provider: Provider, there: Standing | None) -> Iterator[str]:
    """Yield a sentence if nobody can tell whether the cluster of that name is in use."""
    if there is None or there.folder is None:
        return
    why = why_unclear(RunDirectory(there.folder), request.cluster)
    if why and _standing(request, provider) == there:  # else it was deleted meanwhile
        text = refusal(request.cluster, why, provider.delete_command(request.cluster))
        yield text.replace("\nTo fix:", "; to fix:")  # one line, as all problems are


def _standing(request: Request, provider: Provider) -> Standing | None:
    """Return the cluster of that name; one named after the run's id cannot be there."""
    if not request.named:
        return None
    with suppress(KindInfraError):  # what is missing is told when the bring-up begins
        return provider.standing(request.cluster, Deadline.after(_ASK_SECONDS))
    return None


def _busy_ports(
    plan: Plan, provider: Provider, *, ours: Collection[int], address: str
) -> tuple[str, ...]:
    """Return a sentence for each fixed host port that is busy, but not for a killed run's.

    Args:
        plan: Says which ports are fixed.
        provider: Knows killed runs.
        ours: Those of the cluster that this run takes over, or replaces.
        address: The address of this host to which they are mapped.
    """
    ports = [one for one in plan.ports if one.host_port not in ours]
    if busy := busy_ports(ports, address=address):
        with suppress(KindInfraError):
            sweep(provider, Deadline.after(_SWEEP_SECONDS))
            busy = busy_ports(ports, address=address)
    return busy


def read_declaration(folder: Path) -> Declaration:
    """Return what is declared in `folder`; nothing if there is no file.

    Raises:
        DeclarationError: The file is wrong.
    """
    if (loaded := load_tables(folder)) is None:
        return Declaration(folder=folder)
    tables, source = loaded
    return parse_declaration(tables, folder=folder, source=source)


def templating(declaration: Declaration, settings: Settings, runner: Runner) -> Templating:
    """Return how charts and kustomizations are rendered."""
    return Templating(
        runner=runner,
        namespace=declaration.cluster.namespace,
        kubernetes=kubernetes_version(_node_image(declaration, settings)),
        deadline=Deadline.after(settings.timeout),
    )


def _node_image(declaration: Declaration, settings: Settings) -> str | None:
    """Return the node image of this run, None if kind chooses it."""
    declared = declaration.cluster
    if settings.node_image:
        return settings.node_image
    with suppress(DeclarationError):  # said when the plan is made
        if config := settings.kind_config or declared.config:
            nodes = load_kind_config(declaration.folder / config).get("nodes") or ()
            if images := [node["image"] for node in nodes if node.get("image")]:
                return str(images[0])
    return declared.node_image


def cluster_facts(declaration: Declaration, settings: Settings, *, hooks: bool) -> ClusterFacts:
    """Return what is known of the cluster before it is there.

    Args:
        declaration: What was declared.
        settings: The options.
        hooks: Whether code of the user's may be called while services are deployed.
    """
    existing = settings.kubeconfig is not None
    return ClusterFacts(
        kubernetes=numbers(kubernetes_version(_node_image(declaration, settings))),
        # A kept cluster may have what somebody put there by hand.
        only_planned=not (existing or settings.reuse or hooks),
        existing=existing,
    )


def make_request(settings: Settings, plan: Plan, run_id: str) -> Request:
    """Return how a run is to go.

    Raises:
        DeclarationError: The kind config cannot be read.
    """
    declared, folder = plan.declaration.cluster, plan.declaration.folder
    file = settings.kind_config or declared.config
    config = _kind_config(folder / file, settings) if file else None
    name = cluster_name(settings, folder=folder, run_id=run_id)
    home = home_of(folder / settings.artifacts, name).path
    return Request(
        cluster=name,
        named=settings.reuse or settings.cluster_name is not None,
        reuse=Reuse(home=home) if settings.reuse else None,
        run_id=run_id,
        namespace=declared.namespace,
        build_jobs=settings.build_jobs,
        timeout=settings.timeout,
        kind_config=with_registry(config) if settings.load == "registry" else config,
        node_image=settings.node_image or declared.node_image,
        tuning=declared.tuning,
        folder=folder,
        fail_fast=settings.fail == "fast",
        load=settings.load,
        registry=declared.registry,
        no_build=settings.no_build or settings.images is not None,
        images=settings.images and folder / settings.images,
        tag=settings.tag,
        cache=cache_folder(),
    )


def cluster_name(settings: Settings, *, folder: Path, run_id: str) -> str:
    """Return kind's name for the cluster of a run in `folder`."""
    if settings.cluster_name:
        return settings.cluster_name
    return name_after(folder) if settings.reuse else f"kindinfra-{run_id}"


def _kind_config(path: Path, settings: Settings) -> dict[str, Any]:
    """Return the user's kind config; its node images give way to what was said for this run."""
    config = load_kind_config(path)
    if settings.node_image:
        nodes = config.get("nodes") or ()
        config["nodes"] = [{**node, "image": settings.node_image} for node in nodes] or None
    return config
