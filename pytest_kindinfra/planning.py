"""From what the user wrote to a plan: declaration, hooks, options and manifests read together.

All problems come in one error, before anything is built or created. It knows pytest's config.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.apikinds import numbers
from pytest_kindinfra.buildchecks import build_problems
from pytest_kindinfra.busyports import busy_ports
from pytest_kindinfra.cache import cache_folder
from pytest_kindinfra.charts import Templating, kubernetes_version
from pytest_kindinfra.coordination import RunDirectory
from pytest_kindinfra.declaration import parse_declaration
from pytest_kindinfra.diskspace import disk_problem, docker_root, podman_root
from pytest_kindinfra.enginehost import elsewhere_problems
from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.existing import find_existing, problems_of_images, problems_of_options
from pytest_kindinfra.facts import ClusterFacts
from pytest_kindinfra.filesystems import network_problem
from pytest_kindinfra.finding import Nearby, look_nearby
from pytest_kindinfra.grpchealth import missing_package
from pytest_kindinfra.homes import home_of, name_after
from pytest_kindinfra.hookrecords import read_record
from pytest_kindinfra.hosting import with_registry
from pytest_kindinfra.kindconfig import (
    loopback,
    mount_problems,
    network_problems,
    port_problems,
)
from pytest_kindinfra.model import Declaration, EngineName, Image, Plan, Service, Standing
from pytest_kindinfra.ownership import refusal, why_unclear
from pytest_kindinfra.plan import keep_out, resolve
from pytest_kindinfra.render import check_files, load_kind_config, load_tables, render
from pytest_kindinfra.request import Request, Reuse
from pytest_kindinfra.savedimages import read_saved_images
from pytest_kindinfra.settings import Settings, read_settings
from pytest_kindinfra.steps.estimate import estimate_room
from pytest_kindinfra.steps.sweep import sweep
from pytest_kindinfra.timeline import Deadline
from pytest_kindinfra.wiring import choose_engine, make_tools

if TYPE_CHECKING:
    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.process import Runner

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


def make_order(config: pytest.Config, wanted: dict[str, Any], run_id: str) -> Order:
    """Read everything that was declared and plan what the tests want.

    Args:
        config: pytest's.
        wanted: What `selection.request_of` returned.
        run_id: Names what is made.

    Raises:
        DeclarationError: With all problems.
    """
    try:
        declaration = _with_hooks(read_declaration(config.rootpath), config)
    except DeclarationError as error:
        raise DeclarationError([*wanted["problems"], *error.problems]) from None
    settings, problems = read_settings(
        config.getoption, declaration.options, source=declaration.source
    )
    settings = replace(settings, engine=choose_engine(settings.engine))
    unread = list(_unread(declaration, config, wanted["services"]))
    found = [*wanted["problems"], *problems, *check_files(declaration)]
    if not wanted["services"].keys() <= {one.name for one in declaration.services}:
        found += unread
    found += missing_package(declaration.services)
    prepared = bool(config.hook.pytest_kindinfra_before_build.get_hookimpls())
    found += build_problems(declaration.images, folder=declaration.folder, prepared=prepared)
    if problem := network_problem(config.rootpath / settings.artifacts):
        found.append(problem)
    found += _problems_of_saved(settings, declaration.folder)
    found += _problems_of_load(settings)
    try:
        rendered = render(
            declaration.services,
            folder=declaration.folder,
            how=templating(declaration, settings, make_tools(settings.engine).runner),
        )
        plan = resolve(
            declaration,
            wanted=wanted["services"],
            rendered=rendered,
            cluster=cluster_facts(declaration, settings, hooks=_deploy_hooks(config)),
        )
        plan = keep_out(plan, settings.artifacts)
        request = make_request(settings, plan, run_id)
        request, more = _with_existing(request, plan, settings)
        found += more
        found += port_problems(request.kind_config, plan.ports)
        found += _problems_of_network(plan, request, settings)
        found += problems_of_mounts(request, settings)
        found += option_problems(plan, make_tools(settings.engine).engine)
        found += () if settings.plan else problems_of_host(plan, request, settings.engine)
    except DeclarationError as error:
        raise DeclarationError([*found, *error.problems]) from None
    if found:
        raise DeclarationError(found)
    return Order(plan=plan, request=request, settings=settings, notes=tuple(unread))


def _unread(
    declaration: Declaration, config: pytest.Config, wanted: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield which declarations count for nothing, since they are not in the rootdir.

    Args:
        declaration: What was read.
        config: pytest's.
        wanted: Service to the ids of the tests that ask for it.
    """
    unknown = wanted.keys() - {one.name for one in declaration.services}
    if declaration.source is not None and not unknown:
        return
    places = list(_places_of_tests(config, wanted))
    nearby = look_nearby(config.rootpath, places)
    if declaration.source is None:
        yield from _nothing_read(config, nearby if unknown else nearby.above(places))
    elif nearby.declarations:
        read = config.rootpath / declaration.source
        yield f"read: {read}; not read: {_from_here(nearby.declarations, config)}"


