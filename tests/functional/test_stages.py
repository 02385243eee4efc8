"""Scripts that call the stages one by one: cluster, images, services, end."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.functional.project import Project

START = """
from pytest_kindinfra import (
    KindInfraError, build_and_deploy, build_images, create_cluster, delete_cluster, deploy_service,
    load_images, resolve,
)
plan = resolve()
"""


def script(project: Project, source: str) -> subprocess.CompletedProcess[str]:
    project.write("script.py", START + dedent(source))
    return project.python("script.py")


def lines_of(project: Project, source: str) -> list[str]:
    done = script(project, source)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def count(project: Project, what: str) -> int:
    return sum(call.what.startswith(what) for call in project.calls())


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("db")
    project.service("api", image=True, needs=("db",))
    project.service("web", image=True, needs=("api",))
    return project


def test_stages_are_called_one_by_one(shop: Project) -> None:
    lines = lines_of(shop, """
        images = build_images(plan)
        stack = create_cluster(plan, name="mine")
        load_images(stack, images)
        for name in ("db", "api", "web"):
            print(name, len(deploy_service(stack, name)))
        print(stack.cluster, stack.kubeconfig.exists(), stack.images == {
            name: image.reference for name, image in images.items()
        })
        delete_cluster(stack)
        delete_cluster(stack)
        print(stack.kubeconfig.exists())
    """)  # fmt: skip

    assert lines[:3] == ["db 1", "api 1", "web 1"]
    assert lines[3] == "mine True True"
    assert shop.standing() == []
    assert [count(shop, what) for what in ("build", "create", "save", "delete")] == [2, 1, 1, 1]


def test_a_service_comes_with_all_that_it_needs(shop: Project) -> None:
    lines = lines_of(shop, """
        with create_cluster(plan) as stack:
            print(sorted(build_and_deploy(stack, "api")))
            print(stack.url("db").startswith("http://127.0.0.1:"))
            print(sorted(build_and_deploy(stack)))
            print(sorted(build_and_deploy(stack, "web")))
            print(deploy_service(stack, "web") == stack.endpoints("web"))
    """)  # fmt: skip

    assert lines == ["['api']", "True", "['api', 'db', 'web']", "['web']", "True"]
    assert [count(shop, what) for what in ("build", "create", "delete")] == [2, 1, 1]
    applied = [what for what in shop.told() if what.startswith("apply Deployment/")]
    assert sorted(applied) == [f"apply Deployment/{name}" for name in ("api", "db", "web")]
    assert shop.standing() == []


def test_what_is_not_there_yet_is_named(shop: Project) -> None:
    lines = lines_of(shop, """
        with create_cluster(plan) as stack:
            for name in ("web", "wep"):
                try:
                    deploy_service(stack, name)
                except KindInfraError as error:
                    print(error)
            build_and_deploy(stack, "db")
            try:
                deploy_service(stack, "api")
            except KindInfraError as error:
                print(error)
    """)  # fmt: skip

    assert lines == [
        'service "web" needs api, not deployed yet',
        "To fix: deploy what it needs first, or call build_and_deploy",
        'the plan has no service "wep"; did you mean "web"?',
        'service "api" runs api, not loaded yet',
        "To fix: load_images(stack, build_images(plan)), or call build_and_deploy",
    ]


def test_a_failure_is_raised_with_its_cause_and_not_tried_again(shop: Project) -> None:
    shop.behave("build api", exit=3, says="no such package: left-pad")

    lines = lines_of(shop, """
        with create_cluster(plan) as stack:
            for services in (["web", "db"], ["api"]):
                try:
                    build_and_deploy(stack, *services)
                except KindInfraError as error:
                    print(str(error).count('image "api" failed'), "left-pad" in str(error))
            try:
                deploy_service(stack, "web")
            except KindInfraError as error:
                print("left-pad" in str(error))
            print(stack.url("db").startswith("http"))
    """)  # fmt: skip

    assert lines == ["1 True", "1 True", "True", "True"]
    assert count(shop, "build api") == 1
    assert shop.standing() == []


def test_the_name_of_a_foreign_cluster_is_refused_before_anything_is_created(shop: Project) -> None:
    shop.foreign_cluster("dev")

    lines = lines_of(shop, """
        try:
            create_cluster(plan, name="dev")
        except KindInfraError as error:
            print("which no run of pytest-kindinfra created" in str(error))
    """)  # fmt: skip

    assert lines == ["True"]
    assert [count(shop, what) for what in ("create", "delete")] == [0, 0]
    assert shop.standing() == ["dev"]
    assert not list(shop.folder.glob(".kindinfra/2*"))


def test_a_cluster_that_does_not_come_up_leaves_nothing(shop: Project) -> None:
    shop.behave("create", exit=1, says="node image is broken")

    lines = lines_of(shop, """
        try:
            create_cluster(plan)
        except KindInfraError as error:
            print("node image is broken" in str(error))
    """)  # fmt: skip

    assert lines == ["True"]
    assert shop.standing() == []


def test_a_script_that_dies_leaves_a_cluster_that_the_next_run_deletes(shop: Project) -> None:
    done = script(shop, """
        stack = create_cluster(plan)
        raise SystemExit(3)
    """)  # fmt: skip
    left = shop.standing()

    gone = shop.command("gc")

    assert (done.returncode, len(left)) == (3, 1), done.stderr
    assert left[0] in gone.stdout
    assert shop.standing() == []


@pytest.mark.parametrize("phase", ["create cluster", "build api", "wait db"])
def test_an_interrupt_deletes_the_cluster(shop: Project, phase: str) -> None:
    lines = lines_of(shop, f"""
        import os, signal

        def interrupt(phase, ended):
            if not ended and phase.name == "{phase}":
                os.kill(os.getpid(), signal.SIGINT)

        try:
            with create_cluster(plan, progress=interrupt) as stack:
                build_and_deploy(stack)
        except KeyboardInterrupt:
            print("interrupted")
    """)  # fmt: skip

    assert lines == ["interrupted"]
    assert shop.standing() == []


def test_a_script_takes_over_no_cluster_that_is_kept_for_runs_with_reuse(shop: Project) -> None:
    shop.tests("@pytest.mark.kindinfra('db')\ndef test_it(): ...\n")
    shop.run("--kindinfra-reuse", workers=None)
    kept = shop.standing()
    shop.declare("[options]\nreuse = true\n")

    lines = lines_of(shop, """
        with create_cluster(plan) as stack:
            print(stack.cluster)
    """)  # fmt: skip

    assert len(kept) == 1
    assert lines != kept
    assert shop.standing() == kept
