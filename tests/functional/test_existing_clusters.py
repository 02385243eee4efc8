"""Runs in a cluster that was there before, where neither an engine nor kind is needed."""

from __future__ import annotations

import base64
import json
import re
import signal
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from tests.fake_kubernetes import FakeKubernetes

if TYPE_CHECKING:
    import subprocess
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
    private.clusters.made.append(cast("Any", kubernetes))  # for the fake helm
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


def test_contexts_are_looked_for_in_all_files_of_kubectl(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    assert kubernetes.url
    project.service("store")
    project.tests(TESTS)
    files = f"{project.folder}/missing:{project.folder}/kube.yaml"

    wrong = project.run("--kindinfra-context=fak", KUBECONFIG=files)
    right = project.run("--kindinfra-context=fake", KUBECONFIG=files)

    assert wrong.code == 4, wrong.text
    assert (
        f'--kindinfra-context {files}: it has no context "fak"; did you mean "fake"? (it has: fake)'
    ) in wrong.text
    assert (right.code, right.outcomes) == (0, {"passed": 5}), right.text


def test_an_exec_plugin_that_fails_is_a_usage_error(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    plugin = project.folder / "login"
    plugin.write_text("#!/bin/sh\necho 'session expired' >&2\nexit 3\n")
    plugin.chmod(0o755)
    config = yaml.safe_load((project.folder / "kube.yaml").read_text())
    called = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login"}
    config["users"] = [{"name": "fake", "user": {"exec": called}}]
    (project.folder / "kube.yaml").write_text(yaml.safe_dump(config))
    project.service("store")
    project.tests(TESTS)

    run = project.run(OPTION)

    assert run.code == 4, run.text
    assert (
        f'--kindinfra-kubeconfig {project.folder}/kube.yaml: the exec plugin of user "fake" '
        f"failed: exit code 3\n  $ {project.folder}/login\n    session expired\nTo fix: "
    ) in run.text
    assert kubernetes.requests == []


def test_without_a_pod_there_are_no_credentials_of_one(project: Project) -> None:
    project.service("store")
    project.tests(TESTS)

    run = project.run("--kindinfra-context=in-cluster", KUBERNETES_SERVICE_HOST="")

    assert run.code == 4, run.text
    assert "there are no credentials of a pod: /var/run/secrets/" in run.text


STORE = "/apis/apps/v1/namespaces/default/deployments/store"
HERE = "--kubeconfig=kube.yaml"


class TestCommand:
    """What `kindinfra up` leaves in a cluster of others, and what later commands know of it."""

    @pytest.fixture
    def shop(self, project: Project, kubernetes: FakeKubernetes) -> Project:
        assert kubernetes.url
        project.service("store")
        project.service("other")
        project.tests(TESTS)
        return project

    @staticmethod
    def up(shop: Project, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        done = shop.command("up", *words, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def test_services_stay_for_the_next_run_and_for_down(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        before = set(kubernetes.objects)

        done = self.up(shop, HERE)
        first = kubernetes.objects[STORE]["metadata"]
        run = shop.run(OPTION, "--kindinfra-reuse", workers=2)
        (kubeconfig,) = shop.folder.glob(".kindinfra/reused/existing-127.0.0.1-*/kubeconfig")

        assert done.stdout.splitlines()[-5:-1] == [
            "kept for the next run: services in fake",
            f"  use it:    export KUBECONFIG={kubeconfig}",
            f"  delete it: kindinfra down --kubeconfig={shop.folder}/kube.yaml",
            f"logs and details: {done.stdout.splitlines()[-2].rpartition(' ')[2]}",
        ]
        assert (run.code, run.outcomes) == (0, {"passed": 5}), run.text
        second = kubernetes.objects[STORE]["metadata"]
        assert [second[key] for key in ("uid", "generation", "labels")] == [
            first[key] for key in ("uid", "generation", "labels")
        ]

        ended = shop.command("down", HERE)

        assert (ended.returncode, ended.stdout) == (
            0,
            "deleted the services of this folder in cluster fake; the cluster stays\n",
        )
        assert set(kubernetes.objects) == before
        assert shop.command("down", HERE).stdout == (
            "no services of this folder are in cluster fake\n"
        )

    def test_only_what_changed_is_deployed_again(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        self.up(shop, HERE)
        other = STORE.replace("store", "other")
        before = {path: kubernetes.objects[path]["metadata"] for path in (STORE, other)}
        file = shop.folder / "store.yaml"
        file.write_text(file.read_text().replace("path: /,", "path: /ready,"))

        self.up(shop, HERE)

        after = {path: kubernetes.objects[path]["metadata"] for path in (STORE, other)}
        changed = {path: after[path]["generation"] - before[path]["generation"] for path in after}
        assert changed == {STORE: 1, other: 0}
        assert {after[path]["uid"] == before[path]["uid"] for path in after} == {True}

    def test_down_leaves_what_others_have_in_the_same_namespace(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        for name, run in (("theirs", {"dev.kindinfra/run": "another-run"}), ("nobodys", {})):
            labels = {"dev.kindinfra/service": "store", **run}
            meta = {"name": name, "namespace": "default", "labels": labels}
            kubernetes.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        before = set(kubernetes.objects)

        self.up(shop, HERE)
        done = shop.command("down", HERE)

        assert done.returncode == 0, done.stderr
        assert set(kubernetes.objects) == before

    def test_status_asks_endpoints_and_says_how_to_reach_them(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        early = shop.command("status", HERE)
        self.up(shop, HERE, "store")

        done, plain = shop.command("status", HERE, "--json"), shop.command("status", HERE)
        kubernetes.ports.clear()
        silent = shop.command("status", HERE)

        option = f"--kubeconfig={shop.folder}/kube.yaml"
        assert (early.returncode, early.stdout) == (
            1,
            f'no services of this folder are in cluster "fake"\nTo fix: kindinfra up {option}\n',
        )
        found = json.loads(done.stdout)
        assert found["services"] == {
            "store": {"ready": True, "why": "", "endpoints": {"http": None}}
        }
        assert plain.stdout.splitlines()[1:] == [
            "  store                ready",
            f"    http               kindinfra url --forward {option} store http",
        ]
        assert silent.returncode == 1
        assert 'not ready: endpoint "http" of "store" did not answer' in silent.stdout

    def test_a_port_leads_to_an_endpoint_as_long_as_the_command_runs(self, shop: Project) -> None:
        self.up(shop, HERE, "store")

        refused = shop.command("url", HERE, "store")
        running = shop.begin_command("url", "--forward", HERE, "store")
        running.until(lambda: running.so_far().endswith("\n"))
        port = running.so_far().strip().removeprefix("http://127.0.0.1:")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}") as answer:
            assert answer.read() == b"here"
        running.signal(signal.SIGINT)

        assert running.finish().code == 130
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}")
        assert refused.returncode == 1
        assert refused.stderr == (
            'kindinfra: endpoint "http" of "store" has no URL while nothing forwards a port to it: '
            'cluster "fake" is an existing one\n'
            f"To fix: kindinfra url --forward --kubeconfig={shop.folder}/kube.yaml store http "
            "forwards one until Ctrl-C\n"
        )

    def test_logs_exec_restart_and_kubectl_work_there(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        kubernetes.logs["store"] = "listening\n"
        kubernetes.execs = lambda *_: (3, "out", "err")
        program = shop.fakes / "bin" / "kubectl"
        program.write_text('#!/bin/sh\necho "$KUBECONFIG" "$@"\n')
        program.chmod(0o755)
        self.up(shop, HERE, "store")
        kubernetes.forbidden = lambda _, path: path in {"/api/v1/pods", "/apis/apps/v1/deployments"}

        logs = shop.command("logs", HERE, "store")
        ran = shop.command("exec", HERE, "store", "--", "ls")
        restarted = shop.command("restart", HERE, "store")
        kubectl = shop.command("kubectl", HERE, "get", "pods", "--context=theirs")

        assert logs.stdout.splitlines() == ["==> store: default/store-1-0 store <==", "listening"]
        assert (ran.returncode, ran.stdout, ran.stderr) == (3, "out", "err")
        assert restarted.stdout == "store: restarted Deployment store\n", restarted.stderr
        (kubeconfig,) = shop.folder.glob(".kindinfra/reused/*/kubeconfig")
        assert kubectl.stdout == f"{kubeconfig} --namespace=default get pods --context=theirs\n"

    def test_a_namespace_per_run_is_that_of_the_first_one(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        shop.declare('[cluster]\nnamespace = "per-run"\nttl = "2h"\n')
        before = set(kubernetes.objects)
        self.up(shop, HERE, "store")
        (path,) = [path for path in kubernetes.objects if path.endswith("/deployments/store")]
        name = path.split("/")[5]
        namespace = kubernetes.objects[f"/api/v1/namespaces/{name}"]
        namespace["metadata"]["annotations"]["dev.kindinfra/expires"] = "2020-01-01T00:00:00Z"

        self.up(shop, HERE, "store")

        again = kubernetes.objects[f"/api/v1/namespaces/{name}"]["metadata"]
        assert (again["uid"], again["labels"]["dev.kindinfra/run"]) == (
            namespace["metadata"]["uid"],
            name.removeprefix("kindinfra-"),
        )
        assert again["annotations"]["dev.kindinfra/expires"] > "2021"
        assert [one for one in kubernetes.objects if one.endswith("/deployments/store")] == [path]
        assert shop.command("down", HERE).returncode == 0
        assert {one for one in set(kubernetes.objects) - before if f"/{name}/" not in one} == set()

    def test_another_namespace_needs_down_first(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        self.up(shop, HERE, "store")
        shop.declare('[cluster]\nnamespace = "shop"\n')

        done = shop.command("up", HERE, "store")

        assert done.returncode == 1
        assert (
            'the services of earlier runs are in namespace "default", but [cluster] namespace is '
            f'"shop" now\nTo fix: kindinfra down --kubeconfig={shop.folder}/kube.yaml'
        ) in done.stderr
        assert STORE in kubernetes.objects

    def test_a_run_without_reuse_is_told_what_has_the_namespace(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        self.up(shop, HERE)

        run = shop.run(OPTION)

        assert run.code == 1, run.text
        assert 'namespace "default" has services that stay between runs with reuse' in run.text
        assert "To fix: use them with --kindinfra-reuse, delete them with kindinfra dow" in run.text
        assert STORE in kubernetes.objects

    def test_a_first_one_that_was_killed_is_gone_on_with(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        kubernetes.ready_after = 3600
        running = shop.begin_command("up", HERE)
        running.until(lambda: STORE in kubernetes.objects)
        running.kill()
        running.finish()
        before = kubernetes.objects[STORE]["metadata"]["labels"]["dev.kindinfra/run"]
        kubernetes.ready_after = 0.02

        self.up(shop, HERE)

        assert kubernetes.objects[STORE]["metadata"]["labels"]["dev.kindinfra/run"] == before

    def test_what_is_not_declared_any_more_is_deleted_if_it_is_ours(
        self, shop: Project, kubernetes: FakeKubernetes
    ) -> None:
        self.up(shop, HERE)
        declared = (shop.folder / "kindinfra.toml").read_text()
        before, _, _ = declared.partition("[services.other]")
        (shop.folder / "kindinfra.toml").write_text(before)

        run = shop.run(OPTION, "--kindinfra-reuse", workers=None)

        assert run.code == 0, run.text
        assert STORE in kubernetes.objects
        assert STORE.replace("store", "other") not in kubernetes.objects

    def test_the_overview_says_which_services_are_there(self, shop: Project) -> None:
        env = {"KINDINFRA_KUBECONFIG": str(shop.folder / "kube.yaml")}
        empty = shop.command(**env)
        self.up(shop, "store", **env)

        done = shop.command(**env)

        assert "  cluster      existing, fake: no services\n" in empty.stdout
        assert "  cluster      existing, fake: store\n" in done.stdout
