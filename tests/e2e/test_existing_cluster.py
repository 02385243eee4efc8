"""Runs in a cluster that was there before: it stays, and so does everything in it but ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.engines.registry import DockerRegistry, with_registry
from pytest_kindinfra.system.runner import Runner
from pytest_kindinfra.system.timeline import Deadline
from tests.e2e.runs import LONGEST_RUN, ROOT, registry, run_command, run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.runs import Run

NAME = "kindinfra-e2e-existing"
NODE_IMAGE = "kindest/node:v1.34.4"
KINDS = (
    "namespaces,configmaps,serviceaccounts,secrets,services,deployments,leases,"
    "customresourcedefinitions,clusterroles,clusterrolebindings,parts"
)
GONE_SOON = {"shop"}
"""Its deletion was asked for and is not waited for."""


class Cluster:
    """A kind cluster made by hand, and what others have in it."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"

    def kubectl(self, *words: str) -> str:
        argv = ("kubectl", "--kubeconfig", str(self.kubeconfig), *words)
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout

    def objects(self) -> dict[str, str]:
        """Return what is there: each object to its uid, and to what changes when it is written to.

        That is its generation where it has one: the version then changes with its status.
        """
        items: list[Any] = json.loads(self.kubectl("get", KINDS, "-A", "-o", "json"))["items"]
        return {
            f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}": (
                f"{one['metadata']['uid']} "
                f"{one['metadata'].get('generation') or one['metadata']['resourceVersion']}"
            )
            for one in items
            if one["kind"] != "Lease" or one["metadata"]["name"] == "kindinfra"
        }


