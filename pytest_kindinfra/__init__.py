"""End-to-end tests on a real kind cluster; see the README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindinfra.errors import KindInfraError, OnceError
    from pytest_kindinfra.kindcluster import KindCluster
    from pytest_kindinfra.model import Endpoint, EndpointSpec, Image, Service
    from pytest_kindinfra.view import Stack

__all__ = [
    "Endpoint",
    "EndpointSpec",
    "Image",
    "KindCluster",
    "KindInfraError",
    "OnceError",
    "Service",
    "Stack",
]

_HOME = {
    "Endpoint": "model",
    "EndpointSpec": "model",
    "Image": "model",
    "KindCluster": "kindcluster",
    "KindInfraError": "errors",
    "OnceError": "errors",
    "Service": "model",
    "Stack": "view",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: loading the plugin must cost nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("pytest-kindinfra")
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"pytest_kindinfra.{_HOME[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
