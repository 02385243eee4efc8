"""pytest-randomly: tests are shuffled, and those that need nothing still come first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

# Were a worker to begin with tests that need the cluster, nobody would let it be created.
TESTS = """
@pytest.mark.parametrize("number", range(8))
def test_free(number): open_gate("free")

@pytest.mark.parametrize("number", range(8))
def test_needy(number, kindinfra_namespace):
    note("in " + kindinfra_namespace)
"""


def order_of(run: Run) -> list[str]:
    return [what.removeprefix("start ") for what, *_ in run.notes if what.startswith("start ")]


def shuffled(project: Project, *how: str, workers: int | None) -> Run:
    project.behave("create", until="free")
    project.tests(TESTS)
    return project.run("-p", "randomly", *how, workers=workers)


def test_a_seed_shuffles_both_groups_and_leaves_them_apart(project: Project) -> None:
    run = shuffled(project, "--randomly-seed=7", workers=None)

    free, needy = order_of(run)[:8], order_of(run)[8:]
    assert (run.code, run.outcomes) == (0, {"passed": 16}), run.text
    assert sorted(free) == [f"test_free[{number}]" for number in range(8)] != free
    assert sorted(needy) == [f"test_needy[{number}]" for number in range(8)] != needy


def test_workers_collect_alike_and_none_waits_forever(project: Project) -> None:
    run = shuffled(project, workers=2)

    assert (run.code, run.outcomes) == (0, {"passed": 16}), run.text
    assert len(run.calls("create")) == len(run.calls("delete")) == 1
    # The seed is the same everywhere; what we name by chance must not be drawn from it.
    assert len({what for what, *_ in run.notes if what.startswith("in ")}) == 8
