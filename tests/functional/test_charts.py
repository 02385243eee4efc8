"""Charts and kustomizations as services: rendered first, then deployed, told when broken."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.system.getting import how_to_get
from tests.functional.project import processes_of

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

FAILED = 'service "web" failed to start:'
PULLING = {
    "state": {"waiting": {"reason": "ErrImagePull", "message": "migrate: not found"}},
    "ready": False,
    "restartCount": 0,
}
TESTS = """
@pytest.mark.kindinfra("web")
def test_web(kindinfra):
    note("url " + kindinfra.url("web"))
"""


def workload(name: str, image: str, *, hook: str = "") -> dict[str, Any]:
    kind, version = ("Job", "batch/v1") if hook else ("Deployment", "apps/v1")
    labels = {"app": name}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "annotations": {"helm.sh/hook": hook} if hook else {}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {
                            "name": name,
                            "image": image,
                            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
                        }
                    ]
                },
            },
        },
    }


def k8s_service(name: str, **port: Any) -> dict[str, Any]:
    ports = [{"name": "main", "port": 8080, **port}]
    spec = {"selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def declare_web(project: Project, *, image: str = "{{ .Values.image }}") -> None:
    project.image("web")
    project.chart(
        "charts/web",
        workload("web", image),
        k8s_service("web"),
        workload("web-migrate", "web", hook="pre-install,pre-upgrade"),
    )
    project.declare("""
        [services.web]
        helm = { chart = "charts/web", set = { image = "${image:web}" } }
        endpoints.http = { port = 8080, path = "/" }
    """)
    project.tests(TESTS)


def made_by_helm(run: Run, service: str = "web") -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = json.loads(
        (Path(run.folder) / "helm" / service / "made.json").read_text()
    )
    return made


def told(run: Run) -> list[str]:
    """Return the cause of the one failed service, as it stands in the closing section."""
    lines = run.out.splitlines()
    (start,) = [n for n, line in enumerate(lines) if line.endswith(FAILED)]
    end = next(n for n, line in enumerate(lines) if n > start and line.startswith("logs and"))
    return lines[start + 1 : end]


def images(made: list[dict[str, Any]]) -> dict[str, str]:
    return {
        obj["metadata"]["name"]: obj["spec"]["template"]["spec"]["containers"][0]["image"]
        for obj in made
        if obj["kind"] != "Service"
    }


@pytest.mark.parametrize("version", ["v3.19.2", "v4.0.5"])
def test_a_release_runs_this_runs_images_hooks_too_and_its_endpoint_answers(
    project: Project, version: str
) -> None:
    project.behave("helm version", prints=version)
    declare_web(project)

    run = project.run()

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert run.built == ["web"]
    reference = run.report["images"]["web"]["reference"]
    made = made_by_helm(run)
    assert images(made) == {"web": reference, "web-migrate": reference}
    assert [obj["metadata"]["name"] for obj in made if obj["kind"] == "Service"] == [
        "web",
        "web-http-kindinfra",
    ]
    assert all(obj["metadata"]["labels"]["dev.kindinfra/service"] == "web" for obj in made)
    assert run.at("ready web-migrate") < run.at("apply Deployment/web") < run.at("ready web")


def test_a_chart_is_rendered_before_anything_is_made(project: Project) -> None:
    declare_web(project)

    run = project.run()

    first = min(call.start for call in run.all_calls if call.argv[0] in {"docker", "kind"})
    assert (run.call("helm template").end or first) < first


def test_the_plan_shows_what_is_rendered_and_a_nodeport_of_a_chart(project: Project) -> None:
    project.chart("charts/db", workload("db", "quay.io/db:1"), k8s_service("db", nodePort=31000))
    project.declare("""
        [services.db]
        helm = { chart = "charts/db", release = "store", namespace = "data" }
        endpoints.sql = { port = 8080, scheme = "tcp" }
    """)
    project.tests('@pytest.mark.kindinfra("db")\ndef test_db(): ...')

    run = project.run("--kindinfra-plan", "--kindinfra-node-image=kindest/node:v1.33.1")

    assert run.code == 0, run.text
    assert '  db                   needs -, chart charts/db as "store" in data\n' in run.out
    assert "db.sql                           127.0.0.1:a free port -> nodePort 31000" in run.out
    argv = run.call("helm template").argv
    assert argv[argv.index("--kube-version") + 1] == "1.33.1"


def test_a_kustomization_and_a_chart_are_mixed_in_the_order_of_their_keys(
    project: Project,
) -> None:
    project.image("web")
    project.install("kubectl")
    project.write("k/kustomization.yaml", "")
    for name in ("web", "cache"):
        project.write(f"k/{name}.json", json.dumps(workload(name, "web")))
    project.write("k/service.json", json.dumps(k8s_service("web")))
    project.chart("charts/early", workload("early", "quay.io/early:1"))
    project.declare("""
        [services.web]
        helm = { chart = "charts/early" }
        kustomize = "k"
        endpoints.http = { port = 8080 }
    """)
    project.tests(TESTS)

    run = project.run()

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert run.built == ["web"]
    assert run.at("apply Deployment/early") < run.at("apply Deployment/cache")
    assert run.deployed == ["cache", "web"]  # by us; helm applies by itself


def test_what_is_wrong_with_charts_comes_with_all_else_before_anything_is_made(
    project: Project,
) -> None:
    declare_web(project, image="webb")
    project.chart("charts/bad", workload("bad", "web"))
    project.chart("charts/twin", workload("twin", "{{ .Values.image }}"))
    project.behave("template bad", exit=1, complains="Error: bad template")
    project.declare("""
        [services.bad]
        helm = { chart = "charts/bad" }
        [services.gone]
        helm = { chart = "charts/gone" }
        [services.overlay]
        kustomize = "k"
        [services.twin]
        helm = { chart = "charts/twin", set = { image = "${image:wweb}" }, release = "web" }
    """)

    run = project.run()

    assert run.code == 4, run.text
    assert "kindinfra: 7 problems in the declaration" in run.text
    assert (
        '[services.overlay]: "kustomize" needs kubectl or kustomize, and neither is on PATH'
    ) in run.text
    assert '[services.overlay] kustomize "k": no such folder' in run.text
    assert '[services.twin] placeholder for image "wweb": no such image; did you mean "web"?' in (
        run.text
    )
    assert 'services "web", "twin" are one release "web" in namespace "default"' in run.text
    assert '[services.bad] rendering chart "bad": exit code 1\n' in run.text
    assert "Error: bad template" in run.text
    assert '[services.gone.helm] chart "charts/gone": no such folder' in run.text
    assert 'image "webb": no such image; did you mean "web"?' in run.text
    assert {call.what for call in run.all_calls} == {"helm version", "helm template"}


def test_without_helm_a_chart_is_a_usage_error(project: Project) -> None:
    declare_web(project)
    project.remove("helm")

    run = project.run()

    assert run.code == 4, run.text
    assert '[services.web]: "helm" is not on PATH' in run.text
    assert f"To fix: {how_to_get('helm')}" in run.text


def test_a_hook_that_cannot_work_ends_helm_at_once_with_its_cause(project: Project) -> None:
    declare_web(project)
    project.breaks("web-migrate", PULLING)

    run = project.run()

    assert (run.code, run.outcomes) == (1, {"errors": 1}), run.text
    [image] = (name for name in project.images() if "web" in name and ":ctx-" not in name)
    assert told(run) == [
        'a hook of release "web" failed for good, so helm was stopped:',
        (
            'Job "web-migrate" cannot become ready: container "web-migrate" of pod "web-migrate-0":'
            " ErrImagePull"
        ),
        "  migrate: not found",
        (
            "  to inspect it: --kindinfra-keep=on-failure, then kubectl --namespace default"
            " describe pod web-migrate-0"
        ),
        (
            f"  To fix: the registry has no {image}: correct its name or tag, declare it under "
            "[images], or have it in the engine of this machine."
        ),
    ]
    helm = run.calls("helm upgrade")[-1]
    assert helm.end is None  # it was ended
    assert run.clusters == []


def test_a_release_that_fails_shows_the_command_the_exit_code_and_the_last_lines(
    project: Project,
) -> None:
    declare_web(project)
    project.behave("upgrade web", exit=1, complains="Error: UPGRADE FAILED: the webhook said no")

    run = project.run()

    assert (run.code, run.outcomes) == (1, {"errors": 1}), run.text
    folder = Path(run.folder)
    head, command, *rest = told(run)
    assert head == 'installing release "web": exit code 1'
    shown = re.sub(r"content=[0-9a-f]{16} (.*) --timeout \d+s$", r"content=HASH \1", command)
    assert shown == (
        f"  $ helm upgrade --install web {folder}/helm/web/web --namespace default"
        f" --create-namespace --kubeconfig {folder}/kubeconfig"
        f" --labels=dev.kindinfra/content=HASH --values {folder}/helm/web/set.json"
    )
    assert rest == ["    Error: UPGRADE FAILED: the webhook said no"]


def test_services_beside_a_broken_release_are_tested(project: Project) -> None:
    declare_web(project)
    project.service("other")
    project.behave("upgrade web", exit=1)
    project.tests('@pytest.mark.kindinfra("other")\ndef test_other(): ...', "test_other.py")

    run = project.run()

    assert run.outcomes == {"passed": 1, "errors": 1}, run.text


def test_an_installation_that_was_cut_short_is_no_obstacle(project: Project) -> None:
    declare_web(project)
    project.write(
        "conftest.py",
        """
        def pytest_kindinfra_before_deploy(stack, service):
            from kubernetes.client import CoreV1Api

            for number, status in enumerate(["deployed", "pending-upgrade"], start=1):
                labels = {"owner": "helm", "name": "web", "status": status}
                name = f"sh.helm.release.v1.web.v{number}"
                record = {"metadata": {"name": name, "labels": labels}}
                record |= {"apiVersion": "v1", "kind": "Secret"}
                CoreV1Api(stack.kube).create_namespaced_secret("default", record)
    """,
    )

    run = project.run()

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    deleted = [path.rpartition("/")[2] for method, path in run.requests if method == "DELETE"]
    assert deleted == ["sh.helm.release.v1.web.v2"]


def test_a_releases_own_namespace_is_there_before_helm_runs(project: Project) -> None:
    declare_web(project)
    project.declare("""
        [services.far]
        helm = { chart = "charts/far", namespace = "far-away" }
        endpoints.http = { port = 8080 }
    """)
    project.chart("charts/far", workload("far", "quay.io/far:1"), k8s_service("far"))
    project.tests("""
        @pytest.mark.kindinfra("far")
        def test_far(): ...
    """)

    run = project.run()

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert run.at("apply Namespace/far-away") < run.at("apply Deployment/far")
    (beside,) = [obj for obj in made_by_helm(run, "far") if "kindinfra" in obj["metadata"]["name"]]
    assert beside["metadata"]["namespace"] == "far-away"


def test_an_interrupt_ends_the_rendering(project: Project) -> None:
    declare_web(project)
    project.behave("template web", seconds=60)
    running = project.start()
    running.until_called("helm template")

    running.signal(signal.SIGINT)
    run = running.finish()

    assert run.code == 2, run.text
    assert run.call("helm template").end is None
    assert processes_of(project) == []


def test_a_release_that_is_there_as_it_would_be_made_is_left_alone(project: Project) -> None:
    declare_web(project)

    first = project.run("--kindinfra-reuse")
    same = project.run("--kindinfra-reuse")
    project.write("charts/web/values.yaml", "{}")
    changed = project.run("--kindinfra-reuse")

    assert [run.outcomes for run in (first, same, changed)] == [{"passed": 1}] * 3, changed.text
    # Each first one is --dry-run: helm 3 shows the hook to no post-renderer.
    assert [len(run.calls("helm upgrade")) for run in (first, same, changed)] == [2, 0, 2]
    assert [call.what for call in same.calls("helm get")] == ["helm get"]


def test_a_deleted_object_is_created_again(project: Project) -> None:
    declare_web(project)
    project.run("--kindinfra-reuse")
    (kube,) = project.clusters.made
    kube.delete("/apis/apps/v1/namespaces/default/deployments/web")

    run = project.run("--kindinfra-reuse")

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert len(run.calls("helm upgrade")) == 2


def test_hooks_run_again_when_a_need_changed(project: Project) -> None:
    project.service("store")
    declare_web(project)
    project.declare('needs = ["store"]')
    project.run("--kindinfra-reuse")
    project.manifest("store", image="quay.io/store:2")

    run = project.run("--kindinfra-reuse")

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert len(run.calls("helm upgrade")) == 2


@pytest.mark.parametrize("declared", ["release", "manifests"])
def test_a_release_that_is_named_no_more_leaves_nothing_behind(
    project: Project, declared: str
) -> None:
    declare_web(project)
    project.run("--kindinfra-reuse")
    (kube,) = project.clusters.made
    toml = (project.folder / "kindinfra.toml").read_text()
    if declared == "release":
        toml = toml.replace("{ chart =", '{ release = "shop", chart =')
    else:
        helm = next(line for line in toml.splitlines() if line.strip().startswith("helm ="))
        toml = toml.replace(helm, 'manifests = ["plain.yaml"]')
        plain = [
            workload("plain", "web"),
            {
                **k8s_service("web"),
                "spec": {"selector": {"app": "plain"}, "ports": [{"port": 8080}]},
            },
        ]
        project.write("plain.yaml", "\n---\n".join(json.dumps(obj) for obj in plain))
    (project.folder / "kindinfra.toml").write_text(toml)

    run = project.run("--kindinfra-reuse")

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    names = {path.rpartition("/")[2] for path in kube.objects}
    assert not [name for name in names if name.startswith("sh.helm.release.v1.web.")]
    assert (
        "web" in {path.rpartition("/")[2] for path in kube.objects if "/deployments/" in path}
    ) is (declared == "release")


def test_status_tells_that_the_deployment_of_a_chart_was_deleted(project: Project) -> None:
    declare_web(project)
    project.run("--kindinfra-reuse", workers=None)
    kube = project.clusters.made[-1]
    kube.delete("/apis/batch/v1/namespaces/default/jobs/web-migrate")  # as helm deletes hooks
    before = project.command("status")
    kube.delete("/apis/apps/v1/namespaces/default/deployments/web")

    done = project.command("status")

    assert (before.returncode, done.returncode) == (0, 1), before.stdout
    assert "  web                  not ready: Deployment web is gone" in done.stdout
