"""Everything that is checked and decided before a run: declaration and options become a request.

pytest, the `kindinfra` command and the Python functions all come through `prepare`, so that each
check is made for all callers; `Door` says what differs between them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pytest_kindinfra.clusters.config import mount_problems, network_problems, port_problems
from pytest_kindinfra.clusters.existing import (
    find_existing,
    problems_of_images,
    problems_of_options,
    problems_of_rights,
)
from pytest_kindinfra.clusters.kubeconfigs import all_files
from pytest_kindinfra.clusters.placement import placed
from pytest_kindinfra.context import Request, Reuse, Tools
from pytest_kindinfra.deploy.exposure import problems_of_exposure
from pytest_kindinfra.deploy.pullsecret import needed_secrets, problems_of_pull_secret
from pytest_kindinfra.engines.registry import with_registry
from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.images.checks import build_problems
from pytest_kindinfra.images.saved import read_saved_images
from pytest_kindinfra.kube.kinds import numbers
from pytest_kindinfra.model import Declaration, Image, Plan
from pytest_kindinfra.plan.buildoptions import flags_by_key
from pytest_kindinfra.plan.copies import with_copies
from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.plan.facts import ClusterFacts
from pytest_kindinfra.plan.files import check_files, load_kind_config, load_tables
from pytest_kindinfra.plan.graph import in_order
from pytest_kindinfra.plan.options import Settings
from pytest_kindinfra.plan.requests import Amount, crowding
from pytest_kindinfra.plan.resolve import keep_out, resolve
from pytest_kindinfra.plan.settings import read_settings
from pytest_kindinfra.plan.source import RenderOptions, kubernetes_version
from pytest_kindinfra.plan.sources import render
from pytest_kindinfra.references import is_loopback
from pytest_kindinfra.run.grouping import (
    group_note,
    problems_of_group,
    with_group,
    with_namespace,
)
from pytest_kindinfra.run.machine import network_problem, problems_of_host
from pytest_kindinfra.run.supply import problems_of_supply
from pytest_kindinfra.state.memory import cache_folder
from pytest_kindinfra.state.reused import reused_directory
from pytest_kindinfra.state.runnames import cluster_name, group_id
from pytest_kindinfra.system.grpc import missing_package
from pytest_kindinfra.system.machine import total_memory
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import choose_engine, make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.system.runner import Runner


_LOOK_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What differs between the ways into a run: pytest, the command and the functions.

    Attributes:
        purpose: What the caller does next. `resolve`: it wants the plan alone, and later calls
            bring options of their own; `build`: it builds images; `plan`: it shows what a run
            would do; `run`: it brings a cluster up, so that this machine is checked too.
        run_id: Names what is made.
        ignored: Options that do not apply; they keep their defaults.
        deploy_hooks: The user's code may add objects while services are deployed.
        build_hooks: A hook is called before each build, and may set variables.
        knows_all: Services that hooks declare are in the declaration.
        unused_images: Declared images that no service runs are wanted too.
        workers: The xdist workers that tests run in; none without xdist.
    """

    purpose: Literal["resolve", "build", "plan", "run"]
    run_id: str = ""
    ignored: frozenset[str] = frozenset()
    deploy_hooks: bool = True
    build_hooks: bool = False
    knows_all: bool = False
    unused_images: bool = False
    workers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a run is to do: the plan, and how.

    Attributes:
        plan: What to bring up.
        request: How.
        settings: The options; the engine is the chosen one, never `auto`.
        notes: Sentences for the user about what may be a mistake.
    """

    plan: Plan
    request: Request
    settings: Settings
    notes: tuple[str, ...] = ()


def prepare(
    declaration: Declaration,
    wanted: Mapping[str, Sequence[str]] | Plan,
    *,
    option: Callable[[str], str | None],
    door: Door,
    problems: Iterable[str] = (),
) -> Prepared:
    """Check everything that can be checked before a run, and decide how it goes.

    Args:
        declaration: What was declared, with the records of hooks if these are called.
        wanted: Service to the place that names it, for messages; or an earlier call's plan.
        option: Gives the text of an option by its dest (`kindinfra_timeout`), None if it was not
            given; then the environment and the declaration count.
        door: What differs between the callers.
        problems: What the caller found already.

    Raises:
        DeclarationError: With all problems, each once.
    """
    settings, wrong = _settings(declaration, option, door)
    declaration = with_namespace(declaration, settings, door.run_id)
    door = replace(door, purpose="plan") if settings.plan else door
    tools = make_tools(settings.engine)
    found = [*problems, *wrong, *_problems_of_declaration(declaration, door)]
    found += _problems_of_settings(settings, declaration.folder, door, tools.engine)
    try:
        plan = _plan(declaration, wanted, settings, door, tools)
        request = _request(plan, settings, door)
        request, more = _with_existing(request, plan, settings, door, tools)
        found += [*more, *_problems_of_plan(plan, request, settings, door, tools)]
    except DeclarationError as error:
        raise DeclarationError(dict.fromkeys([*found, *error.problems])) from None
    if found:
        raise DeclarationError(dict.fromkeys(found))
    notes = tuple(_notes(plan, settings, door))
    return Prepared(plan=plan, request=request, settings=settings, notes=notes)


def _notes(plan: Plan, settings: Settings, door: Door) -> Iterator[str]:
    """Yield what the user should know of a plan that nothing forbids."""
    yield from group_note(settings)
    if settings.kubeconfig is None and door.purpose in {"plan", "run"}:
        machine = Amount(cpus=float(os.cpu_count() or 0), memory=total_memory() or 0)
        yield from crowding(plan, machine)


def _settings(
    declaration: Declaration, option: Callable[[str], str | None], door: Door
) -> tuple[Settings, tuple[str, ...]]:
    """Return the options that apply, with the engine chosen, and what is wrong with options."""
    read, problems = read_settings(option, declaration.options, source=declaration.source)
    sources = {key: where for key, where in read.sources.items() if key not in door.ignored}
    plain: dict[str, Any] = {key: getattr(Settings(), key) for key in door.ignored}
    settings = replace(read, sources=sources, **plain)
    if "group" not in door.ignored:
        settings = with_group(settings, declaration, os.environ)
    return replace(settings, engine=choose_engine(settings.engine)), problems


def _plan(
    declaration: Declaration,
    wanted: Mapping[str, Sequence[str]] | Plan,
    settings: Settings,
    door: Door,
    tools: Tools,
) -> Plan:
    if isinstance(wanted, Plan):
        return keep_out(wanted, settings.artifacts)
    options = _render_options(declaration, settings, tools.runner)
    plan = resolve(
        declaration,
        wanted=wanted,
        rendered=render(declaration.services, folder=declaration.folder, options=options),
        cluster=_cluster_facts(declaration, settings, hooks=door.deploy_hooks),
    )
    if door.unused_images:
        plan = replace(plan, images=_all_images(declaration))
    ports_for = (os.cpu_count() or 1) if settings.reuse else 0
    plan = with_copies(plan, door.workers, ports_for=ports_for)
    return plan if door.purpose == "resolve" else keep_out(plan, settings.artifacts)


def _all_images(declaration: Declaration) -> tuple[Image, ...]:
    images = {image.name: image for image in declaration.images}
    order = in_order(images, {image.name: image.needs for image in declaration.images})
    return tuple(images[name] for name in order)


def _request(plan: Plan, settings: Settings, door: Door) -> Request:
    request = make_request(settings, plan, door.run_id)
    reuse = request.reuse and replace(request.reuse, knows_all=door.knows_all)
    return replace(request, reuse=reuse)


def _problems_of_declaration(declaration: Declaration, door: Door) -> Iterator[str]:
    """Yield what is wrong with files, packages and builds, whatever is wanted of them."""
    yield from check_files(declaration)
    yield from missing_package(declaration.services)
    yield from build_problems(
        declaration.images, folder=declaration.folder, prepared=door.build_hooks
    )


def _problems_of_settings(
    settings: Settings, folder: Path, door: Door, engine: Engine
) -> Iterator[str]:
    """Yield what is wrong with options that go together with nothing of the plan."""
    if door.purpose == "resolve":
        return
    if problem := network_problem(folder / settings.artifacts):
        yield problem
    if door.purpose == "build":
        return
    yield from _problems_of_saved(settings, folder)
    yield from _problems_of_load(settings, engine)
    yield from problems_of_options(settings)


def _problems_of_plan(
    plan: Plan, request: Request, settings: Settings, door: Door, tools: Tools
) -> Iterator[str]:
    """Yield what forbids this plan with these options, and on this machine for a run."""
    if door.purpose == "resolve":
        return
    yield from _option_problems(plan, tools.engine)
    yield from problems_of_pull_secret(plan, request, tools)
    yield from problems_of_group(settings, plan)
    if door.purpose != "plan":
        yield from problems_of_supply(plan, request, settings, tools.engine)
    if door.purpose == "build":
        return
    yield from port_problems(request.kind_config, plan.ports)
    if settings.kubeconfig is None:
        yield from _problems_of_network(plan, request, settings)
        yield from _problems_of_mounts(request, settings)
    if door.purpose == "run":
        if settings.kubeconfig is None or request.existing:
            yield from problems_of_exposure(plan, request)
        yield from problems_of_host(plan, request, settings, tools)


def _problems_of_saved(settings: Settings, folder: Path) -> Iterator[str]:
    if settings.images is not None:
        try:
            read_saved_images(folder / settings.images)
        except KindInfraError as error:
            yield f"{settings.sources['images']}: {error}"


def _problems_of_load(settings: Settings, engine: Engine) -> Iterator[str]:
    if settings.load == "registry" and not engine.runs_registries:
        where = settings.sources["load"]
        yield f'{where}: load = "registry" needs Docker, but the engine is {engine.name}'


def _with_existing(
    request: Request, plan: Plan, settings: Settings, door: Door, tools: Tools
) -> tuple[Request, list[str]]:
    """Return the request with the existing cluster, if one is named, and what is wrong with it."""
    if settings.kubeconfig is None or door.purpose != "run":
        return request, []
    file = all_files(settings.kubeconfig, request.folder)
    where = f"{settings.sources['kubeconfig']} {file}"
    limit = Deadline.after(_LOOK_SECONDS)
    try:
        existing = find_existing(
            file, tools.creator, tools.kind_nodes, limit, context=settings.context
        )
        request = placed(request, existing, settings)
        more = needed_secrets(plan, request)
        grouped = bool(request.group)
        found = problems_of_rights(plan, existing, request.namespace, more, grouped=grouped)
        problems = [f"{where}: {one}" for one in found]
    except KindInfraError as error:
        return request, [f"{where}: {error}"]
    return request, [*problems, *problems_of_images(plan, existing, request.image_registry)]


def _problems_of_mounts(request: Request, settings: Settings) -> list[str]:
    """Return a sentence for each folder that cannot be mounted into a cluster to be made."""
    artifacts = request.folder / settings.artifacts
    return mount_problems(request.kind_config, folder=request.folder, artifacts=artifacts)


def _option_problems(plan: Plan, engine: Engine) -> Iterator[str]:
    """Give a sentence for each image whose build options the engine cannot take."""
    for image in plan.images:
        for key, flags in flags_by_key(image).items():
            if foreign := engine.foreign_options(flags):
                yield (
                    f"[images.{image.name}] {key}: {engine.name} does not know "
                    f"{', '.join(foreign)}; leave it out, or --kindinfra-engine=docker"
                )


def _problems_of_network(plan: Plan, request: Request, settings: Settings) -> list[str]:
    """Return what the kind config leaves out that nodes need, and no service brings."""
    file = settings.kind_config or plan.declaration.cluster.config
    return network_problems(request.kind_config, plan.declaration.services, file=str(file))


def read_declaration(folder: Path) -> Declaration:
    """Return what is declared in `folder`; nothing if there is no file.

    Raises:
        DeclarationError: The file is wrong.
    """
    if (loaded := load_tables(folder)) is None:
        return Declaration(folder=folder)
    tables, source = loaded
    return parse_declaration(tables, folder=folder, source=source)


def _render_options(declaration: Declaration, settings: Settings, runner: Runner) -> RenderOptions:
    """Return how sources are rendered that need a program."""
    return RenderOptions(
        runner=runner,
        namespace=declaration.cluster.namespace,
        kubernetes=kubernetes_version(_node_image(declaration, settings)),
        deadline=Deadline.after(settings.timeout),
        charts=cache_folder() / "charts",
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


def _cluster_facts(declaration: Declaration, settings: Settings, *, hooks: bool) -> ClusterFacts:
    """Return what is known of the cluster before it is there.

    Args:
        declaration: What was declared.
        settings: The options.
        hooks: Whether code of the user's may be called while services are deployed.
    """
    existing = settings.kubeconfig is not None
    return ClusterFacts(
        kubernetes=numbers(kubernetes_version(_node_image(declaration, settings))),
        # A kept cluster may have objects that were applied by hand.
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
    named, reuse = settings.cluster_name, settings.reuse
    name = cluster_name(folder, named=named, reuse=reuse, run_id=run_id)
    reused = reused_directory(folder / settings.artifacts, name).path
    return Request(
        cluster=name,
        named=settings.reuse or settings.cluster_name is not None,
        reuse=Reuse(reused_dir=reused) if settings.reuse else None,
        run_id=run_id,
        namespace=declared.namespace,
        ttl=declared.ttl,
        quota=declared.quota,
        group=group_id(settings.group) if settings.group and settings.kubeconfig else "",
        build_jobs=settings.build_jobs,
        timeout=settings.timeout,
        kind_config=with_registry(config) if _pulls_here(settings, plan) else config,
        node_image=settings.node_image or declared.node_image,
        tuning=declared.tuning,
        folder=folder,
        fail_fast=settings.fail == "fast",
        load=settings.load,
        registry=declared.registry,
        image_registry=settings.registry or plan.declaration.registry,
        builder=settings.builder or plan.declaration.builder,
        no_build=settings.no_build or settings.images is not None,
        images=settings.images and folder / settings.images,
        tag=settings.tag,
        cache=cache_folder(),
        snapshot=settings.snapshot if "snapshot" in settings.sources else declared.snapshot,
    )


def _pulls_here(settings: Settings, plan: Plan) -> bool:
    """Whether kind nodes may pull from a registry of this host."""
    address = settings.registry or plan.declaration.registry or ""
    return settings.load == "registry" or is_loopback(address.partition("/")[0])


def _kind_config(path: Path, settings: Settings) -> dict[str, Any]:
    """Return the user's kind config; its node images are replaced by the option's."""
    config = load_kind_config(path)
    if settings.node_image:
        nodes = config.get("nodes") or ()
        config["nodes"] = [{**node, "image": settings.node_image} for node in nodes] or None
    return config
