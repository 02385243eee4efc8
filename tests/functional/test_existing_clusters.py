"""Runs in a cluster that was there before, where neither an engine nor kind is needed."""

from __future__ import annotations

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fake_kubernetes import FakeKubernetes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fake_kubernetes_http import Address, Object
    from tests.functional.project import Project, Run

OPTION = "--kindinfra-kubeconfig=kube.yaml"
TESTS = """
import urllib.request
from pathlib import Path

@pytest.mark.parametrize("number", range(4))
@pytest.mark.kindinfra("store")
def test_store(kindinfra, number):
    Path(f"url-{number}").write_text(kindinfra.url("store"))
    assert urllib.request.urlopen(kindinfra.url("store")).read() == b"here"
    assert kindinfra.cluster == "fake"

def test_free(): ...
"""
THREADS = """
import threading
from pathlib import Path

def pytest_unconfigure(config):
    name = "threads-" + getattr(config, "workerinput", {}).get("workerid", "controller")
    Path(name).write_text("\\n".join(one.name for one in threading.enumerate()))
"""


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def kubernetes(project: Project) -> Iterator[FakeKubernetes]:
    """The cluster, whose pods all say the same at 8080, and the file that leads to it."""
    with FakeKubernetes() as fake, ThreadingHTTPServer(("127.0.0.1", 0), Web) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.01,))
        thread.start()
        fake.ports["", 8080] = web.server_port
        fake.write_kubeconfig(project.folder / "kube.yaml")
        for program in ("docker", "kind"):
            project.remove(program)
        yield fake
        web.shutdown()
        thread.join()


@pytest.mark.parametrize("workers", [None, 2])
def test_tests_run_there_and_nothing_of_ours_stays(
    project: Project, kubernetes: FakeKubernetes, workers: int | None
) -> None:
    before = {path: obj["metadata"]["uid"] for path, obj in kubernetes.objects.items()}
    project.service("store")
    project.tests(TESTS)
    project.write("conftest.py", THREADS)

    run = project.run(OPTION, workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 5}), run.text
    urls = {path.read_text() for path in project.folder.glob("url-*")}
    assert len(urls) == 1
    after = {path: obj["metadata"]["uid"] for path, obj in kubernetes.objects.items()}
    assert after == before
    threads = (project.folder / "threads-controller").read_text().splitlines()
    assert threads == ["MainThread"]
    assert run.report["outcome"] == {"state": "passed", "failures": {}, "kept": False}


