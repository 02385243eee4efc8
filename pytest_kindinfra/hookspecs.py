"""The hooks that plugins and initial conftests may implement.

The controller of an xdist run loads no nested conftest, so implementations belong into a plugin,
the rootdir's conftest or one named by the arguments or `testpaths`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.model import Image, Service


def pytest_kindinfra_services(config: pytest.Config) -> Iterable[Service | Image]:  # type: ignore[empty-body]
    """Return services and images to add to the declaration.

    Called once per run, in pytest's main process, when a selected test needs something.
    """


def pytest_kindinfra_before_build(config: pytest.Config, image: Image) -> None:
    """Prepare what `image` is built from, such as generated sources.

    Called once per run and image, before the context is hashed, from a thread. Of the variables
    that it sets, those count that the image's `build_args` or `build_options` name.
    """


def pytest_kindinfra_before_deploy(stack: Stack, service: Service) -> None:
    """Do something before a service's objects are applied; an exception fails the service."""


def pytest_kindinfra_after_deploy(stack: Stack, service: Service) -> None:
    """Do something after a service became ready; an exception fails the service."""


def pytest_kindinfra_diagnose(stack: Stack, directory: Path) -> None:
    """Add to what is kept in `directory` of a run that failed; never fatal."""


def pytest_kindinfra_before_teardown(stack: Stack, directory: Path) -> None:
    """Fetch from the cluster what is of use, such as coverage, before it is deleted."""
