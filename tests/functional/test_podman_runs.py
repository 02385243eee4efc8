"""Runs with podman, beside a program that only plays it: who is asked, and what users are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run


@pytest.fixture
def shop(project: Project) -> Project:
    """A project of an image that starts from another one, and of a service that runs it."""
    project.install("podman")
    project.image("base")
    project.service("api", image=True)
    project.write("api/Dockerfile", "FROM base\n")
    declared = project.folder / "kindinfra.toml"
    text = declared.read_text()
    declared.write_text(text.replace('context = "api"\n', 'context = "api"\nneeds = ["base"]\n'))
    project.tests("""
        @pytest.mark.kindinfra("api")
        def test_it(kindinfra): ...
    """)
    return project


def programs(run: Run) -> set[str]:
    return {call.argv[0] for call in run.all_calls}


def test_podman_is_used_for_everything_and_kind_gets_its_name(shop: Project) -> None:
    shop.remove("docker")

    run = shop.run("--kindinfra-engine=podman", workers=2)

    assert run.code == 0, run.text
    assert programs(run) == {"podman", "kind"}
    told = {call.env.get("KIND_EXPERIMENTAL_PROVIDER") for call in run.all_calls}
    assert told == {"podman", None}
    assert run.clusters == []
    (line,) = run.lines("1 test needs 1 service from 2 images, cluster kindinfra-")
    assert line.endswith(" on podman")


def test_podman_is_taken_where_docker_is_there_but_does_not_answer(shop: Project) -> None:
    shop.behave("docker version", exit=1, complains="Cannot connect to the Docker daemon")

    run = shop.run(workers=2)

    assert run.code == 0, run.text
    assert [call.what for call in run.all_calls if call.argv[0] == "docker"] == ["docker version"]
    assert run.lines(" on podman")


def test_a_registry_is_refused_before_anything_is_built(shop: Project) -> None:
    run = shop.run("--kindinfra-engine=podman", "--kindinfra-load=registry", workers=2)

    assert run.code == 4, run.text
    assert (
        '  - --kindinfra-load: load = "registry" needs Docker, but the engine is podman' in run.text
    )
    assert run.calls("build") == []


def test_docker_is_taken_where_both_answer(shop: Project) -> None:
    run = shop.run(workers=0)

    assert run.code == 0, run.text
    assert programs(run) == {"docker", "kind"}
    assert run.lines(" on docker")


def test_where_only_podman_is_there_nothing_else_is_looked_for(shop: Project) -> None:
    shop.remove("docker")

    run = shop.run(workers=0)

    assert run.code == 0, run.text
    assert programs(run) == {"podman", "kind"}


def test_a_podman_that_is_not_there_is_named(shop: Project) -> None:
    shop.remove("podman")

    run = shop.run("--kindinfra-engine=podman", workers=0)

    assert run.code == 1
    assert run.lines('"podman" is not on PATH')


def test_options_that_only_buildkit_has_are_a_usage_error(shop: Project) -> None:
    declared = shop.folder / "kindinfra.toml"
    flags = 'build_options = ["--provenance=mode=max", "--cache-from", "type=gha"]\n'
    needs = 'needs = ["base"]\n'
    declared.write_text(declared.read_text().replace(needs, needs + flags))

    run = shop.run("--kindinfra-engine=podman", workers=2)

    assert run.code == 4, run.text
    assert (
        "[images.api] build_options: podman does not know --provenance, --cache-from; "
        "leave it out, or --kindinfra-engine=docker\n"
    ) in run.text
    assert run.all_calls == []


def test_an_image_that_a_test_loads_comes_from_the_runs_engine(shop: Project) -> None:
    shop.host_image("quay.io/tool:1")
    shop.tests("""
        def test_it(kind_cluster):
            kind_cluster.load_docker_image("quay.io/tool:1")
    """)

    run = shop.run("--kindinfra-engine=podman", workers=2)

    assert run.code == 0, run.text
    assert programs(run) == {"podman", "kind"}


def test_gc_looks_at_the_clusters_of_both(shop: Project) -> None:
    shop.foreign_cluster("mine")

    done = shop.command("gc")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "nothing was left behind\n"
    asked = [*dict.fromkeys(call.argv[0] for call in shop.calls() if call.what == "ps")]
    assert asked == ["docker", "podman"]
