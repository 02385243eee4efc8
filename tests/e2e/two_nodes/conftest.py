"""All hooks, each of which leaves word that it was called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from pytest_kindinfra import Image, Stack

HERE = Path(__file__).parent


def note(*words: str) -> None:
    with (HERE / "hooks.txt").open("a") as file:
        file.write(" ".join(words) + "\n")


def pytest_kindinfra_services(config: pytest.Config) -> Iterable[Service]:  # noqa: ARG001
    note("services")
    return [Service(name="from-hook", run="steps:config_map")]


def pytest_kindinfra_before_build(config: pytest.Config, image: Image) -> None:  # noqa: ARG001
    note("before_build", image.name)
    if image.name == "web":
        (HERE / "web" / "words").write_text("generated")


def pytest_kindinfra_before_deploy(stack: Stack, service: Service) -> None:
    note("before_deploy", service.name, stack.namespace)


def pytest_kindinfra_after_deploy(stack: Stack, service: Service) -> None:
    urls = [stack.url("tls")] if service.name == "tls" else []
    note("after_deploy", service.name, *urls)


def pytest_kindinfra_before_teardown(stack: Stack, directory: Path) -> None:
    note("before_teardown", stack.cluster, str(directory.is_dir()))
