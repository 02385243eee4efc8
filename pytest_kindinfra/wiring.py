"""The only place that names a concrete engine or provider."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from pytest_kindinfra.clusters.existing import Existing
from pytest_kindinfra.clusters.kind import Kind
from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.kube import OurObjects
from pytest_kindinfra.process import SubprocessRunner
from pytest_kindinfra.redaction import Redactor
from pytest_kindinfra.request import Tools
from pytest_kindinfra.steps.load import ImageLoader
from pytest_kindinfra.timeline import Timeline

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.model import Load
    from pytest_kindinfra.process import Runner
    from pytest_kindinfra.request import Request
    from pytest_kindinfra.timeline import Deadline


def make_tools() -> Tools:
    """Return who does the work on this machine."""
    redactor = Redactor()
    runner = SubprocessRunner(redactor)
    return Tools(
        engine=Docker(runner),
        provider=Kind(runner),
        runner=runner,
        timeline=Timeline(),
        redactor=redactor,
    )


def tools_for(request: Request, kubeconfig: Path, tools: Tools) -> Tools:
    """Return who does the work in the cluster of a request, which may be there already.

    Args:
        request: Says which cluster.
        kubeconfig: That of the run.
        tools: Who does the work where a cluster is made.
    """
    if (existing := request.existing) is None:
        return tools
    objects = OurObjects(request.run_id, kubeconfig)
    provider = Existing(tools.provider, objects, existing.nodes)
    return replace(tools, provider=cast("Provider", provider))


def load_one_image(
    cluster: str, reference: str, *, how: Load, runner: Runner, deadline: Deadline
) -> None:
    """Load an image of the engine into every kind node of `cluster`, unless it is there.

    Raises:
        CommandError: It could not be loaded.
    """
    provider = Kind(runner)
    loader = ImageLoader(
        provider.nodes(cluster, deadline),
        engine=Docker(runner),
        provider=provider,
        runner=runner,
        timeline=Timeline(),
        how=how,
    )
    loader.load(reference, reference, deadline)
