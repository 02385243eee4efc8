"""End-to-end tests on a real kind cluster; see the README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindinfra.commands.images import build_images, resolve, save_images
    from pytest_kindinfra.commands.stack import (
        OwnStack,
        build_and_deploy,
        create_cluster,
        delete_cluster,
        deploy_service,
        load_images,
    )
    from pytest_kindinfra.errors import KindInfraError, OnceError
    from pytest_kindinfra.intests.pods import ExecError, ExecResult
    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.model import (
        BuiltImage,
        Endpoint,
        EndpointSpec,
        Helm,
        Image,
        Need,
        Phase,
        Plan,
        Service,
    )
    from pytest_kindinfra.session.clients import Apply, Http
    from pytest_kindinfra.session.fixtures import KindCluster

__all__ = [
    "Apply",
    "BuiltImage",
    "Endpoint",
    "EndpointSpec",
    "ExecError",
    "ExecResult",
    "Helm",
    "Http",
    "Image",
    "KindCluster",
    "KindInfraError",
    "Need",
    "OnceError",
    "OwnStack",
    "Phase",
    "Plan",
    "Service",
    "Stack",
    "build_and_deploy",
    "build_images",
    "create_cluster",
    "delete_cluster",
    "deploy_service",
    "load_images",
    "resolve",
    "save_images",
]

_HOME = {
    "Apply": "session.clients",
    "BuiltImage": "model",
    "Endpoint": "model",
    "EndpointSpec": "model",
    "ExecError": "intests.pods",
    "ExecResult": "intests.pods",
    "Helm": "model",
    "Http": "session.clients",
    "Image": "model",
    "KindCluster": "session.fixtures",
    "KindInfraError": "errors",
    "Need": "model",
    "OnceError": "errors",
    "OwnStack": "commands.stack",
    "Phase": "model",
    "Plan": "model",
    "Service": "model",
    "Stack": "intests.stack",
    "build_and_deploy": "commands.stack",
    "build_images": "commands.images",
    "create_cluster": "commands.stack",
    "delete_cluster": "commands.stack",
    "deploy_service": "commands.stack",
    "load_images": "commands.stack",
    "resolve": "commands.images",
    "save_images": "commands.images",
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
