"""How a test waits for the services it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.names import declared_name
from pytest_kindinfra.state.records import ClusterReady, NodeLost, PlanMade, ServiceReady
from pytest_kindinfra.state.results import Failed, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_kindinfra.state.directory import RunDirectory


class Refusal(NamedTuple):
    """Why a test cannot run.

    Attributes:
        text: At most six lines, and where everything is kept.
        missing: What is not here, engine or kind, if that is the reason; one line.
    """

    text: str
    missing: str = ""


_NOT_BEGUN = Refusal(
    "no cluster was created, because no selected test seemed to need one at collection\n"
    "A fixture that is requested while a test runs (request.getfixturevalue, a lazy fixture, a "
    "pytest-bdd step), or a mark that is added then, is not known at collection.\n"
    "To fix: mark the test with @pytest.mark.kindinfra, or @pytest.mark.kindinfra(SERVICE) for a "
    "service"
)


def await_services(
    needs: Iterable[str],
    run: RunDirectory,
    *,
    asked: bool,
    meanwhile: Callable[[], object],
    worker: str = "",
) -> Refusal | None:
    """Wait until all that a test needs is ready.

    Args:
        needs: The services; none means the bare cluster.
        run: Where results appear.
        asked: Whether this process asked for the cluster when it had collected its tests.
        meanwhile: Called again and again while waiting.
        worker: Whose copies of services per worker the test has; empty without xdist.

    Returns:
        None, or why the test cannot run.
    """
    try:
        return _not_requested(run, needs, asked=asked) or _await(run, needs, meanwhile, worker)
    except KindInfraError as error:
        return Refusal(str(error))


def _not_requested(run: RunDirectory, needs: Iterable[str], *, asked: bool) -> Refusal | None:
    """Return why nothing would ever come: the run began without knowing of these needs."""
    plan = run.settled(PlanMade)
    if not isinstance(plan, PlanMade):
        return None if asked else _NOT_BEGUN
    if unknown := sorted(set(needs) - {*plan.services, *map(declared_name, plan.services)}):
        marks = ", ".join(f'"{name}"' for name in unknown)
        text = (
            f"this run does not start {marks}: no selected test seemed to need it at collection; "
            f"it has: {', '.join(sorted(plan.services)) or 'none'}\n"
            "A mark that is added while a test runs is not known at collection.\n"
            f"To fix: mark the test with @pytest.mark.kindinfra({marks}), or add the mark in "
            "pytest_collection_modifyitems"
        )
        return Refusal(text)
    return None


def _await(
    run: RunDirectory,
    services: Iterable[str],
    meanwhile: Callable[[], object],
    worker: str = "",
) -> Refusal | None:
    """Wait for the cluster, then for services; return the first failure.

    Args:
        run: Where results appear.
        services: As marks name them.
        meanwhile: Called again and again while waiting.
        worker: Whose copies of services per worker are meant; empty without xdist.
    """
    results: list[tuple[type[Result], str]] = [
        (ClusterReady, ""),
        *((ServiceReady, name) for name in sorted(services)),
    ]
    for kind, declared in results:
        name = declared
        if declared and worker:
            plan = run.wait_for(PlanMade, meanwhile=meanwhile)
            name = plan.own(declared, worker) if isinstance(plan, PlanMade) else declared
        result = run.wait_for(kind, name, meanwhile=meanwhile)
        if isinstance(result, Failed):
            return _refusal(result, run)
    # Asked last: a result from before the cluster was lost does not help any more.
    lost = run.settled(NodeLost)
    return _refusal(lost, run) if lost else None


def _refusal(failure: Failed, run: RunDirectory) -> Refusal:
    missing = failure.full.splitlines()[0] if failure.missing else ""
    return Refusal(f"{failure.short}\nlogs and details: {run.path}", missing)
