"""Images reach the kind nodes in as few streams as possible, and only where they are missing."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from pytest_kindinfra.errors import CancelledError, ClusterError, CommandError
from pytest_kindinfra.images.load import ImageLoader
from pytest_kindinfra.images.stream import Volume
from pytest_kindinfra.system.timeline import Deadline, Timeline
from tests.fakes import FakeEngine, FakeProvider, FakeRunner, Piped, eventually

DIGEST = "sha256:" + "0123456789abcdef" * 4


@dataclass
class Bench:
    """A loader whose streams go through when `go_on` is set."""

    nodes: tuple[str, ...] = ("node",)
    runner: FakeRunner = field(default_factory=FakeRunner)
    provider: FakeProvider = field(default_factory=FakeProvider)
    timeline: Timeline = field(default_factory=Timeline)
    go_on: threading.Event = field(default_factory=threading.Event)
    deadline: Deadline = field(default_factory=lambda: Deadline.after(20))

    def __post_init__(self) -> None:
        self.go_on.set()
        self.runner.on_pipe = self.stream
        self.loader = ImageLoader(
            self.nodes,
            engine=FakeEngine(),
            kind_nodes=self.provider,
            runner=self.runner,
            timeline=self.timeline,
        )

    def stream(self, piped: Piped) -> tuple[int, ...]:
        assert self.go_on.wait(60)
        for _, node in piped.sinks:
            self.provider.images.setdefault(node, set()).update(piped.source[1:])
        return tuple(1_500_000 for _ in piped.sinks)

    def load(self, *names: str, pool: ThreadPoolExecutor) -> list[Future[str]]:
        """Ask for images in threads of their own, and wait until all have asked."""
        asked = [
            pool.submit(self.loader.load, name, f"localhost/{name}:1", self.deadline)
            for name in names
        ]
        wanted = {f"localhost/{name}:1" for name in names}
        assert eventually(lambda: wanted <= {*self.loader._next.names} | self.streamed())  # noqa: SLF001
        return asked

    def streamed(self) -> set[str]:
        return {reference for pipe in self.runner.pipes for reference in pipe.source[1:]}

    def sources(self) -> list[set[str]]:
        return [set(pipe.source[1:]) for pipe in self.runner.pipes]


def refs(*names: str) -> set[str]:
    return {f"localhost/{name}:1" for name in names}


class TestStreams:
    def test_an_image_goes_from_the_engine_into_the_kind_node(self, soon: Deadline) -> None:
        bench = Bench()

        bench.loader.load("api", "localhost/api:1", soon)

        (pipe,) = bench.runner.pipes
        assert (pipe.source, pipe.sinks) == (("save", "localhost/api:1"), (("import", "node"),))
        assert pipe.what == "loading localhost/api:1 into node"
        assert [phase.name for phase in bench.timeline.phases] == ["load api"]

    def test_its_phase_says_how_much_was_sent(self, soon: Deadline) -> None:
        bench = Bench(nodes=("one", "two"))

        bench.loader.load("api", "localhost/api:1", soon)

        (phase,) = bench.timeline.phases
        assert phase.sent == 3_000_000

    @pytest.mark.parametrize(
        ("volume", "note"),
        [
            (Volume(262_767_104, 262_767_104), "263 MB"),
            (Volume(52_469_760, 262_767_104), "52 of 263 MB"),
            (Volume(11_776, 262_767_104), "0 of 263 MB"),
        ],
    )
    def test_its_note_says_of_how_much(self, volume: Volume, note: str) -> None:
        assert volume.note == note

    def test_what_is_asked_for_at_one_moment_goes_in_one_stream(self, soon: Deadline) -> None:
        bench, kind_nodes_answer = Bench(), threading.Event()
        names = [f"image{number}" for number in range(8)]

        def load(name: str) -> None:
            assert kind_nodes_answer.wait(60)
            bench.loader.load(name, f"localhost/{name}:1", soon)

        with ThreadPoolExecutor(len(names)) as pool:
            asked = [pool.submit(load, name) for name in names]
            kind_nodes_answer.set()
            for one in asked:
                one.result(10)

        assert bench.sources() == [refs(*names)]

    def test_a_stream_waits_a_moment_for_images_whose_builds_end_together(self) -> None:
        bench = Bench()
        bench.loader.more_come = lambda: len(bench.loader._next.names) < 2  # noqa: SLF001

        with ThreadPoolExecutor(4) as pool:
            first = bench.load("api", pool=pool)
            second = bench.load("db", pool=pool)
            for asked in first + second:
                asked.result(10)

        assert bench.sources() == [refs("api", "db")]

    def test_it_does_not_wait_for_a_build_that_takes_longer(self, soon: Deadline) -> None:
        bench = Bench()
        bench.loader.more_come = lambda: True

        bench.loader.load("api", "localhost/api:1", soon)

        assert bench.sources() == [refs("api")]

    def test_what_is_asked_for_during_a_stream_goes_together_into_the_next(self) -> None:
        bench = Bench()
        bench.go_on.clear()
        with ThreadPoolExecutor(8) as pool:
            asked = bench.load("a", pool=pool)
            assert eventually(lambda: bench.sources() == [refs("a")])
            asked += bench.load("b", "c", "d", pool=pool)
            bench.go_on.set()
            for one in asked:
                one.result(10)

        assert bench.sources() == [refs("a"), refs("b", "c", "d")]
        assert sorted(phase.subject for phase in bench.timeline.phases) == ["a", "b", "c", "d"]

    def test_an_image_that_is_there_is_not_sent(self, soon: Deadline) -> None:
        bench = Bench()
        bench.provider.images["node"] = {"docker.io/library/redis:7", "localhost/api:1"}

        bench.loader.load("redis", "redis:7", soon)
        bench.loader.load("api", "localhost/api:1", soon)

        assert bench.runner.pipes == []
        assert bench.timeline.phases == ()

    def test_what_was_loaded_is_not_sent_again(self, soon: Deadline) -> None:
        bench = Bench()

        for _ in range(2):
            bench.loader.load("api", "localhost/api:1", soon)

        assert len(bench.runner.pipes) == 1

    def test_one_with_tag_and_digest_is_looked_for_by_its_digest(self, soon: Deadline) -> None:
        bench = Bench()
        bench.provider.images["node"] = {f"docker.io/library/redis@{DIGEST}"}

        bench.loader.load("redis", f"redis:7@{DIGEST}", soon)

        assert bench.runner.pipes == []

    def test_only_the_kind_nodes_that_lack_something_get_it(self, soon: Deadline) -> None:
        bench = Bench(nodes=("one", "two", "three"))
        bench.provider.images["two"] = {"localhost/api:1"}

        bench.loader.load("api", "localhost/api:1", soon)

        assert bench.runner.pipes[0].sinks == (("import", "one"), ("import", "three"))

    def test_what_no_kind_node_lacks_stays_out_of_a_stream(self) -> None:
        bench = Bench(nodes=("one", "two"))
        bench.provider.images = {"one": refs("b"), "two": refs("b", "c")}
        bench.go_on.clear()
        with ThreadPoolExecutor(8) as pool:
            asked = bench.load("a", pool=pool)
            assert eventually(lambda: bench.sources() == [refs("a")])
            asked += bench.load("b", "c", pool=pool)
            bench.go_on.set()
            for one in asked:
                one.result(10)

        assert bench.sources() == [refs("a"), refs("c")]
        assert bench.runner.pipes[1].sinks == (("import", "one"),)


class TestFailure:
    def test_it_reaches_everyone_in_the_stream_and_nobody_else(self) -> None:
        bench = Bench()
        bench.go_on.clear()

        def stream(piped: Piped) -> tuple[int, ...]:
            sent = bench.stream(piped)
            if "localhost/b:1" in piped.source:
                raise CommandError(piped.source, exit_code=1, output="no space left on device")
            return sent

        bench.runner.on_pipe = stream
        with ThreadPoolExecutor(8) as pool:
            good = bench.load("a", pool=pool)
            assert eventually(lambda: bench.sources() == [refs("a")])
            bad = bench.load("b", "c", pool=pool)
            bench.go_on.set()
            for one in bad:
                with pytest.raises(CommandError, match="no space left"):
                    one.result(10)
            bench.load("d", pool=pool)[0].result(10)

        assert good[0].exception() is None
        assert sorted(phase.subject for phase in bench.timeline.phases if phase.ok) == ["a", "d"]

    def test_a_kind_node_that_does_not_answer_is_a_failure(self, soon: Deadline) -> None:
        class Silent(FakeProvider):
            def images_in(self, node: str, deadline: Deadline) -> frozenset[str]:
                raise CommandError(["docker", "exec", node], exit_code=1, output=f"{deadline.left}")

        with pytest.raises(CommandError, match="docker exec node"):
            Bench(provider=Silent()).loader.load("api", "localhost/api:1", soon)

    def test_the_end_of_the_run_reaches_those_who_wait_for_their_turn(self) -> None:
        bench = Bench()
        bench.go_on.clear()
        with ThreadPoolExecutor(8) as pool:
            first = bench.load("a", pool=pool)
            assert eventually(lambda: bench.sources() == [refs("a")])
            waiting = bench.load("b", "c", pool=pool)
            bench.deadline.cancelled.set()
            bench.go_on.set()
            for one in waiting:
                with pytest.raises(CancelledError):
                    one.result(10)

        assert first[0].exception() is None
        assert bench.sources() == [refs("a")]

    def test_an_image_that_a_kind_node_took_and_does_not_list_is_a_failure(
        self, soon: Deadline
    ) -> None:
        bench = Bench()
        bench.runner.on_pipe = lambda _: (1,)

        with pytest.raises(
            ClusterError, match="kind node node accepted localhost/api:1 without an err"
        ):
            bench.loader.load("api", "localhost/api:1", soon)

    def test_a_failure_is_no_part_of_a_later_try(self, soon: Deadline) -> None:
        """The first failure was raised again, although the image had been sent meanwhile."""
        bench = Bench()

        def fail(piped: Piped) -> None:
            bench.runner.on_pipe = bench.stream
            raise CommandError(piped.source, exit_code=1, output="no space left on device")

        bench.runner.on_pipe = fail
        with pytest.raises(CommandError, match="no space left"):
            bench.loader.load("api", "localhost/api:1", soon)

        bench.loader.load("api", "localhost/api:1", soon)

        assert len(bench.runner.pipes) == 2
