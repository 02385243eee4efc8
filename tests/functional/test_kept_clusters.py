"""Which clusters outlive a run, how it is said, and what decides: the nearest option."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

PASSING = "def test_it(kindinfra): ...\n"
FAILING = "def test_it(kindinfra): assert False\n"


@pytest.mark.parametrize(
    ("keep", "source", "stays"),
    [
        ("always", PASSING, True),
        ("on-failure", FAILING, True),
        ("on-failure", PASSING, False),
        ("never", FAILING, False),
    ],
)
def test_the_cluster_stays_if_that_is_wanted(
    project: Project, keep: str, source: str, *, stays: bool
) -> None:
    project.tests(source)

    run = project.run(f"--kindinfra-keep={keep}", "--kindinfra-cluster-name=mine", workers=None)

    assert run.clusters == (["mine"] if stays else [])
    assert len(run.calls("delete")) == (0 if stays else 1)
    assert run.report["outcome"]["kept"] is stays
    assert bool(run.lines("kept: cluster mine")) is stays


def test_how_to_use_and_to_delete_a_kept_cluster_is_said(project: Project) -> None:
    project.tests(PASSING)

    run = project.run("--kindinfra-keep=always", "--kindinfra-cluster-name=mine", workers=2)

    assert run.lines("export KUBECONFIG=") == [
        f"  use it:    export KUBECONFIG={run.folder}/kubeconfig"
    ]
    assert run.lines("delete it:") == ["  delete it: kind delete cluster --name mine"]


def test_a_kept_cluster_is_not_taken_for_left_behind(project: Project) -> None:
    project.tests(PASSING)

    first = project.run("--kindinfra-keep=always", workers=None)
    second = project.run(workers=None)

    assert second.clusters == first.clusters != []


def test_a_foreign_cluster_of_that_name_is_not_touched(project: Project) -> None:
    project.foreign_cluster("dev")
    project.tests("def test_it(kindinfra): ...\n")

    run = project.run("--kindinfra-cluster-name=dev", workers=2)

    assert run.code == 4
    assert (
        '  - there is already a cluster "dev", which no run of pytest-kindinfra created; to fix: '
        "choose another --kindinfra-cluster-name, or delete it: kind delete cluster --name dev\n"
    ) in run.text
    assert (run.calls("create"), run.calls("delete")) == ([], [])
    assert run.clusters == ["dev"]


def test_an_old_cluster_of_a_run_is_created_again(project: Project) -> None:
    project.tests(PASSING)
    project.run("--kindinfra-keep=always", "--kindinfra-cluster-name=mine", workers=None)

    run = project.run("--kindinfra-cluster-name=mine", workers=None)

    assert run.code == 0, run.text
    assert [call.what for call in run.calls("delete") + run.calls("create")] == [
        "delete", "delete", "create"
    ]  # fmt: skip
    assert run.lines('cluster "mine" of an earlier run is created again')
    assert run.clusters == []


@pytest.mark.parametrize(
    ("arguments", "env", "stays"),
    [
        pytest.param([], {}, True, id="file"),
        pytest.param([], {"KINDINFRA_KEEP": "never"}, False, id="environment over file"),
        pytest.param(
            ["--kindinfra-keep=always"], {"KINDINFRA_KEEP": "never"}, True,
            id="command line over environment",
        ),
    ],
)  # fmt: skip
def test_the_nearest_option_wins(
    project: Project, arguments: list[str], env: dict[str, str], *, stays: bool
) -> None:
    project.declare("[options]\nkeep = 'always'\n")
    project.tests(PASSING)

    run = project.run(*arguments, workers=None, **env)

    assert run.code == 0, run.text
    assert bool(run.clusters) is stays


def test_options_in_the_file_hold_for_workers_too(project: Project) -> None:
    project.declare("[options]\nartifacts = 'left'\norder = 'collected'\nprogress = 'off'\n")
    project.tests("""
        def test_marked(kindinfra): ...

        def test_free(): ...
    """)

    run = project.run(workers=1)

    assert run.code == 0, run.text
    assert (project.folder / "left" / "latest" / "run.json").is_file()
    assert not (project.folder / ".kindinfra").exists()
    assert run.lines("cluster created in") == []
    assert run.at("start test_marked") < run.at("start test_free")


@pytest.mark.parametrize("workers", [None, 2])
def test_the_plan_needs_neither_engine_nor_kind(project: Project, workers: int | None) -> None:
    project.service("db")
    project.service("api", image=True, needs=("db",))
    project.remove("docker")
    project.remove("kind")
    project.tests("@pytest.mark.kindinfra('api')\ndef test_api(): ...\n")

    run = project.run("--kindinfra-plan", workers=workers)

    assert run.code == 0, run.text
    assert run.notes == []
    order = [line.split()[0] for line in run.lines(" needs ") if line.startswith("  ")]
    assert order == ["db", "api"]
    (image,) = run.lines("localhost/api:")
    assert image.split()[0] == "api"
