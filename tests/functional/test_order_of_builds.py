"""Builds go in the order that ends soonest, as far as earlier runs tell; and none for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

TESTS = """
@pytest.mark.kindinfra("short", "long")
def test_it(): ...
"""
ONE_AT_A_TIME = "--kindinfra-build-jobs=1"


@pytest.fixture
def two_images(project: Project) -> Project:
    project.service("short", image=True)
    project.service("long", image=True)
    project.behave("build long", seconds=0.5)
    project.tests(TESTS)
    return project


def change(project: Project) -> None:
    for name in ("short", "long"):
        project.write(f"{name}/main.go", "package changed\n")


def order(run: Run) -> list[str]:
    return [call.what for call in run.calls("build")]


def test_what_took_long_in_the_last_run_goes_first(two_images: Project) -> None:
    first = two_images.run(ONE_AT_A_TIME)
    change(two_images)
    again = two_images.run(ONE_AT_A_TIME)

    assert (first.code, again.code) == (0, 0), first.text + again.text
    assert order(again) == ["build long", "build short"]
    assert again.report["memory"] == {
        "folder": str(two_images.fakes / "cache" / "pytest-kindinfra"),
        "problems": [],
    }


@pytest.mark.parametrize("workers", [None, 2])
def test_a_memory_that_is_broken_costs_no_test_and_stands_in_the_report_only(
    two_images: Project, workers: int | None
) -> None:
    assert two_images.run(ONE_AT_A_TIME).code == 0
    (kept,) = (two_images.fakes / "cache").rglob("durations/*.json")
    kept.write_text('{"seconds": {"build')

    run = two_images.run(workers=workers)

    assert run.code == 0
    (problem,) = run.report["memory"]["problems"]
    assert problem.startswith(f"{kept}: ")
    assert str(kept) not in run.text


def test_a_build_that_takes_longer_than_its_timeout_is_ended(project: Project) -> None:
    project.image("slow", "timeout = 4")  # enough to ask which builder is in use
    project.manifest("slow", image="slow")
    project.declare("[services.slow]\nmanifests = ['slow.yaml']")
    project.behave("build slow", until="never")
    project.tests("""
        @pytest.mark.kindinfra("slow")
        def test_it(): ...
    """)

    run = project.run()

    assert run.outcomes == {"errors": 1}
    assert 'building image "slow": stopped, since it did not end within 4 s (timeout)' in run.out
