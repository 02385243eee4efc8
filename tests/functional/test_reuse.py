"""Runs that share a cluster: what is taken over, what is done again, what is left alone."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

URLS = """
@pytest.mark.kindinfra('web', 'api')
def test_urls(kindinfra):
    note("url " + kindinfra.url("web"))
    note("url " + kindinfra.url("api"))
"""
REUSE = "--kindinfra-reuse"
CONFIG = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: "GREETING"}
"""
MOCK_HOOK = """
from pytest_kindinfra import Service

def pytest_kindinfra_services(config):
    return [Service(name="mock", manifests=("mock.yaml",))]
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True)
    project.service("web", image=True, needs=("api",))
    project.tests(URLS)
    return project


def said(run: Run, start: str) -> list[str]:
    return [what for what, *_ in run.notes if what.startswith(start)]


def pods(project: Project) -> dict[str, str]:
    """Return pods to their uids, in the newest cluster."""
    objects = list(project.clusters.made[-1].objects.values())
    return {
        one["metadata"]["labels"]["fake/of"]: one["metadata"]["uid"]
        for one in objects
        if one["kind"] == "Pod"
    }


def with_config(project: Project, greeting: str) -> None:
    project.manifest("web", image="web")
    text = (project.folder / "web.yaml").read_text()
    project.write("web.yaml", text + CONFIG.replace("GREETING", greeting))


def programs(run: Run) -> list[str]:
    """Return what was called, less what may be called any number of times."""
    return sorted(call.what for call in run.all_calls if call.what != "wait")


class TestAnUnchangedRun:
    @pytest.mark.parametrize("workers", [None, 4])
    def test_it_builds_loads_creates_and_restarts_nothing(
        self, shop: Project, workers: int | None
    ) -> None:
        first = shop.run(REUSE, workers=workers)
        before = pods(shop)

        run = shop.run(REUSE, workers=workers)

        assert (first.code, run.code) == (0, 0), run.text
        assert run.clusters == first.clusters != []
        assert {phase["kind"] for phase in run.report["phases"]} == {"take", "deploy", "wait"}
        assert pods(shop) == before
        assert said(run, "url") == said(first, "url") != []

    def test_its_calls_are_few(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)

        run = shop.run(REUSE, workers=None)

        assert programs(run) == [
            "docker version",
            "image inspect",  # each image once
            "image inspect",
            "inspect",  # of the cluster before it is taken over, and to sweep
            "inspect",
            "inspect",
            "inspect",  # a kind node's address, once for all services
            "kind version",
            "list",  # the images of the kind node
            "ps",
            "ps",
            "ps",
        ]

    def test_the_closing_lines_say_that_it_is_there_for_the_next_run(self, shop: Project) -> None:
        run = shop.run(REUSE, workers=None)

        (name,) = run.clusters
        home = shop.folder / ".kindinfra" / "reused" / name
        assert run.lines("for the next run:") == [f"kept for the next run: cluster {name}"]
        assert run.lines("  use it:") == [f"  use it:    export KUBECONFIG={home}/kubeconfig"]
        assert run.lines("  delete it:") == ["  delete it: kindinfra down"]
        assert run.report["outcome"]["kept"] is True


class TestWhatChanged:
    def test_one_byte_builds_and_restarts_one_service(self, shop: Project) -> None:
        first = shop.run(REUSE, workers=None)
        before = pods(shop)
        shop.write("web/main.py", "print('changed')")

        run = shop.run(REUSE, workers=None)

        assert run.code == 0, run.text
        assert run.built == ["web"]
        after = pods(shop)
        assert after["api"] == before["api"]
        assert after["web"] != before["web"]
        assert said(run, "url") == said(first, "url")

    def test_a_change_that_no_image_holds_builds_and_loads_nothing_and_restarts_nothing(
        self, shop: Project
    ) -> None:
        """A monorepo: its root is every image's context, and each holds a part of it."""
        for name in ("api", "web"):
            shop.behave(f"build {name}", holds="as ever")
        first = shop.run(REUSE)
        before = pods(shop)
        for name in ("api", "web"):
            shop.write(f"{name}/README.md", "changed\n")

        again = shop.run(REUSE)

        assert (first.code, again.code) == (0, 0), again.text
        assert sorted(call.what for call in again.calls("build")) == ["build api", "build web"]
        assert again.calls("save") == again.calls("import") == []
        assert pods(shop) == before
        assert {name: one["reference"] for name, one in again.report["images"].items()} == {
            name: one["reference"] for name, one in first.report["images"].items()
        }

    def test_a_change_that_one_of_them_holds_loads_one_and_restarts_one(
        self, shop: Project
    ) -> None:
        for name in ("api", "web"):
            shop.behave(f"build {name}", holds="as ever")
        shop.run(REUSE)
        before = pods(shop)
        for name in ("api", "web"):
            shop.write(f"{name}/README.md", "changed\n")
        shop.behave("build web", holds="changed")

        again = shop.run(REUSE)

        assert again.code == 0, again.text
        assert len(again.calls("import")) == 1
        assert {name for name, uid in pods(shop).items() if before[name] != uid} == {"web"}

    def test_a_changed_config_map_restarts_the_service_that_has_it(self, shop: Project) -> None:
        with_config(shop, "hello")
        shop.run(REUSE, workers=None)
        before = pods(shop)
        with_config(shop, "goodbye")

        run = shop.run(REUSE, workers=None)

        assert run.code == 0, run.text
        after = pods(shop)
        assert (run.built, after["api"]) == ([], before["api"])
        assert after["web"] != before["web"]

    def test_what_a_service_no_longer_has_is_deleted(self, shop: Project) -> None:
        with_config(shop, "hello")
        shop.run(REUSE, workers=None)
        shop.manifest("web", image="web")

        run = shop.run(REUSE, workers=None)

        deleted = [path for method, path in run.requests if method == "DELETE"]
        assert deleted == ["/api/v1/namespaces/default/configmaps/settings"]

    def test_a_service_that_is_not_declared_any_more_is_deleted(self, shop: Project) -> None:
        declared = (shop.folder / "kindinfra.toml").read_text()
        shop.service("old")
        shop.tests("@pytest.mark.kindinfra('old')\ndef test_old(): ...\n" + URLS)
        shop.run(REUSE, workers=None)
        shop.write("kindinfra.toml", declared)
        shop.tests(URLS)

        run = shop.run(REUSE, workers=None)

        assert run.code == 0, run.text
        deleted = {path.rpartition("/")[2] for verb, path in run.requests if verb == "DELETE"}
        assert deleted == {"old", "old-http-kindinfra"}

    def test_a_service_of_a_hook_that_this_run_does_not_load_stays(self, shop: Project) -> None:
        """`pytest e2e` loads e2e/conftest.py and its hook, `pytest` alone does not."""
        shop.manifest("mock", image="quay.io/mock:1")
        shop.write("mocks.py", MOCK_HOOK)
        with_hook = ("-p", "mocks")
        shop.tests("@pytest.mark.kindinfra('mock')\ndef test_mock(): ...\n", "test_mock.py")
        shop.run(REUSE, *with_hook, workers=None)

        without = shop.run(REUSE, "test_it.py", workers=None)
        again = shop.run(REUSE, *with_hook, workers=None)

        assert (without.code, again.code) == (0, 0), without.text + again.text
        assert [path for verb, path in without.requests if verb == "DELETE"] == []
        assert [path for verb, path in again.requests if verb == "DELETE"] == []

    def test_a_failed_service_is_deployed_again(self, shop: Project) -> None:
        broken = {"state": {"waiting": {"reason": "ErrImageNeverPull"}}, "restartCount": 0}
        shop.breaks("web", broken)
        first = shop.run(REUSE, workers=None)
        shop.clusters.breaks.clear()

        run = shop.run(REUSE, workers=None)

        assert (first.code, run.code) == (1, 0), run.text
        deleted = [path for method, path in run.requests if method == "DELETE"]
        assert deleted == ["/apis/apps/v1/namespaces/default/deployments/web"]

    def test_a_finished_job_runs_again_only_if_something_of_it_or_its_needs_changed(
        self, project: Project
    ) -> None:
        project.service("db", image=True)
        project.service("seed", kind="Job", needs=("db",))
        project.tests("@pytest.mark.kindinfra('seed')\ndef test_it(): ...\n")
        project.run(REUSE, workers=None)
        first = pods(project)["seed"]

        project.run(REUSE, workers=None)
        second = pods(project)["seed"]
        project.write("db/main.py", "print('changed')")
        run = project.run(REUSE, workers=None)

        assert run.code == 0, run.text
        assert second == first != pods(project)["seed"]


