"""A test starts as soon as what it needs itself is there.

Whatever must not be waited for is held up by a gate that only the test opens which would wait:
with a wait too many, the run would come to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_tests_that_need_nothing_run_while_the_cluster_is_created(
    project: Project, workers: int | None
) -> None:
    project.behave("create", until="free")
    project.tests("""
        @pytest.mark.kindinfra
        def test_marked(): ...

        def test_free(): open_gate("free")
    """)

    run = project.run(workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 2}), run.text
    assert run.at("end test_free") < (run.call("create").end or 0) < run.at("start test_marked")


def test_the_order_of_collection_can_be_kept(project: Project) -> None:
    project.tests("""
        @pytest.mark.kindinfra
        def test_marked(): ...

        def test_free(): ...
    """)

    run = project.run("--kindinfra-order=collected")

    assert run.at("end test_marked") < run.at("start test_free")


def test_tests_that_need_nothing_keep_their_order_among_themselves(project: Project) -> None:
    project.tests("""
        @pytest.mark.kindinfra
        def test_a(): ...
        def test_b(): ...
        @pytest.mark.kindinfra
        def test_c(): ...
        def test_d(): ...
    """)

    run = project.run()

    order = [what for what, *_ in run.notes if what.startswith("start")]
    assert order == ["start test_b", "start test_d", "start test_a", "start test_c"]


def test_no_test_waits_for_what_only_another_needs(project: Project) -> None:
    project.service("unready")
    project.service("unbuilt", image=True)
    project.service("quick", image=True)
    project.behave("ready unready", until="quick")
    project.behave("build unbuilt", until="quick")
    project.tests("""
        @pytest.mark.kindinfra("quick")
        def test_quick(): open_gate("quick")

        @pytest.mark.kindinfra("unready")
        def test_unready(): ...

        @pytest.mark.kindinfra("unbuilt")
        def test_unbuilt(): ...
    """)

    run = project.run(workers=2)

    assert (run.code, run.outcomes) == (0, {"passed": 3}), run.text
    assert run.at("end test_quick") < run.at("ready unready") < run.at("start test_unready")
    assert run.at("end test_quick") < run.at("ready unbuilt") < run.at("start test_unbuilt")


def test_a_skipped_test_does_not_wait(project: Project) -> None:
    project.service("slow")
    project.behave("ready slow", until="bare")
    project.tests("""
        @pytest.mark.skip
        @pytest.mark.kindinfra("slow")
        def test_skipped(): ...

        @pytest.mark.skipif(True, reason="no")
        @pytest.mark.kindinfra("slow")
        def test_skipped_too(): ...

        @pytest.mark.kindinfra
        def test_bare(): open_gate("bare")

        @pytest.mark.kindinfra("slow")
        def test_slow(): ...
    """)

    run = project.run()

    assert (run.code, run.outcomes) == (0, {"passed": 2, "skipped": 2}), run.text


def test_tests_beside_it_with_warnings_as_errors_do_no_harm(project: Project) -> None:
    """Filters of warnings are set anew for each test, and imports in threads see that."""
    project.service("api", image=True)
    project.tests("""
        import time

        @pytest.mark.parametrize("number", range(500))
        def test_free(number): time.sleep(0.002)

        @pytest.mark.kindinfra("api")
        def test_api(): ...
    """)

    run = project.run("-W", "error", workers=None)

    assert (run.code, run.outcomes) == (0, {"passed": 501}), run.text
