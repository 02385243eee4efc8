"""What pods said and did since a moment: no more than that, and not too much of it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.kube.activity import (
    KEPT,
    LEFT_OUT,
    SHOWN,
    Happening,
    Moment,
    happenings,
    said_since,
    shown,
)
from pytest_kindinfra.system.timeline import Deadline
from tests.unit.kube.objects import workload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.kube.cluster import Kube
    from tests.fake_kubernetes import FakeKubernetes


def moment(text: str) -> Moment:
    return Moment(datetime.fromisoformat(text).timestamp())


NOON = moment("2030-01-01T12:00:00.500+00:00")


def timed(lines: Iterable[str]) -> str:
    return "".join(f"2030-01-01T12:00:01.000000001Z {line}\n" for line in lines)


def kept(kube: Kube, name: str, since: Moment = NOON, seconds: float = 9) -> list[Happening]:
    pods = [pod for pod in kube.list_("/api/v1/pods") if name in str(pod)]
    return list(
        happenings(
            kube, pods, since, redact=lambda text: text.replace("secret", "***"),
            deadline=Deadline.after(seconds),
        )
    )  # fmt: skip


def told(kube: Kube, name: str, since: Moment = NOON, seconds: float = 9) -> dict[str, str]:
    return dict(shown(kept(kube, name, since, seconds)))


@pytest.mark.parametrize(
    ("text", "later"),
    [
        ("2030-01-01T12:00:00.500000000Z", True),
        ("2030-01-01T12:00:00.499999999Z", False),
        ("2030-01-01T12:00:01.123456789Z", True),
        ("2030-01-01T12:00:00Z", True),  # to the second: it may be later
        ("2030-01-01T11:59:59Z", False),
        ("2030-01-01T14:00:01+02:00", True),
        ("", False),
        ("not a time", False),
    ],
)
def test_a_time_is_before_or_after(text: str, *, later: bool) -> None:
    assert NOON.is_before(text) == later


def test_a_moment_is_asked_for_in_whole_seconds() -> None:
    assert str(NOON) == "2030-01-01T12:00:00Z"


def test_lines_without_a_time_or_of_an_older_one_are_left_out() -> None:
    log = "rest of a line\n2030-01-01T12:00:00.4Z old\n2030-01-01T12:00:00.6Z new\n"

    assert said_since(log, NOON) == ["new"]


@pytest.fixture
def api(kube: Kube, fake: FakeKubernetes, soon: Deadline) -> None:
    fake.ready_after = 0
    kube.apply(workload(), namespace="default", deadline=soon)
    kube.wait_ready([workload()], namespace="default", deadline=soon, restarts=0, settle=0)


@pytest.mark.usefixtures("api")
def test_a_restart_an_event_and_both_logs_are_told(kube: Kube, fake: FakeKubernetes) -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2030-01-01T12:00:02Z"}
    [pod] = fake.pods_of("api")
    [status] = pod["status"]["containerStatuses"]
    status |= {"restartCount": 1, "lastState": {"terminated": ended}}
    event = fake.event(pod, "Unhealthy", "probe\n failed: secret")
    event["lastTimestamp"] = "2030-01-01T12:00:01Z"
    event["involvedObject"]["kind"] = "Pod"
    fake.event(pod, "Old", "long ago")
    fake.logs["api"] = "2030-01-01T12:00:01Z the secret\n"

    assert told(kube, "api-1-0") == {
        "restarts": "2030-01-01T12:00:02Z api-1-0/main: OOMKilled, exit code 137 "
        "(restarts so far: 1)",
        "events": "2030-01-01T12:00:01Z Warning Unhealthy Pod/api-1-0: probe failed: ***",
        "log of api-1-0/main, before its restart": "the ***",
        "log of api-1-0/main": "the ***",
    }
    assert told(kube, "api-1-0", since=Moment(NOON.at + 60)) == {}


@pytest.mark.usefixtures("api")
def test_a_container_that_failed_is_told_before_it_is_started_again(
    kube: Kube, fake: FakeKubernetes
) -> None:
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": "2030-01-01T12:00:02Z"}
    [pod] = fake.pods_of("api")
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": ended}
    fake.logs["api"] = timed(["bad password"])

    assert told(kube, "api-1-0") == {
        "restarts": "2030-01-01T12:00:02Z api-1-0/main: Error, exit code 1 (restarts so far: 0)",
        "log of api-1-0/main": "bad password",
    }


@pytest.mark.usefixtures("api")
def test_a_container_that_did_its_work_is_no_news(kube: Kube, fake: FakeKubernetes) -> None:
    ended = {"exitCode": 0, "reason": "Completed", "finishedAt": "2030-01-01T12:00:02Z"}
    [pod] = fake.pods_of("api")
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": ended}

    assert told(kube, "api-1-0") == {}


@pytest.mark.usefixtures("api")
def test_a_long_log_is_told_by_its_end(kube: Kube, fake: FakeKubernetes) -> None:
    fake.logs["api"] = timed(f"{number}" for number in range(SHOWN.lines * 2))

    lines = told(kube, "api-1-0")["log of api-1-0/main"].splitlines()

    assert lines == [LEFT_OUT, *(str(number) for number in range(SHOWN.lines, SHOWN.lines * 2))]


@pytest.mark.usefixtures("api")
def test_a_log_of_long_lines_is_bounded_in_bytes(kube: Kube, fake: FakeKubernetes) -> None:
    fake.logs["api"] = timed("x" * 5000 for _ in range(40))

    log = told(kube, "api-1-0")["log of api-1-0/main"]

    assert log.startswith(LEFT_OUT)
    assert SHOWN.log_bytes / 2 < len(log) <= SHOWN.log_bytes + len(LEFT_OUT)


@pytest.mark.usefixtures("api")
def test_files_have_more_of_a_log_than_reports(kube: Kube, fake: FakeKubernetes) -> None:
    fake.logs["api"] = timed(f"{number}" for number in range(KEPT.lines * 2))

    (log,) = kept(kube, "api-1-0")

    assert (log.pod, log.container) == (("default", "api-1-0"), "main")
    assert len(log.text.splitlines()) == KEPT.lines + 1
    assert log.text.endswith(f"\n{KEPT.lines * 2 - 1}")


def test_all_logs_together_are_bounded(kube: Kube, fake: FakeKubernetes, soon: Deadline) -> None:
    fake.ready_after = 0
    many = workload(replicas=40)
    kube.apply(many, namespace="default", deadline=soon)
    kube.wait_ready([many], namespace="default", deadline=soon, restarts=0, settle=0)
    fake.logs["api"] = timed("x" * 300 for _ in range(40))

    found = told(kube, "api-1-")

    assert found["logs"] == LEFT_OUT
    assert SHOWN.all_bytes < sum(map(len, found.values())) < SHOWN.all_bytes * 1.2


@pytest.mark.usefixtures("api")
def test_nothing_is_asked_when_the_time_is_up(kube: Kube, fake: FakeKubernetes) -> None:
    fake.logs["api"] = "something"

    assert told(kube, "api-1-0", seconds=0) == {"logs": LEFT_OUT}
