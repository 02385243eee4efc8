"""Commands in pods and their logs, as the stack gives them to tests; on a fake API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import ClusterError, KindInfraError, NotReadyError
from pytest_kindinfra.intests.pods import ExecError, ExecResult

if TYPE_CHECKING:
    from pytest_kindinfra.intests.stack import Stack
    from tests.fake_kubernetes import FakeKubernetes


def test_a_command_gives_exit_code_and_both_streams(stack: Stack, fake: FakeKubernetes) -> None:
    fake.execs = lambda _pod, command, _stdin: (3, " ".join(command), "oh")

    done = stack.exec("web", ["ls", "/x y"])

    assert done == ExecResult(3, "ls /x y", "oh")


def test_a_command_reads_standard_input_to_its_end(stack: Stack, fake: FakeKubernetes) -> None:
    fake.execs = lambda _pod, _command, stdin: (0, str(len(stdin)), "")

    assert stack.exec("web", ["wc"], input="ä" * 100_000).stdout == "200000"
    assert stack.exec("web", ["wc"], input=b"").stdout == "0"


def test_it_runs_in_a_ready_pod(stack: Stack, fake: FakeKubernetes) -> None:
    fake.execs = lambda pod, *_: (0, pod, "")
    (pod,) = fake.pods_of("web")

    assert stack.exec("web", ["true"]).stdout == pod["metadata"]["name"]


def test_a_wrong_container_is_named_and_the_command_is_not(stack: Stack) -> None:
    """The message used to have the whole request, with the words of the command."""
    with pytest.raises(KindInfraError) as caught:
        stack.exec("web", ["psql", "postgres://u:s3cret@db"], container="mian")

    assert str(caught.value).endswith('has no container "mian"; did you mean "main"?')
    assert "s3cret" not in str(caught.value)


def test_a_request_that_is_refused_shows_no_words_of_the_command(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        msg = "Handshake status 403 Forbidden"
        raise OSError(msg)

    monkeypatch.setattr("kubernetes.stream.ws_client.create_websocket", refuse)

    with pytest.raises(ClusterError) as caught:
        stack.exec("web", ["psql", "postgres://u:s3cret@db"])

    assert str(caught.value).endswith("/exec: Handshake status 403 Forbidden")


def test_a_checked_failure_shows_command_pod_and_streams(
    stack: Stack, fake: FakeKubernetes
) -> None:
    fake.execs = lambda *_: (2, "half of it\n", "no such table\n")
    (pod,) = fake.pods_of("web")

    with pytest.raises(ExecError) as caught:
        stack.exec("web", ["psql", "-c", "select 1"], check=True)

    assert str(caught.value) == (
        f'a command in service "web" failed: exit code 2 (pod "{pod["metadata"]["name"]}", '
        'container "main")\n'
        "  $ psql -c 'select 1'\n"
        "  stdout:\n    half of it\n"
        "  stderr:\n    no such table"
    )
    error = caught.value
    assert (error.exit_code, error.stdout, error.stderr) == (2, "half of it\n", "no such table\n")


def test_a_failure_shows_no_secrets(stack: Stack, fake: FakeKubernetes) -> None:
    fake.execs = lambda *_: (2, "", "Authorization: Bearer 0123456789abcdef0123\n")

    with pytest.raises(ExecError) as caught:
        stack.exec("web", ["curl", "--token=0123456789abcdef0123"], check=True)

    assert "0123456789abcdef" not in str(caught.value)


def test_what_an_assertion_shows_of_a_result_has_no_secrets_and_an_end() -> None:
    result = ExecResult(0, "token: 0123456789abcdef0123\n" + "line\n" * 10_000, "")

    assert "0123456789abcdef" not in repr(result)
    assert len(repr(result)) < 500


def test_a_command_that_does_not_end_is_given_up(stack: Stack, fake: FakeKubernetes) -> None:
    fake.execs = lambda *_: (-1, "so far\n", "")

    with pytest.raises(ExecError, match=r"did not end within 0\.3 s \(timeout\)") as caught:
        stack.exec("web", ["sleep", "60"], timeout=0.3)

    assert (caught.value.exit_code, caught.value.stdout) == (None, "so far\n")


def test_without_a_ready_pod_it_says_what_there_is(stack: Stack, fake: FakeKubernetes) -> None:
    (pod,) = fake.pods_of("web")
    pod["status"]["conditions"] = []
    fake.put(pod)

    with pytest.raises(NotReadyError) as caught:
        stack.exec("web", ["true"], timeout=0.1)

    name = pod["metadata"]["name"]
    text = f'service "web" has no ready pod within 0.1 s (timeout): {name} is Running'
    assert str(caught.value) == text


def test_a_connection_that_breaks_off_is_an_error_and_no_second_command(
    stack: Stack, fake: FakeKubernetes
) -> None:
    commands = []

    def break_off(_pod: str, command: list[str], _stdin: bytes) -> tuple[int, str, str]:
        commands.append(command)
        fake.hang_up()
        return 0, "", ""

    fake.execs = break_off

    with pytest.raises(ExecError, match="broke off before the command ended: it may go on"):
        stack.exec("web", ["psql", "-c", "insert"])

    assert len(commands) == 1


def test_a_text_is_no_command(stack: Stack) -> None:
    with pytest.raises(TypeError, match=r'write \["sh", "-c", \.\.\.\]'):
        stack.exec("web", "ls -l")


def test_a_connection_that_cannot_be_made_at_once_is_tried_again(
    stack: Stack, fake: FakeKubernetes
) -> None:
    fake.fail("GET", "/exec", 0, times=2)

    assert stack.exec("web", ["true"]).exit_code == 0


def test_logs_are_those_since_the_test_began(stack: Stack, fake: FakeKubernetes) -> None:
    fake.logs["web"] = "2000-01-01T00:00:00.000000Z of old\njust now"

    assert stack.logs("web") == "just now\n"
    assert stack.logs("web", since=0) == "of old\njust now\n"
    assert stack.logs("web", previous=True) == "of old\njust now\n"


def test_a_moment_without_a_time_zone_is_refused(stack: Stack) -> None:
    from datetime import datetime

    with pytest.raises(TypeError, match="a datetime with a time zone"):
        stack.logs("web", since=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the mistake
