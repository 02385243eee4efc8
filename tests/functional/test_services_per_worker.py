"""Each xdist worker has its own copy of a service per worker, under the declared name."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

TESTS = """
import time

@pytest.mark.kindinfra("db", "api")
@pytest.mark.parametrize("number", range(8))
def test_it(kindinfra, number):
    note(f"db {kindinfra.url('db')} {kindinfra.namespace}")
    note(f"api {kindinfra.url('api')} {kindinfra.namespace}")
    time.sleep(0.3)

@pytest.mark.kindinfra("api")
def test_shared(kindinfra):
    note(f"shared {kindinfra.namespace}")
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True)
    project.service("db", image=True, needs=("api",), toml='per = "worker"')
    project.tests(TESTS)
    return project


def told(run: Run, what: str) -> dict[str, set[str]]:
    """Return worker to what its tests noted."""
    found: dict[str, set[str]] = {}
    for text, _, worker in run.notes:
        if text.startswith(f"{what} "):
            found.setdefault(worker, set()).add(text.removeprefix(f"{what} "))
    return found


def test_each_worker_has_its_own_copy_in_its_own_namespace(shop: Project) -> None:
    run = shop.run(workers=2)

    assert run.outcomes == {"passed": 9}, run.text
    own = told(run, "db")
    assert sorted(own) == ["gw0", "gw1"]
    assert {text.split()[1] for found in own.values() for text in found} == {
        "default-gw0",
        "default-gw1",
    }
    assert all(len(found) == 1 for found in own.values())
    assert len(set.union(*own.values())) == 2
    shared = {text.split()[0] for found in told(run, "api").values() for text in found}
    assert len(shared) == 1
    assert set.union(*told(run, "shared").values()) == {"default"}


def test_images_are_built_and_loaded_once(shop: Project) -> None:
    run = shop.run(workers=2)

    assert run.built == ["api", "db"]
    assert run.deployed == ["api", "db", "db"]


def test_without_xdist_there_is_one_copy_in_the_declared_namespace(shop: Project) -> None:
    run = shop.run()

    assert run.outcomes == {"passed": 9}, run.text
    assert {text.split()[1] for text in set.union(*told(run, "db").values())} == {"default"}
    assert run.deployed == ["api", "db"]


def test_the_closing_table_has_one_row_for_all_copies(shop: Project) -> None:
    run = shop.run(workers=2)

    rows = [line for line in run.out.splitlines() if re.match(r"(wait|deploy) +db", line)]
    assert all("db (2 copies)" in row for row in rows)  # rows under 0.2 s are folded into one
    subjects = {one["subject"] for one in run.report["phases"] if one["kind"] == "wait"}
    assert subjects == {"cluster", "api", "db.gw0", "db.gw1"}
    assert {"db.gw0", "db.gw1"} <= run.report["endpoints"].keys()


def test_the_plan_shows_the_copies(shop: Project) -> None:
    run = shop.run("--kindinfra-plan", workers=2)

    assert run.lines("db.gw0 ")[0].split("needs ")[1] == "api, in namespace default-gw0"
    assert run.lines("db.gw1 ")[0].split("needs ")[1] == "api, in namespace default-gw1"
    assert run.lines("db.gw1.http")
    assert run.calls("build") == []


def test_kindinfra_plan_shows_them_for_a_number_of_workers(shop: Project) -> None:
    alone = json.loads(shop.command("plan", "--json").stdout)
    two = json.loads(shop.command("plan", "--json", "--workers=2").stdout)

    def services(record: dict[str, list[dict[str, object]]]) -> list[tuple[object, ...]]:
        return [(one["name"], one["per"], one["namespace"]) for one in record["services"]]

    assert services(alone) == [("api", None, "default"), ("db", "worker", "default")]
    assert services(two) == [
        ("api", None, "default"),
        ("db.gw0", "worker", "default-gw0"),
        ("db.gw1", "worker", "default-gw1"),
    ]
    assert shop.command("plan", "--workers=-1").returncode == 2
    lines = shop.command("plan").stdout.splitlines()
    (line,) = [one for one in lines if one.startswith("  db  ") and "needs" in one]
    assert line.endswith("one copy for each xdist worker")


