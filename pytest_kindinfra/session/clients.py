"""What tests get from fixtures to talk to services and to the engine, and to apply objects."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from pytest_kindinfra.errors import KindInfraError, ToolMissingError
from pytest_kindinfra.state.records import PlanMade

if TYPE_CHECKING:
    import docker
    import httpx

    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.model import Endpoint, KubeObject
    from pytest_kindinfra.state.directory import RunDirectory


_SECONDS = 10.0


class Apply:
    """`kindinfra_apply(objects_or_path)`: objects for one test."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def __call__(
        self,
        objects: Any,
        namespace: str | None = None,
        *,
        wait: bool = True,
        timeout: float = 60.0,
    ) -> list[KubeObject]:
        """Apply objects; they are deleted when the test ends, the last one first.

        Args:
            objects: The path of a YAML file, relative to the rootdir; an object; or several of
                either.
            namespace: Where those go that name none; None means the declared namespace.
            wait: Whether to wait until they are ready.
            timeout: Seconds until they must be.

        Returns:
            The objects as the API server stored them, in the order in which they were applied.

        Raises:
            KindInfraError: They cannot be read, were refused, exist already, or did not get
                ready.
        """
        return self._stack.apply(objects, namespace=namespace, wait=wait, timeout=timeout)


class Http:
    """`kindinfra_http("web")`: clients of endpoints, each made once."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._clients: dict[str, httpx.Client] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all clients."""
        for client in self._clients.values():
            client.close()

    def __call__(self, service: str, endpoint: str | None = None) -> httpx.Client:
        """Return an `httpx.Client` with an endpoint as its base URL.

        It has a timeout of 10 s and asks no proxy of the environment. An https endpoint's
        certificate is not verified, since it is seldom one for 127.0.0.1. Its requests name the
        host of an Ingress that is reached by another address.

        Args:
            service: The service.
            endpoint: The endpoint's name; None means the first one declared.

        Raises:
            ToolMissingError: httpx is not installed.
            KindInfraError: There is no such service or endpoint, or it does not speak HTTP.
        """
        found = self._stack.endpoint(service, endpoint)
        if found.scheme not in {"http", "https"}:
            msg = (
                f'endpoint "{found.name}" of "{service}" speaks {found.scheme}: kindinfra_http is '
                "for http and https"
            )
            raise KindInfraError(msg)
        key = f"{found.virtual_host} {found.url}"
        if key not in self._clients:
            self._clients[key] = _new_client(found)
        return self._clients[key]


def _new_client(endpoint: Endpoint) -> httpx.Client:
    more: dict[str, Any] = {}
    if name := endpoint.virtual_host:
        # TLS would say the address otherwise.
        say = lambda request: request.extensions.update(sni_hostname=name)  # noqa: E731
        more = {"headers": {"Host": name}, "event_hooks": {"request": [say]}}
    client: httpx.Client = _httpx().Client(
        base_url=endpoint.url, timeout=_SECONDS, trust_env=False, verify=False, **more
    )
    return client


def docker_client(run: RunDirectory) -> docker.DockerClient | None:
    """Return a client of the run's engine; None if that is podman.

    It finds the engine as the `docker` command does: DOCKER_HOST, DOCKER_CONTEXT, the current
    context.
    """
    plan = run.settled(PlanMade)
    if isinstance(plan, PlanMade) and plan.engine == "podman":
        return None
    import docker

    from pytest_kindinfra.wiring import docker_address

    address = docker_address(os.environ)
    if address.url and address.source != "DOCKER_HOST":
        return docker.DockerClient(base_url=address.url)
    return docker.from_env()


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        msg = (
            "the fixture kindinfra_http needs httpx, which is not installed\n"
            "To fix: pip install pytest-kindinfra[http]"
        )
        raise ToolMissingError(msg) from error
    return httpx
