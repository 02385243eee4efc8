"""Build caches are exported when the stack is up: no test waits for it, but the run's end does."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

CACHE = 'cache_to = ["type=registry,ref=hub.example/cache"]\ncache_from = ["hub.example/cache"]'
TESTS = """
@pytest.mark.kindinfra("api")
def test_it(): ...
"""
OPENING = """
@pytest.mark.kindinfra("api")
def test_it():
    open_gate("tests are done")
"""
WAITING = "waiting until the build caches are exported"


@pytest.fixture
def cached(project: Project) -> Project:
    project.image("api", CACHE)
    project.manifest("api", image="api")
    project.declare('[services.api]\nmanifests = ["api.yaml"]')
    project.tests(TESTS)
    return project


@pytest.mark.parametrize("workers", [None, 2])
def test_no_test_waits_for_an_export(cached: Project, workers: int | None) -> None:
    cached.tests(OPENING)
    cached.behave("cache api", until="tests are done")

    run = cached.run(workers=workers)

    assert run.code == 0, run.text
    build, export = run.call("build"), run.call("cache")
    assert export.argv.count("--cache-to") == 1
    assert "--cache-to" not in build.argv
    assert "type=registry,ref=hub.example/cache" in build.argv
    (phase,) = [one for one in run.report["phases"] if one["kind"] == "export"]
    assert phase["subject"] == "api"
    assert phase["start"] >= max(
        one["end"] for one in run.report["phases"] if one["kind"] == "wait"
    )


def test_what_was_not_built_is_not_exported(cached: Project) -> None:
    assert cached.run().code == 0

    run = cached.run()

    assert (run.code, run.calls("build"), run.calls("cache")) == (0, [], [])


def test_the_end_of_the_run_waits_for_an_export(cached: Project) -> None:
    cached.behave("cache api", until="later")
    running = cached.start()
    running.until_said(WAITING)
    cached.open("later")

    run = running.finish()

    assert run.code == 0, run.text
    assert not run.call("cache").overlaps(run.call("delete"))


def test_an_interrupt_ends_an_export(cached: Project) -> None:
    cached.behave("cache api", until="never")
    running = cached.start()
    running.until_said(WAITING)
    running.signal(signal.SIGINT)

    run = running.finish()

    assert "build caches were not exported, since the run ended: " in run.text, run.text
    assert len(run.calls("delete")) == 1


def test_an_export_that_fails_is_said_and_fails_no_test(cached: Project) -> None:
    cached.behave("cache api", exit=1, complains="ERROR: push refused: 401 Unauthorized")

    run = cached.run()

    assert run.code == 0, run.text
    assert 'image "api": its build cache was not exported: ' in run.text
    assert 'exporting the build cache of image "api": exit code 1\n' in run.text
    assert "To fix: `docker login hub.example` as a user who may pull and push there" in run.text


def test_the_command_exports_after_all_builds(cached: Project) -> None:
    done = cached.command("build")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [call.what for call in cached.calls() if call.what.startswith(("build", "cache"))] == [
        "build api",
        "cache api",
    ]


def test_podman_cannot_share_caches_so(cached: Project) -> None:
    cached.install("podman")

    run = cached.run("--kindinfra-engine=podman")

    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert "[images.api] cache_to: podman does not know --cache-to; leave it out" in run.text
    assert "[images.api] cache_from: podman does not know --cache-from; leave it out" in run.text
