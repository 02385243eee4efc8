"""How images are loaded, and what of it the user sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

NOT_FOUND = f"ctr: content digest sha256:{'0a' * 32}: not found"


@pytest.fixture
def with_image(project: Project) -> Project:
    project.service("api", image=True)
    project.tests("@pytest.mark.kindinfra('api')\ndef test_api(kind_cluster): ...\n")
    return project


@pytest.mark.parametrize(("how", "asked"), [("auto", 1), ("delta", 1), ("archive", 0)])
def test_a_kind_node_is_asked_what_it_holds_unless_all_is_sent(
    with_image: Project, how: str, asked: int
) -> None:
    run = with_image.run(f"--kindinfra-load={how}")

    assert run.code == 0, run.text
    assert len(run.calls("blobs")) == asked
    assert len(run.calls("import")) == 1


def test_the_report_says_how_much_was_sent(with_image: Project) -> None:
    run = with_image.run()

    assert run.code == 0, run.text
    (load,) = (phase for phase in run.report["phases"] if phase["kind"] == "load")
    assert load["bytes"] == 512 + 1024  # an archive of one empty file


def test_a_load_that_fails_each_time_is_reported_with_the_kind_nodes_message(
    with_image: Project,
) -> None:
    with_image.behave("import", exit=1, complains=NOT_FOUND)

    run = with_image.run()

    assert run.outcomes == {"errors": 1}, run.text
    assert NOT_FOUND in run.text
    assert len(run.calls("import")) == 3
    assert len(run.calls("remove")) == 1
    assert not [phase for phase in run.report["phases"] if phase["kind"] == "load"]


def test_tests_load_as_the_run_does(project: Project) -> None:
    project.host_image("quay.io/extra:1")
    project.tests("def test_it(kind_cluster): kind_cluster.load_docker_image('quay.io/extra:1')\n")

    run = project.run("--kindinfra-load=archive")

    assert run.code == 0, run.text
    assert len(run.calls("import")) == 1
    assert run.calls("blobs") == []
