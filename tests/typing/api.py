"""The public names as users annotate them; only mypy reads this file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import httpx
import pytest
from kubernetes.client import AppsV1Api, BatchV1Api, CoreV1Api, CustomObjectsApi

from pytest_kindinfra import (
    Apply,
    BuiltImage,
    Endpoint,
    EndpointSpec,
    ExecError,
    ExecResult,
    Http,
    Image,
    KindCluster,
    KindInfraError,
    Need,
    OnceError,
    OwnStack,
    Phase,
    Plan,
    Service,
    Stack,
    build_and_deploy,
    build_images,
    create_cluster,
    delete_cluster,
    deploy_service,
    load_images,
    resolve,
    save_images,
)

if TYPE_CHECKING:
    import docker

    from pytest_kindinfra.session.fixtures import Once


@pytest.mark.kindinfra("datastorage")
def test_stack(kindinfra: Stack) -> None:
    assert_type(kindinfra.url("aianalysis", "metrics"), str)
    assert_type(kindinfra.endpoint("datastorage"), Endpoint)
    assert_type(kindinfra.endpoint("datastorage").port, int)
    assert_type(kindinfra.kubeconfig, Path)
    assert_type(kindinfra.namespace, str)
    assert_type(kindinfra.services, tuple[str, ...])
    assert_type(kindinfra.images, dict[str, str])
    assert_type(kindinfra.cluster, str)


def test_in_tests(kindinfra: Stack) -> None:
    assert_type(kindinfra.core, CoreV1Api)
    assert_type(kindinfra.apps, AppsV1Api)
    assert_type(kindinfra.batch, BatchV1Api)
    assert_type(kindinfra.custom, CustomObjectsApi)
    done = kindinfra.exec("web", ["cat"], container="web", input=b"x", timeout=5, check=True)
    assert_type(done, ExecResult)
    assert_type((done.exit_code, done.stdout, done.stderr), tuple[int, str, str])
    assert_type(kindinfra.logs("web", since=0.0, previous=True), str)
    assert_type(kindinfra.eventually(lambda: 1, timeout=1, every=0.1), int)
    assert_type(kindinfra.run_job("job.yaml", timeout=5), str)
    kindinfra.restart("web")
    kindinfra.delete_pods("web", timeout=60)
    kindinfra.scale("web", 3, workload="deployment/web")


def test_fixtures(
    kindinfra_apply: Apply,
    kindinfra_http: Http,
    kindinfra_worker_namespace: str,
    kindinfra_docker: docker.DockerClient,
) -> None:
    kindinfra_apply(["a.yaml", {"kind": "Pod"}], kindinfra_worker_namespace, wait=False)
    assert_type(kindinfra_http("web", "admin"), httpx.Client)
    kindinfra_docker.ping()


@pytest.mark.kindinfra("web", lock=["db", "queue"], exclusive=True, weight=2, fresh="on-rerun")
def test_heavy() -> None:
    """Marks take any keyword."""


def test_kind_cluster(kind_cluster: KindCluster) -> None:
    assert_type(kind_cluster.kubectl("get", "pods"), str)
    assert_type(kind_cluster.kubeconfig_path, Path)
    with kind_cluster.port_forward("service/web", 80) as port:
        assert_type(port, int)


def test_once(kindinfra_once: Once) -> None:
    kindinfra_once("key", lambda: [1])


def pytest_kindinfra_services(config: pytest.Config) -> list[Service | Image]:
    """What the hook returns."""
    endpoint = EndpointSpec(name="api", port=8080, path="/health")
    return [
        Image(name="web", context=config.rootpath),
        Service(name="web", images=("web",), manifests=("web.yaml",), endpoints=(endpoint,)),
        Service(name="seed", run="seed:fill", needs=(Need(name="web", level="started"),)),
    ]


def stages() -> dict[str, BuiltImage]:
    """Without pytest."""
    plan = resolve(folder="shop", services=["web"])
    assert_type(plan, Plan)
    images = build_images(plan, jobs=2, timeout=60, tag="{git}", no_cache=True)
    save_images(plan, images, folder=Path("out"))
    assert_type(images["web"].reference, str)
    return images


def stages_on_a_cluster(plan: Plan, images: dict[str, BuiltImage]) -> None:
    """Without pytest."""
    with create_cluster(plan, name="mine", progress=tell) as stack:
        assert_type(stack, OwnStack)
        load_images(stack, images)
        assert_type(deploy_service(stack, "db"), tuple[Endpoint, ...])
        assert_type(build_and_deploy(stack, "web"), dict[str, tuple[Endpoint, ...]])
        assert_type(stack.url("web"), str)
        delete_cluster(stack)


def tell(phase: Phase, ended: bool) -> None:  # noqa: FBT001 - as `progress` is called
    assert_type((phase.name, ended), tuple[str, bool])


def errors() -> tuple[type[Exception], ...]:
    """Ours are all of one kind."""
    return (KindInfraError, OnceError, ExecError)
