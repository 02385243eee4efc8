"""Programs are run as real children: what they print, how they end, and that none is left."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import CancelledError, CommandError, ToolMissingError
from pytest_kindinfra.system import programs as children
from pytest_kindinfra.system.pipes import written_redacted
from pytest_kindinfra.system.programs import which
from pytest_kindinfra.system.runner import Background, Runner, check_output
from pytest_kindinfra.system.secrets import Redactor
from pytest_kindinfra.system.timeline import Deadline, monotonic
from tests.fakes import DeadlineWhen, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.system.pipes import Copy, Sink

runner = Runner()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill soon what does not end when asked."""
    monkeypatch.setattr(children, "GRACE", 0.1)


def sh(script: str, *args: object) -> list[str]:
    """Return the command that runs a shell script with `$1`, `$2`, ..."""
    return ["sh", "-c", script, "sh", *map(str, args)]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def runs(pid: str | int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class TestRun:
    def test_both_streams_come_back_apart(self, soon: Deadline) -> None:
        result = runner.run(sh("echo out; echo err >&2"), deadline=soon)

        assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)

    @pytest.mark.parametrize(
        "word", ["two words", "'; echo injected; '", "$(echo injected)", "*", "", "ä\n"]
    )
    def test_words_reach_the_program_as_they_are(self, word: str, soon: Deadline) -> None:
        assert runner.run(["printf", "<%s>", word], deadline=soon).stdout == f"<{word}>"

    def test_a_program_gets_no_input(self, soon: Deadline) -> None:
        assert runner.run(["cat"], deadline=soon).stdout == ""

    def test_a_program_reads_what_it_is_given(self, soon: Deadline) -> None:
        assert runner.run(["cat"], deadline=soon, given="hüb\n" * 9999).stdout == "hüb\n" * 9999

    def test_its_environment_is_ours_with_additions(
        self, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OURS", "1")

        result = runner.run(sh('echo "$OURS $ADDED"'), deadline=soon, env={"ADDED": "2"})

        assert result.stdout == "1 2\n"
        assert "ADDED" not in os.environ

    def test_it_runs_in_the_folder_that_is_asked_for(self, soon: Deadline, tmp_path: Path) -> None:
        assert runner.run(["pwd", "-P"], deadline=soon, cwd=tmp_path).stdout == f"{tmp_path}\n"

    def test_output_that_is_no_text_does_no_harm(self, soon: Deadline) -> None:
        assert runner.run(["printf", r"a\377b"], deadline=soon).stdout == "a\ufffdb"

    def test_more_output_than_a_pipe_holds_blocks_nothing(self, soon: Deadline) -> None:
        result = runner.run(sh("seq 100000; seq 100000 >&2"), deadline=soon)

        assert result.stdout == result.stderr
        assert result.stdout.endswith("\n100000\n")

    def test_another_exit_code_may_be_allowed(self, soon: Deadline) -> None:
        assert runner.run(sh("echo no; exit 3"), deadline=soon, check=False).exit_code == 3

    def test_a_program_has_a_process_group_of_its_own(self, soon: Deadline) -> None:
        """Or Ctrl-C in the terminal would end `kind delete` along with pytest."""
        group = runner.run(sh("cut -d' ' -f5 /proc/$$/stat; echo $$"), deadline=soon)

        of_child, child = map(int, group.stdout.split())
        assert of_child == child != os.getpgrp()

    def test_ctrl_c_reaches_python_and_ends_the_program(self, tmp_path: Path) -> None:
        """The wait runs in the main thread of plain pytest runs too."""
        script = (
            "import sys; from pytest_kindinfra.system.runner import Runner\n"
            "from pytest_kindinfra.system.timeline import Deadline\n"
            "Runner().run(['sh', '-c', 'echo $$ > \"$1\"; exec sleep 60', 'sh',"
            " sys.argv[1]], deadline=Deadline.after(60))"
        )
        pid_file = tmp_path / "pid"
        with subprocess.Popen(
            [sys.executable, "-c", script, str(pid_file)], stderr=subprocess.PIPE
        ) as parent:
            assert eventually(lambda: lines_of(pid_file))
            parent.send_signal(signal.SIGINT)
            _, errors = parent.communicate(timeout=10)

        assert b"KeyboardInterrupt" in errors
        assert eventually(lambda: not runs(lines_of(pid_file)[0]))


class TestFailure:
    def test_it_is_named_with_its_command_its_exit_code_and_its_output(
        self, soon: Deadline
    ) -> None:
        with pytest.raises(CommandError) as caught:
            runner.run(
                sh("echo out; echo err >&2; exit 3"), deadline=soon, what='building image "api"'
            )

        assert str(caught.value) == (
            'building image "api": exit code 3\n'
            "  $ sh -c 'echo out; echo err >&2; exit 3' sh\n"
            "    out\n"
            "    err"
        )
        assert (caught.value.exit_code, caught.value.output) == (3, "out\nerr\n")

    def test_a_log_makes_the_output_of_both_streams_one(
        self, soon: Deadline, tmp_path: Path
    ) -> None:
        with pytest.raises(CommandError) as caught:
            runner.run(
                sh("echo out; echo err >&2; echo end; exit 1"),
                deadline=soon,
                log=tmp_path / "new folder" / "log",
            )

        assert caught.value.output == "out\nerr\nend\n"
        assert (tmp_path / "new folder" / "log").read_text() == "out\nerr\nend\n"

    def test_the_last_twenty_lines_say_why(self, soon: Deadline) -> None:
        with pytest.raises(CommandError) as caught:
            runner.run(sh("seq 100; exit 1"), deadline=soon)

        shown = str(caught.value).splitlines()[2:]
        assert shown == [f"    {number}" for number in range(81, 101)]

    def test_a_program_that_is_not_there_is_named_with_what_to_do(self, soon: Deadline) -> None:
        with pytest.raises(ToolMissingError) as caught:
            runner.run(["no-such-program", "--help"], deadline=soon)

        assert str(caught.value).splitlines() == [
            f'"no-such-program" is not on PATH ({os.environ["PATH"]})',
            'To fix: install "no-such-program" or put its folder on PATH',
        ]

    def test_whoever_asks_for_a_program_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/nowhere")

        with pytest.raises(ToolMissingError) as caught:
            which("kind", fix="install kind")

        assert str(caught.value) == '"kind" is not on PATH (/nowhere)\nTo fix: install kind'


@pytest.fixture(params=[runner, Runner(Redactor())], ids=["straight", "redacted"])
def logging(request: pytest.FixtureRequest) -> Runner:
    """A runner whose children write to their logs, and one that writes for them."""
    chosen: Runner = request.param
    return chosen


class TestLog:
    def test_it_grows_while_the_program_runs(
        self, logging: Runner, tmp_path: Path, soon: Deadline
    ) -> None:
        log, go_on = tmp_path / "log", tmp_path / "go on"
        os.mkfifo(go_on)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(
                logging.run,
                sh('echo one; read -r x < "$1"; echo two', go_on),
                deadline=soon,
                log=log,
            )
            assert eventually(lambda: lines_of(log) == ["one"])
            assert not running.done()
            go_on.write_text("\n")

            assert running.result().stdout == "one\ntwo\n"
        assert lines_of(log) == ["one", "two"]

    def test_it_is_whole_when_the_deadline_ends_the_program(
        self, logging: Runner, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"

        with pytest.raises(CommandError):
            logging.run(
                sh("echo first; echo last; exec sleep 60"),
                deadline=DeadlineWhen(lambda: "last" in lines_of(log)),
                log=log,
            )

        assert lines_of(log) == ["first", "last"]

    def test_both_streams_come_in_their_order_and_to_the_last_byte(
        self, logging: Runner, tmp_path: Path, soon: Deadline
    ) -> None:
        script = 'for x in 1 2 3; do echo out $x; echo err $x >&2; done; seq 100000; printf "end"'

        result = logging.run(sh(script), deadline=soon, log=tmp_path / "log")

        lines = [f"{stream} {number}" for number in (1, 2, 3) for stream in ("out", "err")]
        assert result.stdout.splitlines() == [*lines, *map(str, range(1, 100_001)), "end"]
        assert (tmp_path / "log").read_text() == result.stdout

    def test_it_is_private_from_the_beginning(
        self, logging: Runner, tmp_path: Path, soon: Deadline
    ) -> None:
        log = tmp_path / "log"

        result = logging.run(sh('stat -c %a "$1"', log), deadline=soon, log=log)

        assert result.stdout == "600\n"

    def test_a_surviving_child_of_the_program_is_not_waited_for(
        self, logging: Runner, tmp_path: Path, soon: Deadline
    ) -> None:
        gone = tmp_path / "gone"
        os.mkfifo(gone)
        script = '(read -r x < "$1"; echo late) & echo early'

        result = logging.run(sh(script, gone), deadline=soon, log=tmp_path / "log")
        gone.write_text("\n")

        assert result.stdout == "early\n"


TOKEN = "tok-4f3a9c2e77"


class TestSecrets:
    def test_none_rests_in_a_log_however_it_was_printed(
        self, tmp_path: Path, soon: Deadline
    ) -> None:
        redacting, log, go_on = (
            Runner(Redactor([TOKEN])),
            tmp_path / "log",
            tmp_path / "f",
        )
        os.mkfifo(go_on)
        script = 'echo begin; printf "is tok-4f3a"; read -r x < "$1"; echo "9c2e77 and no more"'
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(redacting.run, sh(script, go_on), deadline=soon, log=log)
            assert eventually(lambda: lines_of(log))
            go_on.write_text("\n")

            assert running.result().stdout == "begin\nis *** and no more\n"
        assert log.read_text() == "begin\nis *** and no more\n"

    def test_none_is_in_what_a_failure_shows(self, tmp_path: Path, soon: Deadline) -> None:
        redacting = Runner(Redactor([TOKEN]))
        argv = ["sh", "-c", 'echo "$2"; exit 1', "sh", f"--password={TOKEN}", TOKEN]

        for log in (None, tmp_path / "log"):
            with pytest.raises(CommandError) as caught:
                redacting.run(argv, deadline=soon, log=log)

            error = caught.value
            assert (error.argv[-2:], error.output) == (("--password=***", "***"), "***\n")
            assert "4f3a" not in f"{error} {error!r} {error.args}"

    def test_none_is_in_what_a_failed_pipe_shows(self, soon: Deadline) -> None:
        redacting = Runner(Redactor([TOKEN]))
        source = sh('echo "$1" >&2; exit 1', TOKEN)

        with pytest.raises(CommandError) as caught:
            redacting.pipe(source, [["cat"]], deadline=soon, what="loading a")

        assert "4f3a" not in str(caught.value)
        assert caught.value.output == "***\n"

    def test_what_a_program_answers_comes_as_it_is(self, soon: Deadline) -> None:
        redacting = Runner(Redactor([TOKEN]))

        assert redacting.run(["echo", TOKEN], deadline=soon).stdout == f"{TOKEN}\n"

    def test_a_runner_that_knows_no_value_still_knows_their_forms(self, soon: Deadline) -> None:
        with pytest.raises(CommandError, match=r"--token=\*\*\*"):
            runner.run(sh("exit 1", "--token=abc"), deadline=soon)

    def test_a_log_that_cannot_be_written_is_said_and_ends_the_program(
        self, soon: Deadline
    ) -> None:
        ended = []

        def write_to_a_full_disk() -> None:
            with (
                open("/dev/full", "wb", buffering=0) as full,  # noqa: PTH123 - no buffer
                written_redacted(full, Redactor()) as sink,
            ):
                program = children.start(["seq", "1000000"], stdout=sink, stderr=sink)
                ended.extend(children.wait([program], soon))

        with pytest.raises(OSError, match="No space left"):
            write_to_a_full_disk()

        assert ended in ([1], [-signal.SIGPIPE])

    def test_no_thread_and_no_file_stays_open(self, tmp_path: Path, soon: Deadline) -> None:
        threads = set(threading.enumerate())
        files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        Runner(Redactor()).run(["echo"], deadline=soon, log=tmp_path / "log")

        assert set(threading.enumerate()) <= threads
        assert len(os.listdir("/proc/self/fd")) <= files  # noqa: PTH208


STUBBORN = """
trap '' TERM
sh -c 'trap "" TERM; echo $$; while :; do sleep 60 & wait; done' &
echo $$
while :; do wait; done
"""
"""A shell that ignores SIGTERM, with a child that does too; both print their ids."""

ORPHANING = """
sh -c 'trap "" TERM; echo $$; while :; do sleep 60 & wait; done' &
echo $$
wait
"""
"""A shell that ends when asked, while its child does not."""


class TestEnd:
    @pytest.mark.parametrize(
        "script", [pytest.param(STUBBORN, id="stubborn"), pytest.param(ORPHANING, id="orphaning")]
    )
    def test_the_deadline_ends_the_whole_group(self, script: str, tmp_path: Path) -> None:
        log = tmp_path / "log"

        with pytest.raises(
            CommandError, match=r"^trying: stopped, since it did not end within its time limit\n"
        ) as caught:
            runner.run(
                sh(script),
                deadline=DeadlineWhen(lambda: len(lines_of(log)) == 2),
                what="trying",
                log=log,
            )

        assert caught.value.exit_code is None
        assert eventually(lambda: not any(map(runs, lines_of(log))))

    def test_a_deadline_passes_though_nothing_is_printed(self) -> None:
        start = monotonic()

        with pytest.raises(
            CommandError, match=r"^a command failed: stopped, since it did not end within 0\.05 s"
        ):
            runner.run(["sleep", "60"], deadline=Deadline.after(0.05))

        assert monotonic() - start < 50

    def test_who_ends_when_asked_may_clean_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(children, "GRACE", 10)
        log = tmp_path / "log"

        with pytest.raises(CommandError):
            runner.run(
                sh("trap 'echo cleaned up; exit' TERM; echo ready; while :; do sleep 0.01; done"),
                deadline=DeadlineWhen(lambda: lines_of(log)),
                log=log,
            )

        assert lines_of(log)[-1] == "cleaned up"

    def test_the_end_of_the_run_ends_it_at_once(self, tmp_path: Path) -> None:
        deadline, log = Deadline.after(60), tmp_path / "log"
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(
                runner.run, sh("echo $$; exec sleep 60"), deadline=deadline, log=log
            )
            assert eventually(lambda: lines_of(log))
            start = monotonic()
            deadline.cancelled.set()

            with pytest.raises(CancelledError, match="the run is ending"):
                running.result(timeout=10)

        assert monotonic() - start < 50
        assert not runs(lines_of(log)[0])

    @pytest.mark.parametrize(
        "setpriv",
        [
            "#!/bin/sh\necho \"setpriv: unrecognized option '--pdeathsig'\" >&2; exit 1\n",
            "#!/bin/sh\nexec sleep 60\n",
            "no program at all",
        ],
        ids=["busybox", "one that hangs", "one that cannot be started"],
    )
    def test_a_setpriv_that_cannot_do_it_is_left_out(
        self, setpriv: str, tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "setpriv"
        program.write_text(setpriv)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(children, "_TRIAL", 0.3)

        assert runner.run(["printf", "well"], deadline=soon).stdout == "well"

    def test_a_setpriv_is_tried_once(
        self, tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program, told = tmp_path / "setpriv", tmp_path / "told"
        program.write_text(f"#!/bin/sh\necho tried >> {told}; exit 1\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

        for _ in range(3):
            runner.run(["printf", "well"], deadline=soon)

        assert lines_of(told) == ["tried"]

    def test_a_killed_parent_takes_the_program_along(self, tmp_path: Path) -> None:
        """`kind create` would go on and leave a cluster that nobody knows of."""
        script = (
            "import sys; from pytest_kindinfra.system.runner import Runner\n"
            "from pytest_kindinfra.system.timeline import Deadline\n"
            "Runner().run(['sh', '-c', 'echo $$ > \"$1\"; exec sleep 60', 'sh',"
            " sys.argv[1]], deadline=Deadline.after(60))"
        )
        pid_file = tmp_path / "pid"
        with subprocess.Popen([sys.executable, "-c", script, str(pid_file)]) as parent:
            assert eventually(lambda: lines_of(pid_file))
            parent.kill()

        assert eventually(lambda: not runs(lines_of(pid_file)[0]))


def digest_into(path: Path) -> list[str]:
    return sh('sha256sum > "$1"', path)


class TestPipe:
    def pipe(
        self,
        source: Sequence[str],
        *sinks: Sequence[str],
        deadline: Deadline | None = None,
        copy: Copy | None = None,
    ) -> tuple[int, ...]:
        deadline = deadline or Deadline.after(20)
        return runner.pipe(source, sinks, deadline=deadline, what="loading a", copy=copy)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_every_sink_gets_the_same_bytes(self, count: int, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(3_000_001))
        digests = [tmp_path / f"digest-{number}" for number in range(count)]

        self.pipe(["cat", str(source)], *map(digest_into, digests))

        expected = hashlib.sha256(source.read_bytes()).hexdigest()
        assert {path.read_text().split()[0] for path in digests} == {expected}

    def test_what_is_made_of_the_stream_on_the_way_is_the_callers(self, tmp_path: Path) -> None:
        def halve(source: IO[bytes], sinks: Sequence[Sink]) -> None:
            data = source.read()
            sinks[0].write(data[:3])
            sinks[1].write(data[3:])

        paths = [tmp_path / "one", tmp_path / "two"]
        sent = self.pipe(sh("printf abcde"), *(sh('cat > "$1"', one) for one in paths), copy=halve)

        assert [path.read_text() for path in paths] == ["abc", "de"]
        assert sent == (3, 2)

    def test_a_stream_of_which_nothing_can_be_made_is_a_failure(self) -> None:
        def stumble(source: IO[bytes], sinks: Sequence[Sink]) -> None:
            sinks[0].write(source.read(3))
            msg = "no archive"
            raise ValueError(msg)

        with pytest.raises(CommandError) as caught:
            self.pipe(["head", "-c", "3000000", "/dev/zero"], ["cat"], copy=stumble)

        assert str(caught.value) == (
            "loading a: exit code 0\n"
            "  $ head -c 3000000 /dev/zero\n"
            "    what it printed cannot be copied: no archive"
        )

    def test_a_source_that_fails_is_named_before_what_became_of_it(self) -> None:
        """`ctr: unrecognized image format` hid that there was no such image."""

        def stumble(source: IO[bytes], sinks: Sequence[Sink]) -> None:
            sinks[0].write(source.read())
            msg = "ends too early"
            raise ValueError(msg)

        reader = sh("cat > /dev/null; echo unrecognized image format; exit 1")
        with pytest.raises(CommandError, match="no such image") as caught:
            self.pipe(sh("echo no such image >&2; exit 1"), reader, copy=stumble)

        assert "unrecognized" not in str(caught.value)

    def test_an_empty_source_is_no_failure(self, tmp_path: Path) -> None:
        self.pipe(["true"], digest_into(tmp_path / "one"), digest_into(tmp_path / "two"))

        empty = hashlib.sha256(b"").hexdigest()
        assert (tmp_path / "one").read_text().split()[0] == empty

    @pytest.mark.parametrize("others", [(), (["cat"],)], ids=["one sink", "two sinks"])
    def test_a_source_that_fails_is_named(self, others: Sequence[Sequence[str]]) -> None:
        with pytest.raises(CommandError) as caught:
            self.pipe(sh("echo data; echo no such image >&2; exit 5"), ["cat"], *others)

        assert str(caught.value) == (
            "loading a: exit code 5\n"
            "  $ sh -c 'echo data; echo no such image >&2; exit 5' sh\n"
            "    no such image"
        )

    @pytest.mark.parametrize("others", [(), (["cat"],)], ids=["one sink", "two sinks"])
    def test_a_sink_that_fails_is_named_before_the_source_that_it_broke(
        self, others: Sequence[Sequence[str]]
    ) -> None:
        with pytest.raises(CommandError) as caught:
            self.pipe(
                ["head", "-c", "3000000", "/dev/zero"],
                sh("echo disk is full >&2; exit 7"),
                *others,
            )

        assert str(caught.value) == (
            "loading a: exit code 7\n  $ sh -c 'echo disk is full >&2; exit 7' sh\n    disk is full"
        )

    def test_a_sink_that_fails_does_not_break_the_others(self, tmp_path: Path) -> None:
        """The other node got half an archive, and its "unexpected EOF" hid the cause."""
        source = tmp_path / "source"
        source.write_bytes(os.urandom(3_000_001))
        digest = tmp_path / "digest"

        with pytest.raises(CommandError, match="disk is full"):
            self.pipe(["cat", str(source)], digest_into(digest), sh("echo disk is full; exit 7"))

        assert digest.read_text().split()[0] == hashlib.sha256(source.read_bytes()).hexdigest()

    def test_a_sink_that_has_heard_enough_leaves_the_source_to_answer_for_it(self) -> None:
        """A broken pipe is not hidden: the image may not be there as a whole."""
        with pytest.raises(CommandError, match="exit code -13") as caught:
            self.pipe(["cat", "/dev/zero"], ["head", "-c", "1"])

        assert caught.value.argv == ("cat", "/dev/zero")

    def test_the_end_of_the_run_leaves_nothing_running(self, tmp_path: Path) -> None:
        deadline, pids = Deadline.after(60), tmp_path / "pids"
        source = sh('echo $$ >> "$1"; exec cat /dev/zero', pids)
        sink = sh('echo $$ >> "$1"; exec cat > /dev/null', pids)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.pipe, source, sink, sink, deadline=deadline)
            assert eventually(lambda: len(lines_of(pids)) == 3)
            deadline.cancelled.set()

            with pytest.raises(CancelledError):
                running.result(timeout=10)

        assert [pid for pid in lines_of(pids) if runs(pid)] == []

    def test_the_deadline_names_who_was_still_at_work(self, tmp_path: Path) -> None:
        started = tmp_path / "started"
        sink = sh('cat > /dev/null; echo yes > "$1"; exec sleep 60', started)

        with pytest.raises(CommandError, match="did not end within its time limit") as caught:
            self.pipe(["true"], sink, deadline=DeadlineWhen(lambda: lines_of(started)))

        assert caught.value.argv == tuple(sink)

    @pytest.mark.parametrize(
        "programs",
        [
            pytest.param(["no-such-program", "cat"], id="source"),
            pytest.param(["no-such-program", "cat", "cat"], id="source of two"),
            pytest.param(["true", "cat", "no-such-program"], id="sink"),
        ],
    )
    def test_a_program_that_is_not_there_leaves_no_other_behind(
        self, programs: list[str], tmp_path: Path
    ) -> None:
        pids = tmp_path / "pids"
        source, *sinks = (
            [name] if name == "no-such-program" else sh('echo $$ >> "$1"; exec "$2"', pids, name)
            for name in programs
        )

        with pytest.raises(ToolMissingError, match="no-such-program"):
            self.pipe(source, *sinks)

        assert eventually(lambda: not any(map(runs, lines_of(pids))))

    def test_no_thread_outlives_it(self, tmp_path: Path) -> None:
        before = set(threading.enumerate())

        self.pipe(["echo"], digest_into(tmp_path / "one"), digest_into(tmp_path / "two"))

        assert eventually(lambda: set(threading.enumerate()) <= before)


class TestBackground:
    def test_it_runs_as_long_as_the_block(self) -> None:
        with Background(sh("echo $$; exec sleep 60")) as program:
            assert eventually(program.output)
            pid = program.output().strip()
            assert runs(pid)
            assert not program.ended()

        assert not runs(pid)

    def test_what_it_prints_can_be_read_again_and_again(self) -> None:
        with Background(sh("echo one; echo two >&2; exec sleep 60")) as program:
            assert eventually(lambda: program.output().count("\n") == 2)

            assert program.output() == program.output() == "one\ntwo\n"

    def test_it_says_when_it_ended_by_itself(self) -> None:
        with Background(["true"]) as program:
            assert eventually(program.ended)

    def test_what_it_prints_is_read_where_dev_fd_shares_a_position(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On macOS opening /dev/fd/N duplicates it: the output of kubectl was always empty."""

        def as_on_macos(path: Any, *words: Any, **more: Any) -> Any:
            where = str(path)
            if where.startswith("/dev/fd/"):
                return real(os.dup(int(where.rpartition("/")[2])), *words, **more)
            return real(path, *words, **more)

        real = open
        monkeypatch.setattr("builtins.open", as_on_macos)
        with Background(sh("echo one; exec sleep 60")) as program:
            assert eventually(lambda: program.output() == "one\n")
            assert program.output() == "one\n"


class TestCheckOutput:
    """The contract is that of `subprocess.check_output`, but for text."""

    def test_text_comes_back(self) -> None:
        assert check_output(["echo", "ä"]) == "ä\n"

    def test_input_is_given_as_text(self) -> None:
        assert check_output(["cat"], input="typed") == "typed"

    def test_a_failure_is_the_one_that_its_users_know(self) -> None:
        with pytest.raises(subprocess.CalledProcessError):
            check_output(["false"])

    @pytest.mark.parametrize("more", [{}, {"timeout": 0.01}], ids=["failed", "too late"])
    def test_a_failure_shows_no_secret(self, more: dict[str, float]) -> None:
        argv = ["sh", "-c", "sleep 0.1; exit 1", "--token=abc", "--password", "def"]

        with pytest.raises(subprocess.SubprocessError) as caught:
            check_output(argv, **more)

        assert "'--token=***', '--password', '***'" in str(caught.value)
        assert "subprocess.py" not in {entry.path.name for entry in caught.traceback}  # type: ignore[union-attr]