def kind(*words: str) -> None:
    subprocess.run(("kind", *words), capture_output=True, timeout=300, check=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    config = ("--kubeconfig", str(made.kubeconfig))
    # Its containerd reads certs.d, as that of older node images of kind does not by itself.
    file = made.kubeconfig.with_name("kind.json")
    file.write_text(
        json.dumps(with_registry({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}))
    )
    words = ("--name", NAME, "--image", NODE_IMAGE, "--wait", "90s", "--config", str(file))
    try:
        kind("create", "cluster", *words, *config)
        folder = ROOT / "tests" / "e2e" / "existing"
        made.kubectl("apply", "-f", str(folder / "foreign.yaml"), "-f", str(folder / "crd.yaml"))
        chart = str(folder / "chart")
        helm = ("helm", "install", "theirs", chart, "--namespace", "foreign", *config)
        subprocess.run(helm, capture_output=True, timeout=60, check=True)
        yield made
    finally:
        kind("delete", "cluster", "--name", NAME, *config)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project") / "existing"
    shutil.copytree(ROOT / "tests" / "e2e" / "existing", folder)
    (folder / "pytest.ini").touch()
    dockerfile = folder / "svc" / "Dockerfile"
    dockerfile.write_text(f"{dockerfile.read_text()}LABEL dev.kindinfra.e2e={id(folder)}\n")
    yield folder
    for file in folder.rglob("state/image-web.json"):
        image = json.loads(file.read_text())["value"]["image"]
        names = [image["reference"], *image["contexts"]]
        subprocess.run(["docker", "image", "rm", "-f", *names], check=False, capture_output=True)


@pytest.fixture(scope="module")
def before_and_run(cluster: Cluster, project: Path) -> tuple[dict[str, str], Run]:
    before = cluster.objects()
    option = f"--kindinfra-kubeconfig={cluster.kubeconfig}"
    return before, run_pytest(project, "-n", "2", option, "existing_cases.py")


def test_tests_pass_but_for_those_of_services_that_would_change_what_is_there(
    before_and_run: tuple[dict[str, str], Run],
) -> None:
    _, run = before_and_run

    assert "10 passed, 2 errors" in run.output, run.output
    assert run.report["outcome"]["failures"] == {
        "taken": 'service "taken" failed to start: release "theirs" exists in namespace "foreign" '
        "and does not belong to this run, so it is not changed\n"
        "To fix: give it another name (helm.release) or use another [cluster] namespace",
        "clash": 'service "clash" failed to start: ConfigMap "settings" in namespace "foreign" '
        "exists in the cluster and is not as declared: data.mode differs\n"
        "it does not belong to this run, so it is not changed\n"
        "To fix: declare it as it is in the cluster, remove it from the manifests, or use another "
        "namespace for it ([cluster] namespace)",
    }


def test_all_workers_have_the_same_endpoints(
    before_and_run: tuple[dict[str, str], Run], project: Path
) -> None:
    assert before_and_run
    urls = {path.read_text() for path in project.glob("urls-*")}

    assert len(urls) == 1
    assert len(set(urls.pop().split())) == 3


def test_what_others_have_there_is_untouched_and_what_is_ours_is_gone(
    before_and_run: tuple[dict[str, str], Run], cluster: Cluster
) -> None:
    before, run = before_and_run

    after = {
        name: what
        for name, what in cluster.objects().items()
        if not any(f"Namespace /{one}" == name or f" {one}/" in name for one in GONE_SOON)
        and not name.startswith("Namespace /test-a-namespace-of-a-test-")
        and " test-a-namespace-of-a-test-" not in name
    }
    assert after == before
    phases = json.loads(cluster.kubectl("get", "namespaces", "-o", "json"))["items"]
    left = [one for one in phases if "dev.kindinfra/run" in one["metadata"].get("labels", {})]
    assert {one["status"]["phase"] for one in left} <= {"Terminating"}
    assert [one["kind"] for one in run.report["phases"] if one["kind"] in {"enter", "clear"}] == [
        "enter",
        "clear",
    ]


def test_no_thread_is_left(before_and_run: tuple[dict[str, str], Run], project: Path) -> None:
    assert before_and_run
    threads = {path.name: path.read_text().splitlines() for path in project.glob("threads-*")}

    assert len(threads) >= 2  # xdist ends a worker that takes more than 10 s to exit
    left = [name for names in threads.values() for name in names if "kindinfra" in name.lower()]
    assert left == []
    assert threads["threads-controller"] == ["MainThread"]


def test_a_suite_for_pytest_kind_passes_there_in_one_process(
    cluster: Cluster, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "tests" / "e2e" / "from_pytest_kind", tmp_path / "suite")
    (tmp_path / "suite" / "pytest.ini").touch()

    option = f"--kindinfra-kubeconfig={cluster.kubeconfig}"
    run = run_pytest(tmp_path / "suite", "-p", "no:xdist", option, "suite_cases.py")

    assert "20 passed" in run.output, run.output


def test_a_namespace_that_another_run_holds_is_left_to_it(cluster: Cluster, project: Path) -> None:
    cluster.kubectl("wait", "--for=delete", "namespace/shop", "--timeout=60s")
    cluster.kubectl("create", "namespace", "shop")
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": "kindinfra",
            "namespace": "shop",
            "labels": {"dev.kindinfra/run": "other-run"},
            "annotations": {"dev.kindinfra/host": "build-7"},
        },
    }
    (project / "lease.json").write_text(json.dumps(lease))
    cluster.kubectl("create", "-f", str(project / "lease.json"))

    option = f"--kindinfra-kubeconfig={cluster.kubeconfig}"
    run = run_pytest(project, "-p", "no:xdist", option, "existing_cases.py")

    assert run.exit_code == 1
    assert run.report["outcome"]["failures"]["cluster"] == (
        'the cluster failed to start: run other-run on "build-7" uses namespace "shop" '
        "exclusively\n"
        "To fix: wait until it ends, use another [cluster] namespace, or, if it is over: kubectl "
        f"--kubeconfig {cluster.kubeconfig} delete all,leases.coordination.k8s.io "
        "--all-namespaces --wait=false --selector dev.kindinfra/run=other-run"
    )
    assert "lease" in cluster.kubectl("get", "lease", "-n", "shop", "kindinfra", "-o", "name")


RESTRICTED = """
[cluster]
namespace = "team"
[services.idle]
manifests = ["idle.yaml"]
"""
IDLE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: ours}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: PAUSE, imagePullPolicy: IfNotPresent}]
"""
SCRIPT = """
import sys
from pytest_kindinfra import build_and_deploy, create_cluster, resolve

with create_cluster(resolve(), kubeconfig=sys.argv[1], context="team-dev") as stack:
    build_and_deploy(stack)
    (pod,) = stack.core.list_namespaced_pod("team", label_selector="app=idle").items
    print(stack.cluster, pod.status.phase)
"""
IDLE_CASES = """
import pytest

@pytest.mark.kindinfra("idle")
def test_it_is_there(kindinfra):
    assert kindinfra.namespace == "team"
"""


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> str:
    """Return the token of a user who has all rights in one namespace alone."""
    cluster.kubectl("create", "namespace", "team")
    cluster.kubectl("create", "serviceaccount", "dev", "--namespace", "team")
    role = ("--clusterrole=admin", "--serviceaccount=team:dev", "--namespace", "team")
    cluster.kubectl("create", "rolebinding", "dev", *role)
    return cluster.kubectl("create", "token", "dev", "--namespace", "team").strip()


@pytest.fixture
def restricted(cluster: Cluster, token: str, tmp_path: Path) -> Path:
    """Return a project with the kubeconfig of that user."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    context = config["contexts"][0]
    config["contexts"] += [{**context, "name": "team-dev"}]
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    images = cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.images[*].names[*]}")
    (pause,) = [one for one in images.split() if "/pause:" in one]
    (tmp_path / "kindinfra.toml").write_text(RESTRICTED)
    (tmp_path / "idle.yaml").write_text(IDLE.replace("PAUSE", pause))
    (tmp_path / "test_idle.py").write_text(IDLE_CASES)
    (tmp_path / "pytest.ini").touch()
    return tmp_path


