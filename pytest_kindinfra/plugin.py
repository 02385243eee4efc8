"""What pytest calls. Each hook decides and hands on; the work is done elsewhere.

Loading this module costs a few milliseconds, since every pytest process pays for it: nothing
heavy is imported here, and no module of the package that a run without marks does not need.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.session.given import (  # noqa: F401 - pytest finds fixtures here
    kind_cluster,
    kindinfra,
    kindinfra_apply,
    kindinfra_docker,
    kindinfra_http,
    kindinfra_namespace,
    kindinfra_once,
    kindinfra_worker_namespace,
    kubeconfig,
)
from pytest_kindinfra.session.options import add_options
from pytest_kindinfra.session.selection import MARK, all_needs, needs_last, needs_of
from pytest_kindinfra.session.stash import (
    ASKED,
    AWAITED,
    CONTROLLER,
    CURRENT,
    EXPORTS,
    FAILED,
    RUN,
    SINCE,
    WORKER,
    outline,
    run_of,
    undo,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.records import Needs


_TO_THE_END = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
"""Other exit codes are of runs that were ended before: `pytest.exit` takes any number."""


_NODES: pytest.StashKey[list[Any]] = pytest.StashKey()


_INITIAL: pytest.StashKey[frozenset[str]] = pytest.StashKey()


_PLAN: pytest.StashKey[bool] = pytest.StashKey()
"""Whether the plan is to be shown instead of running tests; not there in a worker."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Make our hooks known."""
    from pytest_kindinfra import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Collect in this process if only the plan is wanted; after xdist has read its options."""
    if _reads_plan_option(config):
        config.stash[_PLAN] = True
        from pytest_kindinfra.session.neighbours import start_no_workers
        from pytest_kindinfra.session.workers import workers_of

        workers_of(config).plan(start_no_workers(config))


@pytest.hookimpl(specname="pytest_cmdline_main", wrapper=True, tryfirst=True)
def pytest_cmdline_main_outermost(config: pytest.Config) -> Generator[None, object, object]:
    """End the run whatever interrupt came out of pytest's own end, and give the signals back.

    Here and not in the controller, which is registered in the course of this very hook.
    """
    try:
        return (yield)
    except KeyboardInterrupt:
        controller = config.stash.get(CONTROLLER, None)
        if controller is None or not controller.end_cut_short():
            raise
        return pytest.ExitCode.INTERRUPTED
    finally:
        if controller := config.stash.get(CONTROLLER, None):
            controller.give_signals_back()


def pytest_configure(config: pytest.Config) -> None:
    """Find out which process this is, and where the run's folder will be."""
    from pytest_kindinfra.session.options import known_conftests

    config.addinivalue_line(
        "markers",
        f"{MARK}(*services): the services on the kind cluster that the test needs, with all that "
        "they need; without a name the bare cluster",
    )
    config.stash[_INITIAL] = known_conftests(config)
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput and "kindinfra_run" in workerinput:
        config.stash[RUN] = _existing_run(workerinput["kindinfra_run"])
        config.stash[WORKER] = workerinput["kindinfra_worker"]
        _set_up_pause(config, outline(config).settings)
        return
    from pytest_kindinfra.session.controller import new_controller
    from pytest_kindinfra.session.neighbours import check_neighbours

    check_neighbours(config)
    first = outline(config)
    controller = new_controller(config, first)
    config.stash[CONTROLLER] = controller
    config.pluginmanager.register(controller, "kindinfra-controller")
    config.stash[RUN] = lambda: controller.run
    _set_up_pause(config, first.settings)


def _existing_run(path: str) -> Callable[[], RunDirectory]:
    """Return what gives the run directory that another process made."""

    def run() -> RunDirectory:
        from pathlib import Path

        from pytest_kindinfra.state.directory import RunDirectory

        return RunDirectory(Path(path))

    return run


def _set_up_pause(config: pytest.Config, settings: Settings) -> None:
    if settings.pause:
        from pytest_kindinfra.session.pause import set_up_pause

        set_up_pause(config)


