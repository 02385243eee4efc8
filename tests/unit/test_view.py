"""A stack is a view of what the run has written, and says so where there is nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CancelledError, KindInfraError, NotReadyError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.model import BuiltImage, Endpoint
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.records import (
    ClusterReady,
    ImageLoaded,
    ImageReady,
    PlanMade,
    ServiceReady,
)
from pytest_kindinfra.state.results import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.state.directory import RunDirectory

API = Endpoint(service="api", name="api", scheme="http", host="127.0.0.1", port=4001)
METRICS = Endpoint(service="api", name="metrics", scheme="http", host="127.0.0.1", port=4002)


def failed(short: str) -> Failed:
    return Failed(short=short, full=short, root="")


def built(name: str, reference: str) -> BuiltImage:
    return BuiltImage(name=name, reference=reference, cached=False)


@pytest.fixture
def stack(run: RunDirectory) -> Iterator[Stack]:
    """A run that still goes on, whose service "api" is ready."""
    run.settle(PlanMade(services=("db", "api", "quiet", "late")))
    run.settle(ClusterReady(name="kind-1", kubeconfig=Path("/run/kubeconfig"), namespace="e2e"))
    run.settle(ServiceReady(endpoints=(API, METRICS)), "api")
    run.settle(ServiceReady(endpoints=()), "quiet")
    run.fail(ServiceReady, failed('service "db" failed to start: CrashLoopBackOff'), "db")
    run.write(ImageReady(image=built("api", "localhost/api:1f")), "api")
    lock = hold(run.provisioning)
    yield Stack(run)
    lock.release()


class TestEndpoints:
    def test_without_a_name_it_is_the_first_declared(self, stack: Stack) -> None:
        assert stack.url("api") == "http://127.0.0.1:4001"

    def test_by_name_it_is_that_one(self, stack: Stack) -> None:
        assert stack.url("api", "metrics") == "http://127.0.0.1:4002"
        assert stack.endpoint("api", "metrics") == METRICS

    def test_all_come_in_the_order_of_declaration(self, stack: Stack) -> None:
        assert stack.endpoints("api") == (API, METRICS)

    def test_a_service_that_no_test_needs_is_named_with_a_remedy(self, stack: Stack) -> None:
        with pytest.raises(KindInfraError) as caught:
            stack.url("apj")

        assert str(caught.value) == (
            'no selected test needs service "apj"; this run has: api, db, late, quiet\n'
            'To fix: mark the test with @pytest.mark.kindinfra("apj")'
        )

    def test_a_run_without_services_says_so(self, run: RunDirectory) -> None:
        run.settle(PlanMade(services=()))

        with pytest.raises(KindInfraError, match="this run has: none\n"):
            Stack(run).url("api")

    @pytest.mark.parametrize(
        ("service", "endpoint", "message"),
        [
            pytest.param(
                "api",
                "metric",
                'service "api" has no endpoint "metric"; declared: api, metrics',
                id="a wrong name",
            ),
            pytest.param(
                "quiet", None, 'service "quiet" has no endpoints; declared: none', id="none at all"
            ),
        ],
    )
    def test_an_undeclared_endpoint_is_named(
        self, service: str, endpoint: str | None, message: str, stack: Stack
    ) -> None:
        with pytest.raises(KindInfraError) as caught:
            stack.url(service, endpoint)

        assert str(caught.value) == message

    def test_a_failed_service_says_why(self, stack: Stack) -> None:
        with pytest.raises(NotReadyError, match=r'^service "db" failed to start: CrashLoop'):
            stack.url("db")


class TestWaiting:
    @pytest.mark.usefixtures("stack")
    def test_what_comes_later_is_waited_for(self, run: RunDirectory) -> None:
        later = threading.Timer(0.1, run.settle, (ServiceReady(endpoints=(API,)), "late"))
        later.start()

        assert Stack(run).url("late") == API.url
        later.join()

    def test_a_run_that_ends_ends_the_waiting(self, run: RunDirectory, stack: Stack) -> None:
        run.close()

        with pytest.raises(CancelledError):
            stack.url("late")

    @pytest.mark.usefixtures("stack")
    def test_in_a_hook_a_missing_service_is_an_error_at_once(self, run: RunDirectory) -> None:
        with pytest.raises(NotReadyError) as caught:
            Stack(run, waits=False).url("late")

        assert str(caught.value) == "service late: not deployed yet\nTo fix: add it to `needs`"

    @pytest.mark.usefixtures("stack")
    def test_a_hook_sees_what_is_there(self, run: RunDirectory) -> None:
        assert Stack(run, waits=False).url("api") == API.url

    def test_a_hook_sees_the_endpoints_just_proved(self, run: RunDirectory) -> None:
        assert Stack(run, waits=False, proved={"late": (API,)}).url("late") == API.url


class TestTheCluster:
    def test_it_is_as_the_run_says(self, stack: Stack) -> None:
        assert (stack.cluster, stack.namespace) == ("kind-1", "e2e")
        assert stack.kubeconfig == Path("/run/kubeconfig")

    def test_a_failed_one_says_why(self, run: RunDirectory) -> None:
        run.fail(ClusterReady, failed("the cluster failed to start: no space left"))

        with pytest.raises(NotReadyError, match=r"^the cluster failed to start: no space left$"):
            _ = Stack(run).namespace

    def test_images_are_those_built_so_far(self, run: RunDirectory, stack: Stack) -> None:
        assert stack.images == {"api": "localhost/api:1f"}

        run.write(ImageReady(image=built("db", "localhost/db:2e")), "db")

        assert stack.images == {"api": "localhost/api:1f", "db": "localhost/db:2e"}

    def test_an_image_that_went_through_a_registry_is_called_as_pods_call_it(
        self, run: RunDirectory, stack: Stack
    ) -> None:
        run.write(ImageLoaded(reference="localhost:5001/api:1f-2e3d"), "api")

        assert stack.images == {"api": "localhost:5001/api:1f-2e3d"}

    def test_what_was_never_asked_of_it_needs_no_closing(self, stack: Stack) -> None:
        stack.close()