def test_with_rights_in_one_namespace_alone_all_is_deleted_and_the_next_run_gets_in(
    cluster: Cluster, restricted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was deleted, without a word, and the next run was locked out by the Lease."""
    file = restricted / "kubeconfig"
    names = os.pathsep.join([str(restricted / "missing"), str(file)])
    monkeypatch.setenv("KUBECONFIG", names)  # as kubectl finds its contexts
    kinds = "configmaps,deployments,leases"
    before = cluster.kubectl("get", kinds, "--namespace", "team", "-o", "name")

    for option in (f"--kindinfra-kubeconfig={file}", "--kindinfra-context=team-dev"):
        run = run_pytest(restricted, "-p", "no:xdist", option)
        assert "1 passed" in run.output, run.output
        assert run.report["outcome"]["failures"] == {}
        assert "teardown failed" not in run.output

        left = cluster.kubectl("get", kinds, "--namespace", "team", "-o", "name")
        assert left == before

    (restricted / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", str(file)],
        cwd=restricted, capture_output=True, text=True, timeout=LONGEST_RUN, check=False,
    )  # fmt: skip
    assert done.stdout == "team-dev Running\n", done.stdout + done.stderr
    assert cluster.kubectl("get", kinds, "--namespace", "team", "-o", "name") == before


PER_RUN = """
[cluster]
namespace = "per-run"
ttl = "2h"
quota = { pods = 3 }
[services.idle]
manifests = ["idle.yaml"]
"""
PER_RUN_CASES = """
import pytest

@pytest.mark.kindinfra("idle")
def test_it_has_a_namespace_of_its_own(kindinfra):
    meta = kindinfra.core.read_namespace(kindinfra.namespace).metadata
    assert meta.name == f"kindinfra-{meta.labels['dev.kindinfra/run']}"
    assert meta.labels["dev.kindinfra/owner"]
    assert meta.annotations["dev.kindinfra/expires"] > meta.creation_timestamp.isoformat()
    (quota,) = kindinfra.core.list_namespaced_resource_quota(meta.name).items
    assert quota.spec.hard == {"pods": "3"}
"""


def abandon(cluster: Cluster, run: str) -> None:
    """Leave what a killed run of another machine leaves: a namespace that expired long ago."""
    cluster.kubectl("create", "namespace", f"kindinfra-{run}")
    cluster.kubectl("create", "clusterrole", f"left-{run}", "--verb=get", "--resource=pods")
    for kind_, name in (("namespace", f"kindinfra-{run}"), ("clusterrole", f"left-{run}")):
        labels = (f"dev.kindinfra/run={run}", "dev.kindinfra/owner=somebody")
        cluster.kubectl("label", kind_, name, *labels)
    expires = "dev.kindinfra/expires=2020-01-01T00:00:00Z"
    cluster.kubectl("annotate", "namespace", f"kindinfra-{run}", expires)


def left_of(cluster: Cluster, run: str) -> list[str]:
    """Return what is there of a run, but for namespaces that are on their way out."""
    kinds, label = "namespaces,clusterroles", f"dev.kindinfra/run={run}"
    found = json.loads(cluster.kubectl("get", kinds, "-l", label, "-o", "json"))["items"]
    stays = [one for one in found if one.get("status", {}).get("phase") != "Terminating"]
    return [one["metadata"]["name"] for one in stays]


def test_a_run_has_its_own_namespace_and_removes_what_expired_as_gc_does(
    cluster: Cluster, restricted: Path
) -> None:
    (restricted / "kindinfra.toml").write_text(PER_RUN)
    (restricted / "test_idle.py").write_text(PER_RUN_CASES)
    abandon(cluster, "old-1")

    option = f"--kindinfra-kubeconfig={cluster.kubeconfig}"
    run = run_pytest(restricted, "-p", "no:xdist", option)

    assert "1 passed" in run.output, run.output
    assert left_of(cluster, run.folder.resolve().name) == []
    assert left_of(cluster, "old-1") == [], run.output

    abandon(cluster, "old-2")
    done = run_command(restricted, "gc", "--kubeconfig", str(cluster.kubeconfig))
    assert "deleted namespace kindinfra-old-2\n" in done.stdout, done.stdout + done.stderr
    assert left_of(cluster, "old-2") == []


PUSHED = """
[cluster]
namespace = "team"
[images]
registry = "{address}/pushed"
[images.pushed-base]
context = "base"
[images.pushed-idler]
context = "idler"
needs = ["pushed-base"]
[services.idle]
image = "pushed-idler"
manifests = ["idle.yaml"]
"""
PUSHED_CASES = """
import json
import urllib.request
import pytest

@pytest.mark.kindinfra("idle")
def test_its_pod_runs_what_the_registry_has(kindinfra):
    pods = kindinfra.core.list_namespaced_pod("team", label_selector="app=idle").items
    (image,) = {pod.spec.containers[0].image for pod in pods}
    assert image == kindinfra.images["pushed-idler"]
    name, _, digest = image.partition("@")
    host, _, path = name.partition("/")
    asked = urllib.request.Request(f"http://{host}/v2/{path}/manifests/{digest}", method="HEAD")
    asked.add_header("Accept", "application/vnd.docker.distribution.manifest.v2+json")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.headers["Docker-Content-Digest"] == digest
"""


def docker(*words: str) -> str:
    argv = ["docker", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout


def forget_images(folder: Path) -> None:
    """Remove what the runs in a folder named: the engine is that of another machine then."""
    names = set()
    for file in folder.rglob("state/image-*.json"):
        image = json.loads(file.read_text())["value"]["image"]
        names |= {image["reference"], *image["contexts"]}
    subprocess.run(["docker", "image", "rm", "-f", *names], check=False, capture_output=True)


@pytest.fixture
def pushing(restricted: Path, project: Path) -> Iterator[Path]:
    """Return a project whose images are in a registry, with a marker that no other run has."""
    for name, text in (
        ("base", "FROM busybox"),
        ("idler", 'FROM pushed-base\nCMD ["sleep", "9999"]'),
    ):
        (restricted / name).mkdir()
        (restricted / name / "Dockerfile").write_text(f"{text}\nLABEL of={id(project)}-{name}\n")
    (restricted / "idle.yaml").write_text(IDLE.replace("PAUSE", "pushed-idler"))
    (restricted / "test_idle.py").write_text(PUSHED_CASES)
    yield restricted
    forget_images(restricted)


def test_images_are_pushed_once_and_pulled_by_both_kinds_of_clusters(
    cluster: Cluster, pushing: Path
) -> None:
    with registry() as address:
        (pushing / "kindinfra.toml").write_text(PUSHED.format(address=address))
        deadline, host = Deadline.after(60), DockerRegistry(Runner())
        for node in docker("ps", "--format", "{{.Names}}", "--filter", f"name={NAME}").split():
            host.open_to(node, host.find(address, deadline), pushing / "certs", deadline)

        # This user may not ask for nodes, so that the cluster might be anywhere.
        first = run_pytest(
            pushing, "-p", "no:xdist", f"--kindinfra-kubeconfig={pushing}/kubeconfig"
        )
        assert "1 passed" in first.output, first.output
        assert [one["subject"] for one in first.phases("push")] == ["pushed-base", "pushed-idler"]
        assert first.phases("load") == []

        # Another machine builds on top of an image that only the registry has.
        forget_images(pushing)
        with (pushing / "idler" / "Dockerfile").open("a") as file:
            file.write("LABEL changed=yes\n")
        built = run_command(pushing, "build", "idle")
        assert built.returncode == 0, built.stdout + built.stderr
        assert "localhost/pushed-base" not in docker("image", "ls", "--format", "{{.Repository}}")

        # A third one finds all that it needs there, and so do its kind nodes.
        forget_images(pushing)
        own = f"--kindinfra-kubeconfig={cluster.kubeconfig}"
        again = run_pytest(pushing, "-p", "no:xdist", own)
        assert "1 passed" in again.output, again.output
        assert (again.phases("build"), again.phases("push")) == ([], [])
        (load,) = again.phases("load")
        assert load["subject"] == "pushed-idler"
        assert "1 pulled by the kind nodes" in again.output
        assert "localhost/pushed-idler" not in docker("image", "ls", "--format", "{{.Repository}}")


def test_a_forward_outlasts_its_pod_and_the_api_server(cluster: Cluster, project: Path) -> None:
    """The last one here, since the cluster needs time to recover."""
    cluster.kubectl("delete", "namespace", "shop", "--ignore-not-found", "--timeout=100s")

    option = f"--kindinfra-kubeconfig={cluster.kubeconfig}"
    run = run_pytest(project, "-p", "no:xdist", option, "restart_cases.py")

    assert run.exit_code == 0, run.output
    assert "1 passed" in run.output
