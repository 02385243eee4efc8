"""The example's own tests on a real cluster, and what the run's report says of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.runs import Run, left_behind, run_pytest

if TYPE_CHECKING:
    from pathlib import Path

BUILT = {"base", "datastorage", "holmesgpt-api", "mock-llm", "aianalysis"}


@pytest.fixture(scope="module")
def with_four_workers(example: Path) -> Run:
    return run_pytest(example, "-n", "4")


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["start"] < other["end"] and other["start"] < one["end"])


def test_all_of_its_tests_pass_with_four_workers(with_four_workers: Run) -> None:
    assert with_four_workers.exit_code == 0, with_four_workers.output
    assert with_four_workers.report["outcome"] == {"state": "passed", "failures": {}, "kept": False}


@pytest.mark.usefixtures("with_four_workers")
def test_no_cluster_stays(example: Path) -> None:
    assert left_behind(example) == []


def test_each_image_is_built_exactly_once(with_four_workers: Run) -> None:
    built = [phase["subject"] for phase in with_four_workers.phases("build")]

    assert sorted(BUILT) == sorted(built)


def test_builds_run_side_by_side_and_beside_the_creation_of_the_cluster(
    with_four_workers: Run,
) -> None:
    builds = with_four_workers.phases("build")
    # Another test's cluster may be created first: its turn counts as part of the creation.
    queue, create = with_four_workers.phases("queue"), with_four_workers.phase("create cluster")
    creation = {"start": min(one["start"] for one in [*queue, create]), "end": create["end"]}

    assert any(overlap(one, other) for one in builds for other in builds if one is not other)
    assert any(overlap(one, creation) for one in builds)


def test_no_service_is_deployed_before_its_needs_are_ready(with_four_workers: Run) -> None:
    for service in with_four_workers.report["plan"]["services"]:
        own = [
            phase
            for phase in with_four_workers.report["phases"]
            if phase["subject"] == service["name"] and phase["kind"] in {"deploy", "run"}
        ]
        for need, level in service["needs"].items():
            if level == "ready":
                ready = with_four_workers.phase(f"wait {need}")["end"]
                assert all(phase["start"] >= ready for phase in own), (service["name"], need)


def test_every_endpoint_is_on_the_loopback_address(with_four_workers: Run) -> None:
    urls = [
        url
        for endpoints in with_four_workers.report["endpoints"].values()
        for url in endpoints.values()
    ]

    assert urls
    assert all("://127.0.0.1:" in url for url in urls)


@pytest.mark.parametrize("how", [("-n", "0"), ("-p", "no:xdist")], ids=["n0", "no-xdist"])
@pytest.mark.usefixtures("with_four_workers")
def test_its_tests_pass_in_one_process_with_unchanged_images(
    example: Path, how: tuple[str, ...]
) -> None:
    run = run_pytest(example, *how)

    assert run.exit_code == 0, run.output
    assert run.phases("build") == []
    assert left_behind(example) == []