class TestAPythonStep:
    STEP = (
        "from pathlib import Path\nfrom story import note\n"
        "def fill(stack): note('filled ' + Path('data.txt').read_text())\n"
    )

    def run(self, project: Project) -> Run:
        run = project.run(REUSE, workers=None)
        assert run.code == 0, run.text
        return run

    @pytest.fixture
    def stepping(self, project: Project) -> Project:
        project.service("db", image=True)
        project.write("seeding.py", self.STEP)
        project.write("data.txt", "one")
        project.tests("@pytest.mark.kindinfra('fill')\ndef test_it(): ...\n")
        return project

    def test_a_step_without_inputs_is_called_each_time(self, stepping: Project) -> None:
        stepping.declare("[services.fill]\nrun = 'seeding:fill'\nneeds = ['db']\n")

        runs = [self.run(stepping) for _ in range(2)]

        assert [said(run, "filled") for run in runs] == [["filled one"], ["filled one"]]

    @pytest.mark.parametrize(
        ("path", "text", "again"),
        [
            ("data.txt", "two", ["filled two"]),
            ("seeding.py", STEP + "# changed\n", ["filled one"]),
            ("db/main.py", "print('changed')", ["filled one"]),
            ("other.txt", "changed", []),
        ],
    )
    def test_with_inputs_it_is_called_if_they_or_its_module_or_its_needs_changed(
        self, stepping: Project, path: str, text: str, again: list[str]
    ) -> None:
        stepping.declare(
            "[services.fill]\nrun = 'seeding:fill'\ninputs = ['data.txt']\nneeds = ['db']\n"
        )
        self.run(stepping)
        stepping.write(path, text)

        run = self.run(stepping)

        assert said(run, "filled") == again


