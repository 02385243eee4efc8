"""The fixtures that tests request: pytest finds them in the plugin, which imports them.

Part of what every pytest process loads: nothing heavy is imported before a test requests it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.session.stash import (
    ASKED,
    CURRENT,
    FAILED,
    STACK,
    WORKER,
    meanwhile,
    outline,
    refuse,
    run_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker import DockerClient

    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.session.clients import Apply, Http
    from pytest_kindinfra.session.fixtures import KindCluster, Once


@pytest.fixture(scope="session")
def kindinfra(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """What the run brought up on the cluster: endpoints, credentials, namespace, images."""
    __tracebackhide__ = True
    from pytest_kindinfra.session.undoing import stack_of
    from pytest_kindinfra.session.waiting import await_services

    config = request.config
    asked = config.stash.get(ASKED, False)
    refusal = await_services((), run_of(config), asked=asked, meanwhile=meanwhile(config))
    if refusal:  # a test that could not say at collection that it needs the cluster
        refuse(config, refusal)
    stack = stack_of(
        run_of(config),
        outline(config).settings,
        folder=config.rootpath,
        current=lambda: config.stash.get(CURRENT, None),
        worker=config.stash.get(WORKER, ""),
    )
    process = os.getpid()
    config.stash[STACK] = stack, process
    yield stack
    if os.getpid() == process:  # a child that a test forked off shares connections with its parent
        del config.stash[STACK]
        stack.close()  # what a test that was cut short has left: `undo_left`, at the run's end


@pytest.fixture(scope="session")
def kubeconfig(kindinfra: Stack) -> Path:
    """The file with the cluster's credentials."""
    return kindinfra.kubeconfig


@pytest.fixture(scope="session")
def kind_cluster(kindinfra: Stack, request: pytest.FixtureRequest) -> KindCluster:
    """The cluster under the names of pytest-kind: name, kubectl(), port_forward(), api."""
    from pytest_kindinfra.session.fixtures import KindCluster

    settings = outline(request.config).settings
    return KindCluster(kindinfra, run_of(request.config), load=settings.load)


@pytest.fixture
def kindinfra_namespace(kindinfra: Stack, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace for one test, ready for pods; deleted afterwards, not waited for.

    It stays if the test failed and the cluster is kept then.
    """
    from pytest_kindinfra.session.fixtures import LABELS, fresh_name, make_namespace

    name, process = fresh_name(request.node.name), os.getpid()
    kube = make_namespace(kindinfra, name)
    yield name
    if os.getpid() != process:  # forked off by the test, whose namespace it is
        return
    failed = request.node.stash.get(FAILED, False)
    if not failed or outline(request.config).settings.keep == "never":
        kube.delete_namespace(name, LABELS)


@pytest.fixture
def kindinfra_apply(kindinfra: Stack) -> Apply:
    """`kindinfra_apply(objects_or_path)`: objects for one test, deleted when it ends."""
    from pytest_kindinfra.session.clients import Apply

    return Apply(kindinfra)


@pytest.fixture(scope="session")
def kindinfra_worker_namespace(kindinfra: Stack, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for the tests of this worker, ready for pods; deleted after the last of them.

    It stays if the cluster is always kept.
    """
    from pytest_kindinfra.session.fixtures import LABELS, fresh_name, make_namespace

    worker = os.environ.get("PYTEST_XDIST_WORKER", "tests")
    name, process = fresh_name(worker), os.getpid()
    kube = make_namespace(kindinfra, name)
    yield name
    if os.getpid() == process and outline(request.config).settings.keep != "always":
        kube.delete_namespace(name, LABELS)


@pytest.fixture(scope="session")
def kindinfra_http(kindinfra: Stack) -> Iterator[Http]:
    """`kindinfra_http("web")`: an `httpx.Client` for an endpoint; closed with the session."""
    from pytest_kindinfra.session.clients import Http

    with Http(kindinfra) as clients:
        yield clients


@pytest.fixture(scope="session")
def kindinfra_docker(
    kindinfra: Stack,  # noqa: ARG001 - so that the cluster is there
    request: pytest.FixtureRequest,
) -> Iterator[DockerClient]:
    """A `docker.DockerClient` of the engine that has the kind nodes; skips with podman."""
    from contextlib import closing

    from pytest_kindinfra.session.clients import docker_client

    client = docker_client(run_of(request.config))
    if client is None:
        pytest.skip("kindinfra_docker: the engine of this run is podman")
    with closing(client):
        yield client


@pytest.fixture(scope="session")
def kindinfra_once(request: pytest.FixtureRequest) -> Once:
    """`kindinfra_once("key", produce)`: one call per run, its value or failure everywhere."""
    from pytest_kindinfra.session.fixtures import Once

    return Once(run_of(request.config))
