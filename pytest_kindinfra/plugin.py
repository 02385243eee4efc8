"""What pytest calls. Each hook decides and hands on; the work is done elsewhere.

Loading this module costs a few milliseconds, since every pytest process pays for it: nothing
heavy is imported here, and nothing of ours that a run without marks does not need.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.session.options import add_options
from pytest_kindinfra.session.selection import MARK, all_needs, needs_last, needs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from docker import DockerClient

    from pytest_kindinfra.intests.changes import CurrentTest
    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.session.clients import Apply, Http
    from pytest_kindinfra.session.controller import Controller
    from pytest_kindinfra.session.fixtures import Exports, KindCluster, Once
    from pytest_kindinfra.session.heavy import TurnContext
    from pytest_kindinfra.session.options import Outline
    from pytest_kindinfra.session.waiting import Refusal
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.records import Needs


_TO_THE_END = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
"""Other exit codes are of runs that were ended before: `pytest.exit` takes any number."""


_CONTROLLER: pytest.StashKey[Controller] = pytest.StashKey()


_NODES: pytest.StashKey[list[Any]] = pytest.StashKey()


_RUN: pytest.StashKey[RunDirectory] = pytest.StashKey()


_INITIAL: pytest.StashKey[frozenset[str]] = pytest.StashKey()


_EXPORTS: pytest.StashKey[Exports] = pytest.StashKey()


_SINCE: pytest.StashKey[float] = pytest.StashKey()


_ASKED: pytest.StashKey[bool] = pytest.StashKey()
"""Whether a test needs the cluster that this process collected, or a worker of it."""


_AWAITED: pytest.StashKey[frozenset[str]] = pytest.StashKey()
"""The services that are ready for the test."""


_FAILED: pytest.StashKey[bool] = pytest.StashKey()
_WAITED: pytest.StashKey[float] = pytest.StashKey()


_CURRENT: pytest.StashKey[CurrentTest] = pytest.StashKey()
"""The test that runs, once its services were there."""


_REFUSED: pytest.StashKey[Refusal] = pytest.StashKey()
"""Why the test cannot run, found out before its setup."""


_STACK: pytest.StashKey[tuple[Stack, int]] = pytest.StashKey()
"""The stack of this process's tests, and the id of the process that made it."""


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
    if _wants_plan(config):
        from pytest_kindinfra.session.neighbours import start_no_workers

        start_no_workers(config)


@pytest.hookimpl(specname="pytest_cmdline_main", wrapper=True, tryfirst=True)
def pytest_cmdline_main_outermost(config: pytest.Config) -> Generator[None, object, object]:
    """End the run whatever interrupt came out of pytest's own end, and give the signals back.

    Here and not in the controller, which is registered in the course of this very hook.
    """
    try:
        return (yield)
    except KeyboardInterrupt:
        controller = config.stash.get(_CONTROLLER, None)
        if controller is None or not controller.end_cut_short():
            raise
        return pytest.ExitCode.INTERRUPTED
    finally:
        if controller := config.stash.get(_CONTROLLER, None):
            controller.give_signals_back()


def pytest_configure(config: pytest.Config) -> None:
    """Find out which process this is, and where the run's folder will be."""
    from pytest_kindinfra.session.selection import known_conftests
    from pytest_kindinfra.state.directory import RunDirectory

    config.addinivalue_line(
        "markers",
        f"{MARK}(*services): the services on the kind cluster that the test needs, with all that "
        "they need; without a name the bare cluster",
    )
    config.stash[_INITIAL] = known_conftests(config)
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput and "kindinfra_run" in workerinput:
        from pathlib import Path

        config.stash[_RUN] = RunDirectory(Path(workerinput["kindinfra_run"]))
        return
    from pytest_kindinfra.session.controller import new_controller
    from pytest_kindinfra.session.neighbours import warn_of_pytest_kind
    from pytest_kindinfra.session.reports import Reports

    warn_of_pytest_kind(config)
    _refuse_remote_workers(config)
    controller = new_controller(config, _outline(config))
    config.stash[_CONTROLLER] = controller
    config.pluginmanager.register(controller, "kindinfra-controller")
    config.stash[_RUN] = controller.run
    config.pluginmanager.register(Reports(config, controller.run), "kindinfra-reports")