class TestPorts:
    def test_a_new_endpoint_takes_a_spare_port_and_the_others_keep_theirs(
        self, shop: Project
    ) -> None:
        first = shop.run(REUSE, workers=None)
        declared = (shop.folder / "kindinfra.toml").read_text()
        shop.write("kindinfra.toml", "")
        shop.service("zebra")  # before the others, whose ports would be moved by it
        shop.declare(declared)
        shop.tests(
            URLS.replace("'api')", "'api', 'zebra')")
            + "    note('new ' + kindinfra.url('zebra'))\n"
        )

        run = shop.run(REUSE, workers=None)

        assert run.code == 0, run.text
        assert run.clusters == first.clusters
        assert run.calls("create") == []
        assert said(run, "url") == said(first, "url")
        assert len(said(run, "new")) == 1

    def test_a_fixed_port_that_is_not_mapped_needs_another_cluster(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)
        shop.declare("[services.web.endpoints.late]\nport = 8080\nnode_port = 30085\n")

        run = shop.run(REUSE, workers=None)

        assert run.code == 0, run.text
        (name,) = run.clusters
        assert run.lines("is created again") == [
            (
                f'kindinfra: cluster "{name}" is created again: nodePort 30085 of endpoint '
                '"web.late" is not mapped in it'
            )
        ]
        assert (len(run.calls("delete")), len(run.calls("create"))) == (1, 1)


class TestAnotherCluster:
    def anew(self, project: Project, *arguments: str) -> list[str]:
        """Return why a further run makes the cluster anew."""
        run = project.run(REUSE, *arguments, workers=None)
        assert run.code == 0, run.text
        assert len(run.calls("create")) == len(run.lines("is created again"))
        return [line.partition("again: ")[2] for line in run.lines("is created again")]

    def test_a_node_image_or_a_kind_config_or_tuning_that_differs(self, shop: Project) -> None:
        shop.write("kind.yaml", "nodes: [{role: control-plane}]")
        shop.run(REUSE, "--kindinfra-node-image=kindest/node:v1", workers=None)

        again = ("--kindinfra-node-image=kindest/node:v2",)
        assert self.anew(shop, *again) == [
            "its node image was kindest/node:v1, now it is kindest/node:v2"
        ]
        assert self.anew(shop, *again) == []
        assert self.anew(shop, *again, "--kindinfra-kind-config=kind.yaml") == []
        shop.write("kind.yaml", "nodes: [{role: control-plane, labels: {a: b}}]")
        assert self.anew(shop, *again, "--kindinfra-kind-config=kind.yaml") == [
            "the kind config has changed"
        ]

    def test_kind_nodes_that_do_not_run(self, shop: Project) -> None:
        run = shop.run(REUSE, workers=None)
        (name,) = run.clusters
        (shop.fakes / "clusters" / name / f"{name}-control-plane" / "stopped").touch()

        assert self.anew(shop) == ["its kind nodes do not run"]

    def test_a_reused_directory_that_was_removed(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)
        shutil.rmtree(shop.folder / ".kindinfra")

        run = shop.run(REUSE, workers=None)
        done = shop.command("down")

        (name,) = shop.standing()
        assert run.code == 4
        assert (
            f'there is already a cluster "{name}", and it is unknown whether it is in use: its run '
            f"directory {shop.folder}/.kindinfra/reused/{name} is gone, or not of this "
            "machine; to fix: "
        ) in run.text
        assert f"if it is not in use: kind delete cluster --name {name}; else" in run.text
        assert run.calls("delete") == []
        assert done.returncode == 1
        assert f"To fix: if it is not in use: kind delete cluster --name {name}" in done.stderr

    def test_an_engine_in_a_virtual_machine_shows_its_own_paths(self, shop: Project) -> None:
        shop.run(REUSE, workers=None)
        shop.behave("inspect", machine="/host_mnt")

        run = shop.run(REUSE, workers=None)
        done = shop.command("down")

        assert run.code == 0, run.text
        assert run.calls("create") + run.calls("delete") == []
        assert done.stdout.startswith("deleted cluster")

    def test_one_that_is_half_made_since_its_run_was_killed(self, shop: Project) -> None:
        shop.behave("create", until="never")
        running = shop.start(REUSE, workers=None)
        running.until_called("create")
        running.until(lambda: any((shop.fakes / "clusters").iterdir()))
        running.kill()
        killed = running.finish()
        shop.behave("create")

        run = shop.run(REUSE, workers=None)

        assert run.code == 0, run.text
        assert run.clusters == killed.clusters != []
        assert len(run.calls("create")) == 1

    def test_a_foreign_cluster_is_a_usage_error(self, shop: Project) -> None:
        shop.foreign_cluster("dev")

        run = shop.run(REUSE, "--kindinfra-cluster-name=dev", workers=2)

        assert run.code == 4
        assert run.calls("create") + run.calls("delete") == []