def _places_of_tests(config: pytest.Config, wanted: Mapping[str, Sequence[str]]) -> Iterator[Path]:
    """Yield the files and folders that tests are in: pytest's arguments, and those of ids."""
    here = config.invocation_params.dir
    for argument in config.args:
        yield Path(os.path.normpath(here / argument.partition("::")[0]))
    for test in {one for tests in wanted.values() for one in tests}:
        yield Path(os.path.normpath(config.rootpath / test.partition("::")[0]))


def _nothing_read(config: pytest.Config, nearby: Nearby | None) -> Iterator[str]:
    """Yield that there is no declaration in the rootdir, and what may have been meant."""
    if nearby is None:
        return
    root, fix = config.rootpath, ""
    if nearby.declarations:
        folders = dict.fromkeys(file.parent for file in nearby.declarations)
        ways = [f"--rootdir={_from_here([folder], config)}" for folder in folders]
        each = "run pytest for each of them alone, with " if len(ways) > 1 else ""
        fix = (
            f"; found, but not read: {_from_here(nearby.declarations, config)}"
            f"; to fix: {each}{' or '.join(ways)}"
        )
    if nearby.misnamed:
        fix += f"; is this meant to be a declaration? {', '.join(nearby.misnamed)}"
    yield (
        f"there is no kindinfra.toml in the rootdir {root} ({_why_rootdir(config)}), and no "
        f"[tool.kindinfra] in its pyproject.toml{fix}"
    )


def _why_rootdir(config: pytest.Config) -> str:
    """Return why pytest takes its rootdir."""
    if config.getoption("rootdir", None):
        return "set by --rootdir"
    if file := config.getoption("inifilename", None):
        return f"the folder of -c {file}"
    if config.inipath:
        return f"where {config.inipath.name} is"
    return "what pytest's arguments have in common"


def _from_here(paths: Iterable[Path], config: pytest.Config) -> str:
    """Return paths as one would write them in the folder in which pytest was started."""
    return ", ".join(os.path.relpath(path, config.invocation_params.dir) for path in paths)


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


def _with_hooks(declaration: Declaration, config: pytest.Config) -> Declaration:
    """Add what `pytest_kindinfra_services` returns."""
    added = _added_by_hooks(config)
    return replace(
        declaration,
        images=(*declaration.images, *(one for one in added if isinstance(one, Image))),
        services=(*declaration.services, *(one for one in added if isinstance(one, Service))),
        from_hooks=frozenset(one.name for one in added if isinstance(one, Service)),
    )


def _added_by_hooks(config: pytest.Config) -> list[Any]:
    try:
        results = [_flat(one) for one in config.hook.pytest_kindinfra_services(config=config)]
    except (pytest.UsageError, pytest.exit.Exception):
        raise  # the hook's own word to the user
    except Exception as error:
        raise DeclarationError([f"{_hook_of(config)}: {_told(error)}"]) from error
    added = [record for result in results for record in result]
    if strange := [one for one in added if not isinstance(one, Image | Service)]:
        where = _hook_of(config)
        raise DeclarationError(
            f"{where}: expected Service or Image, got {one!r}" for one in strange
        )
    read = [read_record(one) for one in added]
    if problems := [problem for _, found in read for problem in found]:
        where = _hook_of(config)
        raise DeclarationError(f"{where}: {problem}" for problem in problems)
    return [record for record, _ in read]


def _flat(result: Any) -> list[Any]:
    """Return what a hook returned as a list; one thing alone becomes a list of it."""
    many = isinstance(result, Iterable) and not isinstance(result, str)
    return list(result) if many else [result]


def _hook_of(config: pytest.Config) -> str:
    """Return the hook's name, and where it is implemented: a conftest's path, a plugin's name."""
    root = f"{config.rootpath}{os.sep}"
    found = config.hook.pytest_kindinfra_services.get_hookimpls()
    names = (one.plugin_name.removeprefix(root) for one in found)
    return f"pytest_kindinfra_services in {' or '.join(names)}"


def _told(error: Exception) -> str:
    """Return an exception with the line that raised it."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"


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


def _deploy_hooks(config: pytest.Config) -> bool:
    """Whether a plugin or conftest is called while services are deployed."""
    hook = config.hook
    callers = (hook.pytest_kindinfra_before_deploy, hook.pytest_kindinfra_after_deploy)
    return any(caller.get_hookimpls() for caller in callers)


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
