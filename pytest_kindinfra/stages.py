"""The stages that need a cluster, as functions for scripts: without pytest.

    from pytest_kindinfra import build_and_deploy, create_cluster, resolve

    with create_cluster(resolve(folder="shop")) as stack:
        build_and_deploy(stack, "web")
        print(stack.url("web"))

They bring up parts of the plan through the same lines as a test run does all of it.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.graph import in_order
from pytest_kindinfra.lines.builds import Builds
from pytest_kindinfra.lines.images import ImageLines
from pytest_kindinfra.ownstack import context_for
from pytest_kindinfra.stack import bring_up_services, lines_pool
from pytest_kindinfra.suggestions import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import ThreadPoolExecutor

    from pytest_kindinfra.model import BuiltImage, Endpoint, Service
    from pytest_kindinfra.ownstack import OwnStack


class _Given:
    """Images that were built before: stands where `Builds` would."""

    def __init__(self, images: Mapping[str, BuiltImage]) -> None:
        self.built: dict[str, Future[BuiltImage]] = {name: Future() for name in images}
        for name, image in images.items():
            self.built[name].set_result(image)

    def begin(self, pool: ThreadPoolExecutor, ready: Future[Any]) -> None:
        """Do nothing: all is there."""


def load_images(stack: OwnStack, images: Mapping[str, BuiltImage]) -> None:
    """Load images into all kind nodes that lack them, in one stream.

    Args:
        stack: What `create_cluster` returned.
        images: Declared name to image: what `build_images` returned.

    Raises:
        KindInfraError: One could not be loaded.
    """
    loader, context = stack.life.line.loader.result(), stack.life.context
    names = {image.reference: name for name, image in images.items()}
    loader.load_together(names, context.deadline())
    for name, image in images.items():
        context.run.write(f"image-{name}", asdict(image))
    stack.life.images.update(images)


def deploy_service(stack: OwnStack, service: str) -> tuple[Endpoint, ...]:
    """Apply a service's objects, and wait until it is ready and its endpoints have answered.

    Args:
        stack: What `create_cluster` returned.
        service: Its name; what it needs must be deployed, and its images loaded.

    Returns:
        Its endpoints; at a second call what the first one found.

    Raises:
        KindInfraError: It did not become ready, or what it needs is not there.
    """
    (wanted,) = _services(stack, [service])
    if not _is_settled(stack, wanted):
        _refuse_early(stack, wanted)
        context = context_for(stack.life.context, [wanted])
        with lines_pool(context) as pool:
            line = stack.life.line
            images = ImageLines(context, line, _Given(stack.life.images), pool)
            bring_up_services(context, line, images, pool)
    return stack.endpoints(service)


def build_and_deploy(stack: OwnStack, *services: str) -> dict[str, tuple[Endpoint, ...]]:
    """Build, load and deploy services with all that they need, as much as can be side by side.

    Nothing is built that was built before from the same files, nothing deployed a second time.

    Args:
        stack: What `create_cluster` returned.
        services: Their names; none means all of the plan.

    Returns:
        Service to its endpoints, for the services named.

    Raises:
        KindInfraError: Some did not become ready; the text holds all causes.
    """
    plan = stack.life.context.plan
    needs = {one.name: [need.name for need in one.needs] for one in plan.services}
    named = [one.name for one in _services(stack, services or needs)]
    wanted = _services(stack, in_order(named, needs))
    context = context_for(stack.life.context, _unsettled(stack, wanted))
    with lines_pool(context) as pool:
        builds = Builds(context)
        builds.look()
        images = ImageLines(context, stack.life.line, builds, pool)
        bring_up_services(context, stack.life.line, images, pool)
    builds.remember(stack.life.line.layers)
    _raise_failures(stack, wanted)
    stack.life.images.update({name: one.result() for name, one in builds.built.items()})
    return {name: stack.endpoints(name) for name in named}


def _services(stack: OwnStack, names: Iterable[str]) -> list[Service]:
    services = {one.name: one for one in stack.life.context.plan.services}
    for name in names:
        if name not in services:
            hint = did_you_mean(name, services) or f"; it has: {listed(services)}"
            msg = f'the plan has no service "{name}"{hint}'
            raise KindInfraError(msg)
    return [services[name] for name in names]


def _unsettled(stack: OwnStack, services: Iterable[Service]) -> list[Service]:
    return [one for one in services if not _is_settled(stack, one)]


def _is_settled(stack: OwnStack, service: Service) -> bool:
    """Whether it is ready or failed, which it stays for as long as the cluster."""
    return stack.life.context.run.is_settled(f"service-{service.name}")


def _refuse_early(stack: OwnStack, service: Service) -> None:
    needs = _services(stack, [need.name for need in service.needs])
    if missing := [need.name for need in needs if not _is_settled(stack, need)]:
        msg = (
            f'service "{service.name}" needs {", ".join(missing)}, not deployed yet\n'
            "To fix: deploy what it needs first, or call build_and_deploy"
        )
        raise KindInfraError(msg)
    _raise_failures(stack, needs)
    if missing := [name for name in service.images if name not in stack.life.images]:
        msg = (
            f'service "{service.name}" runs {", ".join(missing)}, not loaded yet\n'
            "To fix: load_images(stack, build_images(plan)), or call build_and_deploy"
        )
        raise KindInfraError(msg)


def _raise_failures(stack: OwnStack, services: Iterable[Service]) -> None:
    """Raise if some failed, with each cause once."""
    run = stack.life.context.run
    results = [run.settled(f"service-{service.name}") for service in services]
    causes = {one["root"]: one["full"] for one in results if one["state"] == "failed"}
    if causes:
        texts = [f"{root} failed:\n{cause}" for root, cause in causes.items()]
        raise KindInfraError("\n".join([*texts, f"all of it: {run.path}"]))