def test_a_worker_that_replaces_a_killed_one_has_its_copy(shop: Project) -> None:
    shop.tests(
        """
        import signal, time

        @pytest.mark.kindinfra("db")
        @pytest.mark.parametrize("number", range(6))
        def test_it(kindinfra, number):
            note(f"db {kindinfra.namespace}")
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.3)
        """
    )
    run = shop.run(workers=1)

    assert run.outcomes == {"passed": 5, "failed": 1}, run.text
    assert told(run, "db") == {"gw0": {"default-gw0"}, "gw1": {"default-gw0"}}
    assert run.deployed == ["api", "db"]


def test_a_failed_copy_fails_the_tests_of_its_worker(shop: Project) -> None:
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    shop.breaks("db", {"state": {"waiting": waiting}, "ready": False, "restartCount": 0})
    run = shop.run(workers=2)

    assert run.outcomes == {"passed": 1, "errors": 8}, run.text
    assert run.lines('service "db.gw0"')
    assert run.lines('service "db.gw1"')


def test_hooks_see_the_declared_name_and_the_copys_endpoints(shop: Project) -> None:
    conftest = shop.folder / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + """

def pytest_kindinfra_after_deploy(stack, service):
    note(f"hook {service.name} {service.worker} {stack.namespace} {stack.url(service.name)}")


def pytest_kindinfra_before_teardown(stack, directory):
    note(f"over {' '.join(stack.services)} {stack.url('db.gw1')}")
    try:
        stack.url("db")
    except Exception as error:
        note(f"refused {error}")
"""
    )
    run = shop.run(workers=2)

    hooks = [text.split()[1:4] for text, _, _ in run.notes if text.startswith("hook db")]
    assert sorted(hooks) == [["db", "gw0", "default-gw0"], ["db", "gw1", "default-gw1"]]
    seen = {text.split()[4] for text, _, _ in run.notes if text.startswith("hook db")}
    assert seen == {text.split()[0] for found in told(run, "db").values() for text in found}
    assert set.union(*told(run, "over").values()) == {
        f"api db.gw0 db.gw1 {next(iter(told(run, 'db')['gw1'])).split()[0]}"
    }
    assert set.union(*told(run, "refused").values()) == {
        'each worker has its own copy of service "db"\nTo fix: name one of them: db.gw0, db.gw1'
    }


def test_a_reused_cluster_keeps_the_copies_of_absent_workers(shop: Project) -> None:
    first = shop.run("--kindinfra-reuse", workers=2)
    second = shop.run("--kindinfra-reuse", workers=1)
    third = shop.run("--kindinfra-reuse")

    assert [run.outcomes for run in (first, second, third)] == [{"passed": 9}] * 3, third.text
    assert len(second.calls("create")) == len(third.calls("create")) == 0
    assert told(second, "db")["gw0"] == told(first, "db")["gw0"]
    assert not [path for method, path in third.requests if method == "DELETE" and "/db" in path]
    words = shop.command("status").stdout.split()
    assert [word for word in words if word in {"api", "db", "db.gw0", "db.gw1"}] == [
        *("api", "db", "db.gw0", "db.gw1")
    ]
    assert shop.command("url", "db.gw1").stdout.strip() in next(iter(told(first, "db")["gw1"]))


def test_commands_name_the_copies_that_they_cannot_choose_between(shop: Project) -> None:
    shop.run("--kindinfra-reuse", workers=2)

    for words in (("url", "db"), ("exec", "db", "--", "true"), ("logs", "db")):
        done = shop.command(*words)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert 'has copies of service "db" for xdist workers only' in said
        assert "To fix: name one of them: db.gw0, db.gw1; or kindinfra up db" in said
    assert shop.command("up", "db").returncode == 0
    assert shop.command("url", "db").returncode == 0


def test_a_service_that_is_shared_from_now_on_loses_its_copies(shop: Project) -> None:
    shop.run("--kindinfra-reuse", workers=2)
    file = shop.folder / "kindinfra.toml"
    file.write_text(file.read_text().replace('per = "worker"', ""))
    run = shop.run("--kindinfra-reuse", workers=2)

    gone = {path for method, path in run.requests if method == "DELETE"}
    assert {path.split("/")[-3] for path in gone if path.endswith("/deployments/db")} == {
        "default-gw0",
        "default-gw1",
    }


def test_what_cannot_be_copied_is_a_usage_error(shop: Project) -> None:
    shop.service("late", image=True, needs=("db",))
    run = shop.run(workers=2)

    assert run.code == 4
    assert '[services.late] needs "db", of which each worker has a copy' in run.text
    assert run.calls("build") == []