def test_a_named_image_of_a_registry_is_run_as_it_is(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.declare('[images.store]\nprebuilt = "registry.example.com/team/store:7"\n')
    project.manifest("store", image="store")
    project.declare("[services.store]\nmanifests = ['store.yaml']\nimage = 'store'\n")
    project.tests(
        """
        @pytest.mark.kindinfra("store")
        def test_store(kindinfra):
            assert kindinfra.images == {"store": "registry.example.com/team/store:7"}
    """
    )

    run = project.run(OPTION)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    body = kubernetes.bodies["/apis/apps/v1/namespaces/default/deployments/store"]
    assert b'"image": "registry.example.com/team/store:7"' in body


def test_an_image_that_cannot_get_there_is_a_usage_error(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.service("store", image=True)
    project.tests(TESTS)

    run = project.run(OPTION)

    assert run.code == 4, run.text
    assert (
        '[images.store] cannot be loaded into "fake", which is no kind cluster of this host\n'
        '  To fix: set [images] registry = "HOST/PREFIX" or --kindinfra-registry to a registry'
        " that the cluster pulls from, or push it there and set "
        '[images.store] prebuilt = "REGISTRY/store:TAG"'
    ) in run.text
    assert [path for method, path in kubernetes.requests if method != "GET"] == []


def test_rights_that_the_user_lacks_are_a_usage_error_that_names_all_of_them(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.service("store")
    project.tests(TESTS)
    kubernetes.allows = lambda asked: (
        asked["verb"] not in {"*", "patch", "delete"} and asked.get("subresource") is None
    )

    run = project.run(OPTION)

    assert run.code == 4, run.text
    assert 'rights are missing in "fake":\n' in run.text
    lines = [line.strip() for line in run.text.splitlines() if ' in namespace "default"' in line]
    assert lines == [
        'delete leases.coordination.k8s.io in namespace "default"',
        'create pods/portforward in namespace "default"',
        'delete, patch services in namespace "default"',
        'delete, patch deployments.apps in namespace "default"',
    ]
    assert [path for method, path in kubernetes.requests if method != "GET"] == []


PASSWORD = "tok-4f3a9c2e77"
AUTH = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
PRIVATE = "registry.example.com/team"
HELPER = """#!/bin/sh
read registry
[ "$1 $registry" = "get registry.example.com" ] || exit 5
echo '{"ServerURL": "registry.example.com", "Username": "ann", "Secret": "PASSWORD"}'
exit CODE
"""
SECRET_PATH = re.compile(r"/api/v1/namespaces/default/secrets/kindinfra-pull-[a-z0-9-]+")


@pytest.fixture
def private(project: Project, kubernetes: FakeKubernetes) -> Project:
    """A project whose image is in a private registry, and a user who has logged in there."""
    project.declare(f'[images]\nregistry = "{PRIVATE}"\npull_secret = true\n')
    project.declare(f'[images.store]\nprebuilt = "{PRIVATE}/store:7"\n')
    project.manifest("store", image="store")
    project.declare("[services.store]\nmanifests = ['store.yaml']\nimage = 'store'\n")
    project.service("public")
    project.tests("""
        @pytest.mark.kindinfra("store", "public")
        def test_store(kindinfra): ...
    """)
    project.write(".docker/config.json", '{"credHelpers": {"registry.example.com": "fake"}}')
    log_in(project, code=0)
    kubernetes.allows = lambda asked: asked["verb"] != "*"
    return project


def log_in(project: Project, *, code: int) -> None:
    """Have a credential helper that prints what it knows, and ends with an exit code."""
    helper = project.fakes / "bin" / "docker-credential-fake"
    helper.write_text(HELPER.replace("PASSWORD", PASSWORD).replace("CODE", str(code)))
    helper.chmod(0o755)


def run_private(project: Project, *arguments: str) -> Run:
    """Run the tests; what is said and left has nothing of the credentials, in any notation."""
    folder = str(project.folder / ".docker")
    run = project.run(OPTION, *arguments, DOCKER_CONFIG=folder)
    left = [path for path in (project.folder / ".kindinfra").rglob("*") if path.is_file()]
    encoded = base64.b64encode(f'"auth": "{AUTH}"'.encode()).decode()
    for secret in (PASSWORD, AUTH, encoded[8:-8], base64.b64encode(PASSWORD.encode()).decode()):
        assert secret not in run.text
        assert [path for path in left if secret.encode() in path.read_bytes()] == []
    return run


def test_pods_of_a_private_registry_get_a_secret_that_goes_with_the_run(
    private: Project, kubernetes: FakeKubernetes
) -> None:
    before = set(kubernetes.objects)

    run = run_private(private)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    (path,) = [path for path in kubernetes.bodies if "/secrets/" in path]
    assert SECRET_PATH.fullmatch(path)
    body = json.loads(kubernetes.bodies[path])
    config = json.loads(base64.b64decode(body["data"][".dockerconfigjson"]))
    assert config == {"auths": {"registry.example.com": {"auth": AUTH}}}
    store, public = (
        json.loads(kubernetes.bodies[f"/apis/apps/v1/namespaces/default/deployments/{name}"])
        for name in ("store", "public")
    )
    name = body["metadata"]["name"]
    assert store["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": name}]
    assert "imagePullSecrets" not in public["spec"]["template"]["spec"]
    assert set(kubernetes.objects) == before


def test_what_is_kept_of_a_failed_run_has_no_credentials(
    private: Project, kubernetes: FakeKubernetes
) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": f"unauthorized: ann:{PASSWORD}"}
    broken = {"state": {"waiting": waiting}, "ready": False, "restartCount": 0}
    kubernetes.breaks["store"] = broken

    run = run_private(private, "--kindinfra-keep=always", "--showlocals")

    assert run.outcomes == {"errors": 1}, run.text
    assert "unauthorized: ann:***" in run.text
    assert list(Path(run.folder).glob("pods/default.store*"))
    assert [path for path in kubernetes.objects if SECRET_PATH.fullmatch(path)]


def test_a_cluster_that_refuses_the_secret_fails_what_needs_it(
    private: Project, kubernetes: FakeKubernetes
) -> None:
    kubernetes.fail("PATCH", "/secrets/", 422, f"Secret is invalid: data: {AUTH}", times=1000)

    run = run_private(private)

    assert run.outcomes == {"errors": 1}, run.text
    (failure,) = run.report["outcome"]["failures"].items()
    assert failure[0] == "store"
    assert 'cannot apply Secret "kindinfra-pull-' in failure[1]
    assert "Secret is invalid: data: ***" in failure[1]


def test_a_helper_that_fails_is_a_usage_error_without_what_it_printed(private: Project) -> None:
    log_in(private, code=3)

    run = run_private(private)

    assert run.code == 4, run.text
    assert (
        '[images] pull_secret: asking for the credentials of "registry.example.com": exit code 3'
        in run.text
    )
    assert "$ docker-credential-fake get" in run.text


def test_who_may_not_make_secrets_is_told_before_anything_is_deployed(
    private: Project, kubernetes: FakeKubernetes
) -> None:
    kubernetes.allows = lambda asked: asked["verb"] != "*" and asked["resource"] != "secrets"

    run = run_private(private)

    assert run.code == 4, run.text
    (line,) = [line.strip() for line in run.text.splitlines() if " secrets in namespace" in line]
    assert line == 'create, delete, get, list, patch secrets in namespace "default"'
    assert [path for method, path in kubernetes.requests if method == "PATCH"] == []


def test_pods_of_a_chart_get_it_too_before_helm_runs(
    private: Project, kubernetes: FakeKubernetes
) -> None:
    kubernetes.happened = []  # type: ignore[attr-defined]
    private.clusters.made.append(kubernetes)  # type: ignore[arg-type]
    labels = {"app": "charted"}
    container = {"name": "main", "image": f"{PRIVATE}/charted:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    private.chart("charted", {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "charted"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    })  # fmt: skip
    private.declare("[services.charted]\nhelm = { chart = 'charted' }")
    private.tests("@pytest.mark.kindinfra('charted')\ndef test_it(): ...\n")
    seen: list[bool] = []
    apply = kubernetes.apply

    def noted(address: Address, body: Object) -> Object:
        if body["kind"] == "Deployment":
            seen.append(any(map(SECRET_PATH.fullmatch, kubernetes.objects)))
            seen.append("imagePullSecrets" in body["spec"]["template"]["spec"])
        return apply(address, body)

    kubernetes.apply = noted  # type: ignore[method-assign]

    run = run_private(private)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert seen == [True, True]


def test_options_for_a_cluster_that_is_made_are_refused_beside_it(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.service("store")
    project.tests(TESTS)
    assert kubernetes.url

    run = project.run(OPTION, "--kindinfra-cluster-name=mine")

    assert run.code == 4, run.text
    assert (
        "--kindinfra-cluster-name is for a cluster that the run creates, but "
        "--kindinfra-kubeconfig names an existing one: remove one of the two"
    ) in run.text


def test_reuse_is_refused_with_an_existing_cluster(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.service("store")
    project.tests(TESTS)

    run = project.run(OPTION, KINDINFRA_REUSE="1")

    assert run.code == 4, run.text
    assert (
        "environment KINDINFRA_REUSE keeps services for the next run, but a run's objects in the "
        "cluster of --kindinfra-kubeconfig are always deleted: drop one of them"
    ) in run.text
    assert [path for method, path in kubernetes.requests if method != "GET"] == []


@pytest.mark.parametrize("workers", [None, 2])
def test_a_file_that_is_not_there_is_a_usage_error(project: Project, workers: int | None) -> None:
    project.service("store")
    project.tests(TESTS)

    run = project.run(OPTION, workers=workers)

    assert run.code == 4, run.text
    where = project.folder / "kube.yaml"
    told = f"--kindinfra-kubeconfig {where}: it cannot be read: No such file or directory"
    assert told in run.text
    assert run.all_calls == []


def test_a_kept_run_says_how_to_delete_what_is_its(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.service("store")
    project.tests(TESTS)

    run = project.run(OPTION, "--kindinfra-keep=always")

    assert run.code == 0, run.text
    assert "/apis/apps/v1/namespaces/default/deployments/store" in kubernetes.objects
    assert run.lines("kept: what is of run ")
    (line,) = run.lines("delete it:")
    assert " delete services,deployments.apps,leases.coordination.k8s.io --all-nam" in line


def test_what_a_killed_run_left_in_the_namespace_is_deleted_by_the_next(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.service("store")
    project.tests("""
        @pytest.mark.kindinfra("store")
        def test_store():
            note("there")
            await_gate("never")
    """)
    running = project.start(OPTION)
    running.until_at("there")
    running.kill()
    running.finish()
    assert "/apis/apps/v1/namespaces/default/deployments/store" in kubernetes.objects
    before = kubernetes.objects["/apis/apps/v1/namespaces/default/deployments/store"]

    project.tests(TESTS)
    run = project.run(OPTION)

    assert (run.code, run.outcomes) == (0, {"passed": 5}), run.text
    assert "/apis/apps/v1/namespaces/default/deployments/store" not in kubernetes.objects
    assert before["metadata"]["labels"]["dev.kindinfra/run"] not in run.folder


def test_a_second_run_names_the_run_that_has_the_namespace(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.service("store")
    project.tests(TESTS)
    project.tests("""
        @pytest.mark.kindinfra("store")
        def test_store():
            note("there")
            await_gate("second-is-over")
    """, "test_first.py")  # fmt: skip
    running = project.start(OPTION, "test_first.py")
    running.until_at("there")

    second = project.run(OPTION, "test_it.py")

    project.open("second-is-over")
    first = running.finish()
    assert kubernetes.url
    assert first.code == 0, first.text
    assert (second.code, second.outcomes) == (1, {"passed": 1, "errors": 4}), second.text
    assert 'uses namespace "default" exclusively' in second.text


def test_endpoints_still_answer_before_the_teardown(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.service("store")
    project.tests(TESTS)
    project.write(
        "conftest.py",
        """
        import urllib.request
        from story import note

        def pytest_kindinfra_before_teardown(stack, directory):
            note("coverage " + urllib.request.urlopen(stack.url("store")).read().decode())
    """,
    )

    run = project.run(OPTION)

    assert kubernetes.url
    assert run.code == 0, run.text
    assert "coverage here" in [told for told, _, _ in run.notes]


def test_no_image_can_be_loaded_by_a_test(project: Project, kubernetes: FakeKubernetes) -> None:
    assert kubernetes.url
    project.install("kind")
    project.tests(
        """
        from pytest_kindinfra import KindInfraError

        def test_load(kind_cluster):
            with pytest.raises(KindInfraError, match='cannot be loaded into "fake", which is no'):
                kind_cluster.load_docker_image("x:1")
    """
    )

    run = project.run(OPTION)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(
            lambda text: text.replace("current-context: ", "current-context: gone-"),
            'it has no context "gone-',
            id="a context that was deleted",
        ),
        pytest.param(lambda _: "a: [", "it cannot be read: ", id="no YAML"),
        pytest.param(
            lambda text: text.replace(
                "server: http:", "certificate-authority: /nowhere/ca.crt\n    server: https:"
            ),
            "ca.crt",
            id="a missing certificate",
        ),
    ],
)
def test_a_kubeconfig_that_is_no_good_is_a_usage_error(
    project: Project, kubernetes: FakeKubernetes, change: Callable[[str], str], why: str
) -> None:
    assert kubernetes.url
    file = project.folder / "kube.yaml"
    file.write_text(change(file.read_text()))
    project.service("store")
    project.tests(TESTS)

    run = project.run(OPTION)

    assert run.code == 4, run.text
    assert f"--kindinfra-kubeconfig {file}: " in run.text
    assert why in run.text
    assert "INTERNALERROR" not in run.text


def test_functions_use_it_too_and_leave_nothing_there(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    before = set(kubernetes.objects)
    project.service("store")
    project.write("script.py", """
from pathlib import Path
from pytest_kindinfra import build_and_deploy, create_cluster, resolve

with create_cluster(resolve(), kubeconfig=Path("kube.yaml")) as stack:
    (endpoint,) = build_and_deploy(stack)["store"]
    print(stack.cluster, endpoint.url == stack.url("store"))
""")  # fmt: skip

    done = project.python("script.py")

    assert (done.returncode, done.stdout) == (0, "fake True\n"), done.stderr
    assert set(kubernetes.objects) == before
    assert any(path.endswith("/deployments/store") for _, path in kubernetes.requests)


def test_what_a_run_of_another_machine_left_goes_when_it_has_expired(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    marks = {"dev.kindinfra/run": "old", "dev.kindinfra/owner": "somebody"}
    meta = {"name": "kindinfra-old", "labels": marks}
    expires = {"dev.kindinfra/expires": "2020-01-01T00:00:00Z"}
    old = {"apiVersion": "v1", "kind": "Namespace", "metadata": {**meta, "annotations": expires}}
    kubernetes.put(old)
    project.service("store")
    project.tests(TESTS)

    run = project.run(OPTION)

    assert run.code == 0, run.text
    assert "/api/v1/namespaces/kindinfra-old" not in kubernetes.objects, run.text