class TestRunsBesideEachOther:
    def test_a_run_that_was_killed_in_its_tests_leaves_a_cluster_to_take_over(
        self, shop: Project
    ) -> None:
        shop.tests(URLS + "    await_gate('never')\n")
        running = shop.start(REUSE, workers=2)
        running.until(lambda: len(shop.told_in_order("url")) == 2)
        before = pods(shop)
        running.kill()
        running.finish()
        shop.tests(URLS)

        run = shop.run(REUSE, workers=2)

        assert run.code == 0, run.text
        assert run.calls("create") + run.calls("delete") + run.calls("build") == []
        assert pods(shop) == before

    def test_the_second_of_two_waits_for_the_first_and_says_so(self, shop: Project) -> None:
        shop.tests(URLS + "    await_gate('go')\n")
        first = shop.start(REUSE, workers=None)
        first.until(lambda: len(shop.told_in_order("url")) == 2)
        second = shop.start(REUSE, workers=2)
        second.until(lambda: "is in use by the run in" in second.so_far())
        shop.open("go")

        one, other = first.finish(), second.finish()

        assert (one.code, other.code) == (0, 0), other.text
        assert [call.what for call in shop.calls()].count("create") == 1
        (line,) = other.lines("is in use by")
        shown = re.sub(r"\d+-\d+-\w+", "RUN", line.replace(str(shop.folder), "FOLDER"))
        assert re.sub(r"\d+ s", "T s", shown) == (
            f'kindinfra: cluster "{one.clusters[0]}" is in use by the run in '
            "FOLDER/.kindinfra/RUN; waiting for its end, T s at most"
        )

    def test_it_gives_up_when_its_time_is_over(self, shop: Project) -> None:
        shop.tests(URLS + "    await_gate('go')\n")
        first = shop.start(REUSE, workers=None)
        first.until(lambda: len(shop.told_in_order("url")) == 2)

        run = shop.run(REUSE, "--kindinfra-timeout=2", workers=None)

        shop.open("go")
        assert first.finish().code == 0
        assert run.code == 1
        assert "it is in use by the run in" in run.text
        assert run.calls("delete") == []

    def test_a_run_without_reuse_leaves_one_in_use_alone(self, shop: Project) -> None:
        shop.tests(URLS + "    await_gate('go')\n")
        first = shop.start(REUSE, "--kindinfra-cluster-name=dev", workers=None)
        first.until(lambda: len(shop.told_in_order("url")) == 2)

        run = shop.run("--kindinfra-cluster-name=dev", workers=None)

        shop.open("go")
        assert first.finish().code == 0
        assert run.code == 1
        assert 'cluster "dev" is in use by the run in' in run.text
        assert run.calls("delete") + run.calls("create") == []

    def test_a_kept_cluster_is_not_swept(self, shop: Project) -> None:
        first = shop.run(REUSE, workers=None)

        gc = shop.command("gc")
        run = shop.run(workers=None)

        assert gc.stdout == "nothing was left behind\n"
        assert run.clusters == first.clusters


def test_what_is_kept_of_secrets_is_for_the_owner_only(shop: Project) -> None:
    run = shop.run(REUSE, workers=None)

    home = shop.folder / ".kindinfra" / "reused" / run.clusters[0]
    assert home.stat().st_mode & 0o077 == 0
    assert json.loads((home / "state" / "kept.json").read_text())["value"] == {
        "cluster": run.clusters[0]
    }
    assert (home / "kubeconfig").stat().st_mode & 0o077 == 0