@pytest.hookimpl(specname="pytest_configure", trylast=True)
def pytest_configure_last(config: pytest.Config) -> None:
    """Take note of what the provisioner is to be started with, before anybody changes it."""
    if controller := config.stash.get(_CONTROLLER, None):
        controller.note_surroundings()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the run's folder is."""
    node.config.stash.setdefault(_NODES, []).append(node)
    node.workerinput["kindinfra_run"] = str(node.config.stash[_RUN].path)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, Any, Any]:
    """Move tests that need nothing before those that wait, once all others have added marks."""
    result = yield
    needy = any(needs_of(item) is not None for item in items)
    if needy and _outline(config).settings.order == "needs-last":
        items[:] = needs_last(items)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Say what the selected tests need: before xdist's own hook tells the controller."""
    if not _will_run(session.config) or _stops_at_errors(session) or _wants_plan(session.config):
        return
    needs = _needs(session)
    session.config.stash[_ASKED] = needs is not None
    if needs:
        from pytest_kindinfra.session.heavy import begin

        begin(_surroundings(session.config), turns=needs.turns)
    if controller := session.config.stash.get(_CONTROLLER, None):
        if needs:
            controller.start(needs)
    elif needs:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "worker")
        session.config.stash[_RUN].ask(worker, needs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Show the plan instead of running tests, if that is wanted."""
    controller = session.config.stash.get(_CONTROLLER, None)
    if controller is None or _stops_at_errors(session) or not _wants_plan(session.config):
        return None
    controller.show_plan(_needs(session))
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """Read what a worker's tests need; a usage error raised here ends the run with code 4."""
    controller = node.config.stash[_CONTROLLER]
    if needs := controller.run.asked(node.gateway.id):
        try:
            controller.start(needs)
            from pytest_kindinfra.session.heavy import say_who_waits

            node.config.stash[_ASKED] = True
            say_who_waits(_surroundings(node.config), turns=needs.turns)
        except BaseException:
            # Workers that wait for tests would not notice, and cost xdist's ten seconds each run.
            for worker in node.config.stash[_NODES]:
                worker.shutdown()
            raise


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Once `-x` ends the run, let no test wait any more: xdist would wait for it."""
    from pytest_kindinfra.session.neighbours import stops_early

    if stops_early(node):
        node.config.stash[_CONTROLLER].end_waits()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Wait before pytest-timeout's clock starts: bringing up and turns are not the test's time."""
    if needs_of(item) is None:
        return (yield)
    from pytest_kindinfra.session.heavy import get_ready, give_back, is_heavy
    from pytest_kindinfra.session.neighbours import has_timeout

    heavy = is_heavy(item)
    if heavy or has_timeout(item):
        refusal = _await_services(item)
        if heavy and refusal is None:
            refusal = get_ready(item, _surroundings(item.config))
        if refusal is not None:
            item.stash[_REFUSED] = refusal
    try:
        return (yield)
    finally:
        give_back(item)


@pytest.hookimpl
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Wait for what the test needs; after skip marks, before its fixtures."""
    if _AWAITED in item.stash:  # of an earlier attempt
        del item.stash[_AWAITED]
        _repeat(item)
    _prepare(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Wait for what marks ask for that the test's fixtures have added."""
    needs, awaited = needs_of(item), item.stash.get(_AWAITED, None)
    if needs is not None and (awaited is None or not needs <= awaited):
        _prepare(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Undo what the test has changed of the stack, after its fixtures have ended."""
    try:
        return (yield)
    finally:
        _undo(item.config)
        if _CURRENT in item.config.stash:
            del item.config.stash[_CURRENT]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failed test's report what the stack's pods said and did since its start."""
    report = yield
    since = item.stash.get(_SINCE, None)
    if report.failed and since is not None:
        item.stash[_FAILED] = True
        settings = _outline(item.config).settings
        if settings.logs == "failed":
            from pytest_kindinfra.session.output import sections

            run, shared = item.config.stash[_RUN], settings.kubeconfig is not None
            report.sections += sections(item, run, since, shared=shared)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """End what this process began; with xdist all workers are done by now."""
    if session.config.stash.get(_ASKED, False):
        from pytest_kindinfra.session.heavy import end

        end(session.config)
    if controller := session.config.stash.get(_CONTROLLER, None):
        _undo_left(session.config)
        interrupted = exitstatus not in _TO_THE_END
        if controller.finish(failed=bool(session.testsfailed), interrupted=interrupted):
            session.exitstatus = pytest.ExitCode.INTERRUPTED


def pytest_unconfigure(config: pytest.Config) -> None:
    """End it here at the latest: a second interrupt cuts `pytest_sessionfinish` short."""
    if controller := config.stash.get(_CONTROLLER, None):
        controller.finish(failed=False, interrupted=True)
    if exports := config.stash.get(_EXPORTS, None):
        exports.restore()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which cluster and engine a run would use, and what is declared."""
    controller = config.stash.get(_CONTROLLER, None)
    return controller.header() if controller and _will_run(config) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show where the time went and what broke."""
    if controller := terminalreporter.config.stash.get(_CONTROLLER, None):
        controller.summarise(terminalreporter)
        if terminalreporter.config.stash.get(_ASKED, False):
            from pytest_kindinfra.session.heavy import show_waits

            show_waits(terminalreporter)


@pytest.fixture(scope="session")
def kindinfra(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """What the run brought up on the cluster: endpoints, credentials, namespace, images."""
    __tracebackhide__ = True
    from pytest_kindinfra.session.undoing import stack_of
    from pytest_kindinfra.session.waiting import await_cluster

    config = request.config
    refusal = await_cluster(
        config.stash[_RUN], asked=config.stash.get(_ASKED, False), meanwhile=_meanwhile(config)
    )
    if refusal:  # a test that could not say at collection that it needs the cluster
        _refuse(config, refusal)
    stack = stack_of(
        config.stash[_RUN],
        _outline(config).settings,
        folder=config.rootpath,
        current=lambda: config.stash.get(_CURRENT, None),
    )
    process = os.getpid()
    config.stash[_STACK] = stack, process
    yield stack
    if os.getpid() == process:  # a child that a test forked off shares connections with its parent
        try:
            _undo(config)
        finally:
            del config.stash[_STACK]
            stack.close()


@pytest.fixture(scope="session")
def kubeconfig(kindinfra: Stack) -> Path:
    """The file with the cluster's credentials."""
    return kindinfra.kubeconfig


@pytest.fixture(scope="session")
def kind_cluster(kindinfra: Stack, request: pytest.FixtureRequest) -> KindCluster:
    """The cluster under the names of pytest-kind: name, kubectl(), port_forward(), api."""
    from pytest_kindinfra.session.fixtures import KindCluster

    settings = _outline(request.config).settings
    return KindCluster(kindinfra, request.config.stash[_RUN], load=settings.load)


@pytest.fixture
def kindinfra_namespace(kindinfra: Stack, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace for one test, ready for pods; deleted afterwards, not waited for.

    It stays if the test failed and the cluster is kept then.
    """
    from pytest_kindinfra.session.fixtures import LABELS, fresh_name, make_namespace

    name, process = fresh_name(request.node.name), os.getpid()
    kube = make_namespace(kindinfra, name)
    yield name
    if os.getpid() != process:  # forked off by the test, whose namespace it is
        return
    failed = request.node.stash.get(_FAILED, False)
    if not failed or _outline(request.config).settings.keep == "never":
        kube.delete_namespace(name, LABELS)


@pytest.fixture
def kindinfra_apply(kindinfra: Stack) -> Apply:
    """`kindinfra_apply(objects_or_path)`: objects for one test, deleted when it ends."""
    from pytest_kindinfra.session.clients import Apply

    return Apply(kindinfra)


@pytest.fixture(scope="session")
def kindinfra_worker_namespace(kindinfra: Stack, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for the tests of this worker, ready for pods; deleted after the last of them.

    It stays if the cluster is always kept.
    """
    from pytest_kindinfra.session.fixtures import LABELS, fresh_name, make_namespace

    worker = os.environ.get("PYTEST_XDIST_WORKER", "tests")
    name, process = fresh_name(worker), os.getpid()
    kube = make_namespace(kindinfra, name)
    yield name
    if os.getpid() == process and _outline(request.config).settings.keep != "always":
        kube.delete_namespace(name, LABELS)


@pytest.fixture(scope="session")
def kindinfra_http(kindinfra: Stack) -> Iterator[Http]:
    """`kindinfra_http("web")`: an `httpx.Client` for an endpoint; closed with the session."""
    from pytest_kindinfra.session.clients import Http

    with Http(kindinfra) as clients:
        yield clients


@pytest.fixture(scope="session")
def kindinfra_docker(
    kindinfra: Stack,  # noqa: ARG001 - so that the cluster is there
    request: pytest.FixtureRequest,
) -> Iterator[DockerClient]:
    """A `docker.DockerClient` of the engine that has the kind nodes; skips with podman."""
    from contextlib import closing

    from pytest_kindinfra.session.clients import docker_client

    client = docker_client(request.config.stash[_RUN])
    if client is None:
        pytest.skip("kindinfra_docker: the engine of this run is podman")
    with closing(client):
        yield client


@pytest.fixture(scope="session")
def kindinfra_once(request: pytest.FixtureRequest) -> Once:
    """`kindinfra_once("key", produce)`: one call per run, its value or failure everywhere."""
    from pytest_kindinfra.session.fixtures import Once

    return Once(request.config.stash[_RUN])


def _prepare(item: pytest.Item) -> None:
    """Wait for what the test needs, then export the variables; else fail or skip the test."""
    refusal = item.stash.get(_REFUSED, None) or _await_services(item)
    _note_properties(item)
    if refusal:
        from pytest_kindinfra.session.neighbours import forbid_reruns

        forbid_reruns(item)  # what failed in a run is not tried again in it
        _refuse(item.config, refusal)
    if (needs := needs_of(item)) is not None:
        from pytest_kindinfra.intests.changes import CurrentTest
        from pytest_kindinfra.system.timeline import now

        item.stash[_AWAITED] = needs
        _export(item.config)
        item.stash[_SINCE] = now()
        item.config.stash[_CURRENT] = CurrentTest(name=item.nodeid, since=item.stash[_SINCE])


def _await_services(item: pytest.Item) -> Refusal | None:
    if (needs := needs_of(item)) is None:
        return None
    from pytest_kindinfra.session.waiting import await_services
    from pytest_kindinfra.system.timeline import monotonic

    config, began = item.config, monotonic()
    asked = config.stash.get(_ASKED, False)
    try:
        refusal = await_services(
            item, config.stash[_RUN], asked=asked, meanwhile=_meanwhile(config)
        )
    finally:
        item.stash[_WAITED] = item.stash.get(_WAITED, 0.0) + monotonic() - began
    return refusal or _lack(config, needs)


def _note_properties(item: pytest.Item) -> None:
    """Have JUnit's XML say which services the test needed, and how long it waited for them."""
    if (needs := needs_of(item)) is not None:
        from pytest_kindinfra.session.reports import note_properties

        note_properties(item, item.config.stash[_RUN], needs, item.stash.get(_WAITED, 0.0))


def _lack(config: pytest.Config, needs: frozenset[str]) -> Refusal | None:
    """Undo what killed workers have left; return why a service is not whole any more."""
    from pytest_kindinfra.session.undoing import has_changes, lack_of
    from pytest_kindinfra.session.waiting import Refusal

    run = config.stash[_RUN]
    text = lack_of(run, _outline(config).settings, needs) if has_changes(run) else ""
    return Refusal(text) if text else None


def _undo(config: pytest.Config) -> None:
    """Undo what the test has changed; in the process that changed it."""
    __tracebackhide__ = True
    stack, process = config.stash.get(_STACK, (None, 0))
    if stack is not None and os.getpid() == process:
        try:
            stack.undo_own()
        except KindInfraError as error:
            pytest.fail(str(error), pytrace=False)


def _undo_left(config: pytest.Config) -> None:
    """Undo what killed workers have left in a cluster that stays, or say what cannot be undone."""
    from pytest_kindinfra.session.output import write_line
    from pytest_kindinfra.session.undoing import undo_left

    for problem in undo_left(config.stash[_RUN], _outline(config).settings):
        write_line(config, f"kindinfra: {problem}")


def _repeat(item: pytest.Item) -> None:
    """Get a repeated attempt of a test ready as its mark says."""
    from pytest_kindinfra.session.heavy import get_ready_again

    if refusal := get_ready_again(item, _surroundings(item.config)):
        item.stash[_REFUSED] = refusal


def _surroundings(config: pytest.Config) -> TurnContext:
    from pytest_kindinfra.session.heavy import TurnContext

    return TurnContext(
        config=config,
        run=config.stash[_RUN],
        settings=_outline(config).settings,
        meanwhile=_meanwhile(config),
    )


def _meanwhile(config: pytest.Config) -> Callable[[], object]:
    """Return what is to be called again and again while a test waits."""
    controller = config.stash.get(_CONTROLLER, None)
    return controller.meanwhile if controller else lambda: None


def _refuse(config: pytest.Config, refusal: Refusal) -> NoReturn:
    """Fail the test that is being set up, or skip it for what is missing if that is wanted."""
    __tracebackhide__ = True
    if refusal.missing and _outline(config).settings.missing == "skip":
        pytest.skip(f"kindinfra: {refusal.missing}")
    pytest.fail(refusal.text, pytrace=False)


def _needs(session: pytest.Session) -> Needs | None:
    """Return what the selected tests need, with what is wrong about it."""
    from dataclasses import replace

    from pytest_kindinfra.session.selection import nested_hooks

    if (needs := all_needs(session.items)) is None:
        return None
    config = session.config
    problems = (*needs.problems, *nested_hooks(config, config.stash[_INITIAL]))
    return replace(needs, problems=problems)


def _export(config: pytest.Config) -> None:
    """Set the declared variables that are known by now."""
    exports = config.stash.get(_EXPORTS, None)
    if exports is None:
        from pytest_kindinfra.session.fixtures import Exports

        exports = config.stash[_EXPORTS] = Exports(config.stash[_RUN])
    exports.set_those_that_are_ready()


def _outline(config: pytest.Config) -> Outline:
    from pytest_kindinfra.session.options import look

    try:
        return look(config)
    except DeclarationError as error:
        raise pytest.UsageError(str(error)) from None


def _refuse_remote_workers(config: pytest.Config) -> None:
    """Refuse xdist workers on other machines: a lock on files says nothing to them."""
    from pytest_kindinfra.session.neighbours import remote_workers

    if words := remote_workers(config):
        msg = (
            f"kindinfra: {words}: workers must run on this machine, since they "
            "share files and a lock\nTo fix: use -n, or -p no:kindinfra"
        )
        raise pytest.UsageError(msg)


def _wants_plan(config: pytest.Config) -> bool:
    """Whether the plan is to be shown instead of running tests; then there are no workers."""
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
