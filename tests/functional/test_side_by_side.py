"""Builds run beside each other and beside the cluster; services wait for their needs only."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Call, Project


def most_at_once(calls: list[Call]) -> int:
    """Return how many ran at the moment at which most did."""
    return max(sum(one.start <= call.start < (one.end or 0) for one in calls) for call in calls)


def declare(project: Project, *names: str) -> None:
    for name in names:
        project.service(name, image=True)
    marked = ", ".join(f'"{name}"' for name in names)
    project.tests(f"@pytest.mark.kindinfra({marked})\ndef test_all(): ...\n")


def test_builds_run_beside_each_other_and_beside_the_creation(project: Project) -> None:
    declare(project, "a", "b")
    for what in ("build a", "build b", "create"):
        project.behave(what, until="all")

    running = project.start("--kindinfra-build-jobs=2")
    for what in ("build a", "build b", "create"):
        running.until_called(what)
    project.open("all")
    run = running.finish()

    assert run.code == 0, run.text
    builds = run.calls("build")
    assert builds[0].overlaps(builds[1])
    assert builds[0].overlaps(run.call("create"))


def test_never_more_builds_run_at_once_than_wanted(project: Project) -> None:
    declare(project, "a", "b", "c", "d")
    for name in "abcd":
        project.behave(f"build {name}", until="two", seconds=0.05)

    running = project.start("--kindinfra-build-jobs=2")
    running.until(lambda: sum(one.what.startswith("build ") for one in project.calls()) == 2)
    project.open("two")
    run = running.finish()

    assert run.built == ["a", "b", "c", "d"]
    assert most_at_once(run.calls("build")) == 2


def test_an_exclusive_build_runs_alone(project: Project) -> None:
    declare(project, "a", "b", "c")
    text = (project.folder / "kindinfra.toml").read_text()
    project.write(
        "kindinfra.toml", text.replace('context = "b"', 'context = "b"\nexclusive = true')
    )
    for name in "abc":
        project.behave(f"build {name}", seconds=0.1)

    run = project.run("--kindinfra-build-jobs=3")

    assert run.built == ["a", "b", "c"]
    assert not any(run.call("build b").overlaps(run.call(f"build {one}")) for one in "ac")


def test_an_image_is_built_after_the_one_that_it_starts_from(project: Project) -> None:
    project.image("base")
    project.service("app", image=True)
    project.write("app/Dockerfile", "FROM base\n")
    text = (project.folder / "kindinfra.toml").read_text()
    project.write(
        "kindinfra.toml", text.replace('context = "app"', 'context = "app"\nneeds = ["base"]')
    )
    project.tests("@pytest.mark.kindinfra('app')\ndef test_app(): ...\n")

    run = project.run("--kindinfra-build-jobs=2")

    assert run.code == 0, run.text
    assert (run.call("build base").end or 0) <= run.call("build app").start


def test_a_service_is_applied_after_its_needs_are_ready(project: Project) -> None:
    project.service("db")
    project.service("migrations", kind="Job", needs=("db",))
    project.service("api", image=True, needs=("migrations",))
    project.behave("ready db", until="loaded")
    project.tests("@pytest.mark.kindinfra('api')\ndef test_api(): ...\n")

    running = project.start()
    running.until_done("import")  # now only the need holds it back
    running.until_at("apply Deployment/db")
    project.open("loaded")
    run = running.finish()

    assert run.code == 0, run.text
    assert run.at("ready db") <= run.at("apply Job/migrations")
    assert run.at("ready migrations") <= run.at("apply Deployment/api")


@pytest.mark.parametrize("level", ["applied", "started"])
def test_a_need_can_be_weakened(project: Project, level: str) -> None:
    project.service("db")
    project.service("api", needs=(f"db:{level}",))
    project.behave("ready db", until="api")
    project.tests("@pytest.mark.kindinfra('api')\ndef test_api(): ...\n")

    running = project.start()
    running.until_at("apply Deployment/api")  # never, if it waited until db is ready
    project.open("api")
    run = running.finish()

    assert run.code == 0, run.text
    assert run.at("apply Deployment/db") < run.at("apply Deployment/api") < run.at("ready db")


def test_images_built_meanwhile_travel_together_and_only_once(project: Project) -> None:
    declare(project, "a", "b", "c")
    project.behave("create", until="built")

    running = project.start("--kindinfra-build-jobs=3")
    for name in "abc":
        running.until_done(f"build {name}")
    project.open("built")
    run = running.finish()

    saved = [reference for call in run.calls("save") for reference in call.argv[2:]]
    assert sorted(reference.partition(":")[0] for reference in saved) == [
        "localhost/a", "localhost/b", "localhost/c"
    ]  # fmt: skip
    assert not any(one.overlaps(other) for one, other in combinations(run.calls("save"), 2))
