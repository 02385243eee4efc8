"""`kindinfra up`, `down`, `status`, `logs`: the cluster that runs with reuse share; `doctor`."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.system.getting import how_to_get

if TYPE_CHECKING:
    from tests.functional.project import Project

REUSE = "--kindinfra-reuse"


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True)
    project.service("web", image=True, needs=("api",))
    project.service("other")
    project.tests("@pytest.mark.kindinfra('web')\ndef test_it(): note('done')\n")
    return project


def masked(text: str, project: Project) -> str:
    text = text.replace(str(project.folder), "FOLDER").replace(name_of(project), "NAME")
    return re.sub(r":\d{5}\b", ":PORT", text)


def name_of(project: Project) -> str:
    (name,) = project.standing() or [""]
    return name or "none"


class TestUp:
    def test_it_leaves_services_for_the_next_run(self, shop: Project) -> None:
        done = shop.command("up", "web")
        run = shop.run(REUSE, workers=2)

        assert (done.returncode, run.code) == (0, 0), done.stdout + done.stderr + run.text
        assert run.calls("create") + run.calls("build") + run.calls("import") == []
        assert masked(done.stdout, shop).splitlines()[-2:] == [
            "  api.http                         http://127.0.0.1:PORT",
            "  web.http                         http://127.0.0.1:PORT",
        ]

    def test_without_a_name_all_that_is_declared(self, shop: Project) -> None:
        done = shop.command("up")

        assert done.returncode == 0, done.stdout + done.stderr
        assert {"ready api", "ready web", "ready other"} <= shop.told()

    def test_it_takes_over_what_a_run_left(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)
        before = len(shop.calls())

        done = shop.command("up")

        assert done.returncode == 0
        assert "create" not in {call.what for call in shop.calls()[before:]}

    def test_a_failure_is_reported_and_the_rest_stays(self, shop: Project) -> None:
        shop.behave("build web", exit=1, complains="no such file")

        done = shop.command("up")

        assert done.returncode == 1
        assert 'kindinfra: image "web" failed to build:' in done.stdout
        assert len(shop.standing()) == 1

    def test_options_that_cannot_work_are_refused_before_anything_is_made(
        self, shop: Project
    ) -> None:
        options = {"KINDINFRA_IMAGES": "nowhere", "KINDINFRA_ARTIFACTS": "a:b"}

        done = shop.command("up", **options)

        assert done.returncode == 1
        assert "environment KINDINFRA_IMAGES: " in done.stderr
        assert 'a:b" has ":" in its path' in done.stderr
        assert {call.what for call in shop.calls()} & {"create", "build"} == set()
        assert not (shop.folder / "a:b").exists()

    def test_a_wrong_declaration_and_a_foreign_cluster_are_told(self, shop: Project) -> None:
        shop.foreign_cluster("dev")

        done = shop.command("up", "--cluster-name=dev")
        unknown = shop.command("up", "wep")

        assert (done.returncode, unknown.returncode) == (1, 1)
        assert (
            'there is already a cluster "dev", which no run of pytest-kindinfra created'
            in done.stderr
        )
        assert 'did you mean "web"?' in unknown.stderr

    def test_services_that_only_hooks_know_are_left_alone(self, shop: Project) -> None:
        shop.manifest("hooked", image="quay.io/hooked:1")
        conftest = (shop.folder / "conftest.py").read_text()
        shop.write(
            "conftest.py",
            conftest
            + "\n\ndef pytest_kindinfra_services(config):\n"
            + "    from pytest_kindinfra import Service\n"
            + "    return [Service(name='hooked', manifests=('hooked.yaml',))]\n",
        )
        shop.tests("@pytest.mark.kindinfra('hooked')\ndef test_it(): ...\n")
        shop.run(REUSE, workers=None)

        shop.command("up", "other")

        assert "/apis/apps/v1/namespaces/default/deployments/hooked" in (
            shop.clusters.made[-1].objects
        )


class TestDown:
    def test_it_ends_the_cluster_and_then_there_is_none(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)
        name = name_of(shop)

        first, second = shop.command("down"), shop.command("down")

        assert (first.returncode, first.stdout) == (0, f"deleted cluster {name}\n")
        assert (second.returncode, second.stdout) == (0, f"there is no cluster {name}\n")
        home = shop.folder / ".kindinfra" / "reused" / name
        assert not (home / "kubeconfig").exists()
        assert [path.name for path in (home / "state").glob("*.json")] == ["user.json"]

    def test_a_run_makes_a_new_one_then(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)
        shop.command("down")

        run = shop.run(REUSE, workers=None)

        assert run.code == 0, run.text
        assert len(run.calls("create")) == 1
        assert run.lines("created again") == []

    def test_one_by_another_name(self, shop: Project) -> None:
        run = shop.run(REUSE, "--kindinfra-cluster-name=dev", workers=None)
        assert run.lines("delete it:") == ["  delete it: kindinfra down --cluster-name=dev"]

        done = shop.command("down", "--cluster-name=dev")

        assert done.stdout == "deleted cluster dev\n"

    def test_a_cluster_that_is_in_use_or_foreign_stays(self, shop: Project) -> None:
        shop.tests("@pytest.mark.kindinfra('web')\ndef test_it(): note('in'); await_gate('go')\n")
        running = shop.start(REUSE, workers=None)
        running.until_at("in")

        done = shop.command("down")

        shop.open("go")
        assert running.finish().code == 0
        assert done.returncode == 1
        assert re.sub(r"\d+-\d+-\w+", "RUN", masked(done.stderr, shop)) == (
            'kindinfra: cluster "NAME" is in use by the run in FOLDER/.kindinfra/RUN\n'
            "To fix: wait until it ends\n"
        )

    def test_a_cluster_that_no_run_created_stays(self, shop: Project) -> None:
        shop.foreign_cluster("dev")

        done = shop.command("down", "--cluster-name=dev")

        assert done.returncode == 1
        assert done.stderr == (
            'kindinfra: no run of pytest-kindinfra created cluster "dev"\n'
            "To fix: if it is not in use: kind delete cluster --name dev\n"
        )
        assert shop.standing() == ["dev"]

    def test_what_a_killed_run_left_half_made_goes_too(self, shop: Project) -> None:
        shop.behave("create", until="never")
        running = shop.start(REUSE, workers=None)
        running.until(shop.standing)
        running.kill()
        running.finish()
        shop.behave("create")

        assert shop.command("down").returncode == 0
        assert shop.standing() == []


class TestAClusterOfAnEarlierVersion:
    """Its state files cannot be read: it stays, and every way to it says how to delete it."""

    @pytest.fixture
    def earlier(self, shop: Project) -> Project:
        shop.run(REUSE, workers=None)
        state = shop.folder / ".kindinfra" / "reused" / name_of(shop) / "state"
        for file in state.glob("*.json"):
            value = json.loads(file.read_text()) | {"format": 1}
            file.write_text(json.dumps(value))
        return shop

    @pytest.mark.parametrize(
        "command", ["up", "down", "status", "url api", "logs api", "exec api -- ls", "restart api"]
    )
    def test_commands_leave_it_alone_and_say_why(self, earlier: Project, command: str) -> None:
        """Those about a service used to say that there is none of that name, and to list it."""
        name, before = name_of(earlier), len(earlier.calls())

        done = earlier.command(*command.split())

        text = done.stdout + done.stderr
        assert done.returncode == 1, text
        assert 'cluster-name.json" has format 1, this version of pytest-kindinfra reads 2' in text
        assert f"if it is not in use: kind delete cluster --name {name}" in text
        assert earlier.standing() == [name]
        assert {call.what for call in earlier.calls()[before:]} & {"create", "delete"} == set()

    def test_once_it_is_deleted_by_hand_a_run_makes_a_new_one(self, earlier: Project) -> None:
        name = name_of(earlier)
        shutil.rmtree(earlier.fakes / "clusters" / name)

        run = earlier.run(REUSE, workers=None)

        assert run.code == 0, run.text
        assert len(run.calls("create")) == 1
        assert earlier.standing() == [name]


class TestStatus:
    def test_each_service_with_its_endpoints(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)

        done = shop.command("status")

        assert done.returncode == 0, done.stderr
        assert masked(done.stdout, shop).splitlines() == [
            "cluster NAME, export KUBECONFIG=FOLDER/.kindinfra/reused/NAME/kubeconfig",
            "  api                  ready",
            "    http               http://127.0.0.1:PORT",
            "  web                  ready",
            "    http               http://127.0.0.1:PORT",
        ]

    def test_what_is_not_ready_and_why(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)
        kube = shop.clusters.made[-1]
        kube.delete("/apis/apps/v1/namespaces/default/deployments/web")

        done = shop.command("status")

        assert done.returncode == 1
        assert "  web                  not ready: Deployment web is gone" in done.stdout
        assert "  api                  ready" in done.stdout

    def test_without_a_cluster_it_says_how_to_get_one(self, shop: Project) -> None:
        done = shop.command("status", "--cluster-name=dev")

        assert (done.returncode, done.stdout) == (
            1,
            'there is no cluster "dev"\nTo fix: kindinfra up\n',
        )


class TestLogs:
    def test_the_pods_of_a_service_or_of_all(self, shop: Project) -> None:
        shop.clusters.logs["web"] = "listening\n"
        shop.run(REUSE, workers=None)

        one, all_ = shop.command("logs", "web"), shop.command("logs")

        assert one.stdout.splitlines() == ["==> web: default/web-1-0 web <==", "listening"]
        assert [line for line in all_.stdout.splitlines() if line.startswith("==>")] == [
            "==> api: default/api-1-0 api <==",
            "==> web: default/web-1-0 web <==",
        ]

    def test_one_that_is_not_there(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)

        done = shop.command("logs", "wep")

        assert done.returncode == 1
        assert masked(done.stderr, shop) == (
            'kindinfra: cluster "NAME" has no service "wep"; it has: api, web\n'
        )


class TestDoctor:
    def test_what_is_missing_comes_with_what_to_do(self, shop: Project) -> None:
        shop.remove("kind")

        done = shop.command("doctor")

        assert done.returncode == 1
        lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
        assert "ok engine docker 28.0.0" in lines
        at = next(at for at, line in enumerate(lines) if line.startswith("missing kind"))
        assert lines[at + 1] == f"To fix: {how_to_get('kind')}"
        assert any(line.startswith("warning kubectl not on PATH") for line in lines)
        assert "ok declaration kindinfra.toml: 3 services, 2 images" in lines

    def test_an_engine_on_another_host_is_named(self, shop: Project) -> None:
        done = shop.command("doctor", DOCKER_HOST="tcp://docker:2375")

        lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
        assert done.returncode == 1
        assert any(
            line.startswith('missing engine host DOCKER_HOST: the docker engine at "tcp://docker')
            for line in lines
        ), lines

    def test_a_broken_declaration_and_a_leftover_cluster_are_named(self, shop: Project) -> None:
        shop.tests("@pytest.mark.kindinfra('web')\ndef test_it(): note('in'); await_gate('go')\n")
        running = shop.start(workers=None)
        running.until_at("in")
        running.kill()
        running.finish()
        shop.declare("[services.broken]\nmanifests = ['none.yaml']\n")

        lines = [" ".join(line.split()) for line in shop.command("doctor").stdout.splitlines()]

        assert f"warning clusters of killed runs: {name_of(shop)}" in lines
        assert any(line.startswith("missing declaration [services.broken]") for line in lines)
