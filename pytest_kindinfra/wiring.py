"""The only place that names a concrete engine or provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.clusters.kind import Kind
from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.process import SubprocessRunner
from pytest_kindinfra.redaction import Redactor
from pytest_kindinfra.request import Tools
from pytest_kindinfra.steps.load import ImageLoader
from pytest_kindinfra.timeline import Timeline

if TYPE_CHECKING:
    from pytest_kindinfra.model import Load
    from pytest_kindinfra.process import Runner
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