@pytest.hookimpl(specname="pytest_configure", trylast=True)
def pytest_configure_last(config: pytest.Config) -> None:
    """Take note of what the provisioner is to be started with, before it is changed."""
    if controller := config.stash.get(CONTROLLER, None):
        controller.note_surroundings()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the run's folder is, and whose copies of services it has."""
    from pytest_kindinfra.session.workers import workers_of

    node.config.stash.setdefault(_NODES, []).append(node)
    node.workerinput["kindinfra_run"] = str(node.config.stash[CONTROLLER].path)
    node.workerinput["kindinfra_worker"] = workers_of(node.config).begin(node.gateway.id)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, Any, Any]:
    """Move tests that need nothing before those that wait, once all others have added marks."""
    result = yield
    needy = any(needs_of(item) is not None for item in items)
    if needy and outline(config).settings.order == "needs-last":
        items[:] = needs_last(items)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Say what the selected tests need: before xdist's own hook tells the controller."""
    if not _will_run(session.config) or _stops_at_errors(session) or _wants_plan(session.config):
        return
    needs = _needs(session)
    session.config.stash[ASKED] = needs is not None
    if needs:
        from pytest_kindinfra.session.heavy import begin, turn_context

        begin(turn_context(session.config), turns=needs.turns)
    if controller := session.config.stash.get(CONTROLLER, None):
        if needs:
            controller.start(needs)
    elif needs:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "worker")
        run_of(session.config).ask(worker, needs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Show the plan instead of running tests, if that is wanted."""
    controller = session.config.stash.get(CONTROLLER, None)
    if controller is None or _stops_at_errors(session) or not _wants_plan(session.config):
        return None
    controller.show_plan(_needs(session))
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """Read what a worker's tests need; a usage error raised here ends the run with code 4."""
    controller = node.config.stash[CONTROLLER]
    if needs := controller.run.asked(node.gateway.id):
        try:
            controller.start(needs)
            from pytest_kindinfra.session.heavy import say_who_waits, turn_context

            node.config.stash[ASKED] = True
            say_who_waits(turn_context(node.config), turns=needs.turns)
        except BaseException:
            # Workers that wait for tests would not notice, and cost xdist's ten seconds each run.
            for worker in node.config.stash[_NODES]:
                worker.shutdown()
            raise


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Once `-x` ends the run, let no test wait any more: xdist would wait for it."""
    from pytest_kindinfra.session.neighbours import stops_early
    from pytest_kindinfra.session.workers import workers_of

    workers_of(node.config).end(node.gateway.id)
    if stops_early(node):
        node.config.stash[CONTROLLER].end_waits()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Wait before pytest-timeout's clock starts: bringing up and turns are not the test's time."""
    if (needs := needs_of(item)) is None:
        return (yield)
    from pytest_kindinfra.session.heavy import give_back
    from pytest_kindinfra.session.preparation import wait_early

    try:
        wait_early(item, needs)
        return (yield)
    finally:
        give_back(item)


@pytest.hookimpl
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Wait for what the test needs; after skip marks, before its fixtures."""
    if (needs := needs_of(item)) is not None:
        from pytest_kindinfra.session.preparation import prepare

        prepare(item, needs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Wait for what marks ask for that the test's fixtures have added."""
    needs, awaited = needs_of(item), item.stash.get(AWAITED, None)
    if needs is not None and (awaited is None or not needs <= awaited):
        from pytest_kindinfra.session.preparation import prepare_further

        prepare_further(item, needs)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Undo what the test has changed of the stack, after its fixtures have ended."""
    try:
        return (yield)
    finally:
        undo(item.config)
        if CURRENT in item.config.stash:
            del item.config.stash[CURRENT]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what the stack's pods said and did since a failed test's start; show some of it."""
    report = yield
    since = item.stash.get(SINCE, None)
    if report.failed and since is not None:
        item.stash[FAILED] = True
        settings = outline(item.config).settings
        if settings.logs == "failed":
            from pytest_kindinfra.session.attempts import keep_failure

            run, shared = run_of(item.config), settings.kubeconfig is not None
            worker = item.config.stash.get(WORKER, "")
            keep_failure(item, report, run, since, shared=shared, worker=worker)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """End what this process began; with xdist all workers are done by now."""
    controller = session.config.stash.get(CONTROLLER, None)
    failed, interrupted = bool(session.testsfailed), exitstatus not in _TO_THE_END
    try:
        if session.config.stash.get(ASKED, False):
            _end_tests(session.config, failed=failed, interrupted=interrupted)
    finally:  # whatever it meets, the run ends with what is known of its tests
        if controller and controller.finish(failed=failed, interrupted=interrupted):
            session.exitstatus = pytest.ExitCode.INTERRUPTED


def _end_tests(config: pytest.Config, *, failed: bool, interrupted: bool) -> None:
    """Give turns back, and undo in the main process what killed workers have left."""
    from pytest_kindinfra.session.heavy import end
    from pytest_kindinfra.session.undoing import undo_left

    end(config)
    if config.stash.get(CONTROLLER, None):
        undo_left(config, failed=failed, interrupted=interrupted)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End it here at the latest: a second interrupt cuts `pytest_sessionfinish` short."""
    if controller := config.stash.get(CONTROLLER, None):
        controller.finish(failed=False, interrupted=True)
    if exports := config.stash.get(EXPORTS, None):
        exports.restore()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which cluster and engine a run would use, and what is declared."""
    controller = config.stash.get(CONTROLLER, None)
    return controller.header() if controller and _will_run(config) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show where the time went and what broke."""
    if controller := terminalreporter.config.stash.get(CONTROLLER, None):
        controller.summarise(terminalreporter)
        if terminalreporter.config.stash.get(ASKED, False):
            from pytest_kindinfra.session.heavy import show_waits

            show_waits(terminalreporter)


def _needs(session: pytest.Session) -> Needs | None:
    """Return what the selected tests need, with what is wrong about it."""
    from dataclasses import replace

    from pytest_kindinfra.session.options import nested_hooks

    if (needs := all_needs(session.items)) is None:
        return None
    config = session.config
    problems = (*needs.problems, *nested_hooks(config, config.stash[_INITIAL]))
    return replace(needs, problems=problems)


def _wants_plan(config: pytest.Config) -> bool:
    """Whether the plan is to be shown instead of running tests; then there are no workers."""
    return config.stash.get(_PLAN, False)


def _reads_plan_option(config: pytest.Config) -> bool:
    if hasattr(config, "workerinput"):
        return False
    from pytest_kindinfra.session.options import look

    try:
        return look(config).settings.plan
    except DeclarationError:
        return False  # reported by `pytest_configure`


def _stops_at_errors(session: pytest.Session) -> bool:
    """Whether pytest is going to stop, since a module could not be collected."""
    return bool(session.testsfailed) and not session.config.option.continue_on_collection_errors


def _will_run(config: pytest.Config) -> bool:
    """Whether tests are going to run, rather than be listed."""
    option = config.option
    listing = (option.showfixtures, option.show_fixtures_per_test)
    return not (option.collectonly or option.setupplan or any(listing))
