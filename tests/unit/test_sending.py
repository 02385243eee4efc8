"""A stream to kind nodes has what they lack, and what they answer decides about the next try."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CancelledError, CommandError
from pytest_kindinfra.images.stream import Sender, Volume
from pytest_kindinfra.system.timeline import Deadline
from tests.fake_archives import FakeContent, digest, manifest_of, save
from tests.fakes import FakeEngine, FakeProvider, FakeRunner, Piped

if TYPE_CHECKING:
    from pytest_kindinfra.model import Load

BASE, OTHER, API, WEB = b"base" * 5000, b"other" * 4000, b"api" * 100, b"web" * 100
IMAGES = {
    "localhost/api:1": [BASE, API],
    "localhost/web:1": [BASE, OTHER, WEB],
    "python:3.11-slim": [BASE],
}


class Impatient(Deadline):
    """A deadline that lets nobody sleep; notes who wanted to."""

    def __init__(self) -> None:
        super().__init__(Deadline.after(20).at)
        object.__setattr__(self, "pauses", [])

    pauses: list[float]

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.check()


@dataclass
class Bench:
    """A sender, and kind nodes that are as real as the fakes are."""

    how: Load = "auto"
    provider: FakeProvider = field(default_factory=FakeProvider)
    runner: FakeRunner = field(default_factory=FakeRunner)
    deadline: Impatient = field(default_factory=Impatient)

    def __post_init__(self) -> None:
        self.content = FakeContent(self.provider, dict(IMAGES))
        self.runner.on_pipe = self.content.stream
        self.sender = Sender(
            engine=FakeEngine(), kind_nodes=self.provider, runner=self.runner, how=self.how
        )

    def send(self, *references: str, nodes: tuple[str, ...] = ("node",)) -> Volume:
        return self.sender.send(references, nodes, self.deadline)

    def answer(self, *outputs: str, exit_code: int = 1) -> None:
        """Have the next streams fail with these answers; those after them go through."""
        left = list(outputs)

        def stream(piped: Piped) -> tuple[int, ...] | None:
            if left:
                raise CommandError(piped.sinks[0], exit_code=exit_code, output=left.pop(0))
            return self.content.stream(piped)

        self.runner.on_pipe = stream

    def received(self) -> list[tuple[str, list[bytes]]]:
        return self.content.blobs_received(BASE, OTHER, API, WEB)

    def whole(self, node: str, reference: str) -> bool:
        """Whether a pod could run it there."""
        config, manifest = manifest_of(IMAGES[reference])
        parts = {digest(blob) for blob in (config, manifest, *IMAGES[reference])}
        return reference in self.provider.images[node] and parts <= {*self.content.stores[node]}


class TestDelta:
    def test_what_an_earlier_stream_took_there_stays_out_of_the_next(self) -> None:
        bench = Bench()

        bench.send("localhost/api:1")
        bench.send("localhost/web:1")

        assert bench.received() == [("node", [BASE, API]), ("node", [OTHER, WEB])]
        assert bench.whole("node", "localhost/web:1")

    def test_what_somebody_else_took_there_stays_out_too(self) -> None:
        bench = Bench()
        bench.send("python:3.11-slim")
        another = Bench(provider=bench.provider)
        another.content.stores = bench.content.stores

        another.send("localhost/api:1")

        assert another.received() == [("node", [API])]
        assert another.whole("node", "localhost/api:1")

    def test_each_kind_node_gets_what_it_lacks(self) -> None:
        bench = Bench()
        bench.send("localhost/api:1", nodes=("one",))
        bench.send("python:3.11-slim", nodes=("two",))

        bench.send("localhost/web:1", "localhost/api:1", nodes=("one", "two", "late"))

        assert bench.received()[2:] == [
            ("one", [OTHER, WEB]),
            ("two", [OTHER, API, WEB]),
            ("late", [BASE, OTHER, API, WEB]),
        ]
        assert all(bench.whole(node, "localhost/web:1") for node in ("one", "two", "late"))

    def test_it_tells_what_was_sent_and_what_whole_archives_would_have_been(self) -> None:
        bench = Bench()
        archive = len(save({"localhost/web:1": IMAGES["localhost/web:1"]}))

        bench.send("localhost/api:1", nodes=("one",))
        volume = bench.send("localhost/web:1", nodes=("one", "two"))

        assert 0 < 2 * archive - volume.whole < 2 * 10240  # tarfile fills its last record
        assert len(BASE) <= volume.whole - volume.sent < len(BASE) + 1024

    def test_archive_sends_all_of_it_each_time(self) -> None:
        bench = Bench("archive")

        volumes = [bench.send("localhost/api:1") for _ in range(2)]

        assert bench.received() == [("node", [BASE, API])] * 2
        assert volumes == [
            Volume(size, size) for size in [len(save({"localhost/api:1": [BASE, API]}))] * 2
        ]


class TestDigests:
    """A pod that asks by a digest finds the image only under that name."""

    REFERENCE = f"docker.io/org/web:1@{digest(b'manifest')}"
    NAME = f"docker.io/org/web@{digest(b'manifest')}"

    def bench(self, how: Load = "auto") -> tuple[Bench, FakeEngine]:
        bench = Bench(how)
        engine = FakeEngine(images={self.REFERENCE: "sha256:1"})
        bench.sender = Sender(
            engine=engine, kind_nodes=bench.provider, runner=bench.runner, how=how
        )

        def stream(piped: Piped) -> tuple[int, ...]:
            (name,) = piped.source[1:]
            assert name in engine.images, "the archive is made while the name is there"
            bench.content.images[name] = [BASE, WEB]
            return bench.content.stream(piped)

        bench.runner.on_pipe = stream
        return bench, engine

    @pytest.mark.parametrize("how", ["auto", "archive", "delta"])
    def test_the_kind_nodes_list_it_by_its_digest_and_by_a_tag(self, how: Load) -> None:
        """Without a tag the CRI took another of its names, which it did not find."""
        bench, _ = self.bench(how)

        bench.send(self.REFERENCE, nodes=("node", "second"))

        for node in ("node", "second"):
            (tag,) = bench.provider.images[node] - {self.NAME}
            assert tag.startswith("localhost/kindinfra-load:")
            assert self.NAME in bench.provider.images[node]

    def test_the_engine_has_no_further_name_afterwards(self) -> None:
        bench, engine = self.bench()

        bench.send(self.REFERENCE)

        assert engine.images == {self.REFERENCE: "sha256:1"}

    def test_the_engine_has_no_further_name_after_a_failure(self) -> None:
        bench, engine = self.bench()
        bench.answer("no space left on device")

        with pytest.raises(CommandError):
            bench.send(self.REFERENCE)

        assert engine.images == {self.REFERENCE: "sha256:1"}

    def test_its_layers_are_known_by_the_reference(self) -> None:
        bench, _ = self.bench()

        bench.send(self.REFERENCE)

        assert set(bench.sender.layers) == {self.REFERENCE}


class TestMissingContent:
    """What a kind node was seen to have may be gone: kubelet and people remove things."""

    def test_the_whole_archive_is_sent_at_once(self) -> None:
        bench = Bench()
        bench.send("localhost/api:1", nodes=("one", "two"))
        bench.content.remove("two", BASE)

        bench.send("localhost/web:1", nodes=("one", "two"))

        assert bench.received()[2:] == [
            ("one", [OTHER, WEB]),
            ("two", [OTHER, WEB]),
            ("one", [BASE, OTHER, WEB]),
            ("two", [BASE, OTHER, WEB]),
        ]
        assert bench.whole("two", "localhost/web:1")
        assert bench.deadline.pauses == []

    def test_after_it_kind_nodes_are_asked_anew(self) -> None:
        bench = Bench()
        bench.send("localhost/api:1")
        bench.content.remove("node", BASE)
        bench.send("localhost/web:1")
        bench.content.remove("node", API)

        bench.send("localhost/api:1")

        assert bench.received()[-1] == ("node", [API])

    def test_delta_asks_what_is_there_and_sends_that_and_no_more(self) -> None:
        bench = Bench("delta")
        bench.send("localhost/api:1")
        bench.content.remove("node", BASE)

        bench.send("localhost/web:1")

        assert bench.received()[1:] == [("node", [OTHER, WEB]), ("node", [BASE])]
        assert bench.whole("node", "localhost/web:1")


CTR = (
    "docker exec --privileged -i node ctr --namespace=k8s.io images import --all-platforms "
    "--digests --snapshotter=overlayfs"
)
NOT_FOUND = f"ctr: content digest {digest(b'gone')}: not found"


class TestAnswers:
    """Messages that others have met, letter for letter."""

    @pytest.mark.parametrize(
        "message",
        [
            # kind#3795, kind#3845, kind#4224, llm-d#362
            f'ERROR: failed to load image: command "{CTR} -" failed\n{NOT_FOUND}',
            NOT_FOUND,
        ],
    )
    def test_missing_content_is_no_reason_to_wait(self, message: str) -> None:
        bench = Bench()
        bench.answer(message)

        bench.send("localhost/api:1")

        assert [pipe.copy is None for pipe in bench.runner.pipes] == [False, True]
        assert bench.deadline.pauses == []
        assert bench.whole("node", "localhost/api:1")

    @pytest.mark.parametrize(
        "message",
        [
            "failed to load image: exit status 1",  # kind#921, istio#18027
            "ERROR: failed to detect containerd snapshotter",  # kind#3853, kind#3871
            "ctr: unexpected EOF",
        ],
    )
    def test_a_failure_that_may_pass_is_tried_again_after_a_pause(self, message: str) -> None:
        bench = Bench()
        bench.answer(message, message)

        bench.send("localhost/api:1")

        assert len(bench.runner.pipes) == 3
        assert bench.deadline.pauses == [1.0, 1.0]
        assert bench.whole("node", "localhost/api:1")

    def test_the_third_failure_is_the_last(self) -> None:
        bench = Bench()
        bench.answer(*["failed to load image: exit status 1"] * 3)

        with pytest.raises(CommandError, match="failed to load image: exit status 1"):
            bench.send("localhost/api:1")

        assert len(bench.runner.pipes) == 3

    @pytest.mark.parametrize(
        "message",
        [
            # kind#3105, kind#2729, etcd-operator#121
            'ERROR: image: "localhost/api:1" not present locally',
            "Error response from daemon: No such image: localhost/api:1",
            "Error response from daemon: reference does not exist",
            "Error response from daemon: No such container: a-control-plane",
            "Error response from daemon: container 1f2e is not running",
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.",
            "ctr: write /var/lib/containerd/ingest/1f/data: no space left on device",  # bootc#787
        ],
    )
    def test_what_no_second_try_can_change_fails_at_once(self, message: str) -> None:
        bench = Bench()
        bench.answer(message)

        with pytest.raises(CommandError) as caught:
            bench.send("localhost/api:1")

        assert caught.value.output == message
        assert len(bench.runner.pipes) == 1

    def test_a_deadline_that_has_passed_is_the_end(self) -> None:
        bench = Bench()

        def late(piped: Piped) -> None:
            raise CommandError(piped.source, exit_code=None, output="")

        bench.runner.on_pipe = late
        with pytest.raises(CommandError, match="did not end within its time limit"):
            bench.send("localhost/api:1")

        assert len(bench.runner.pipes) == 1

    def test_the_end_of_the_run_ends_the_tries(self) -> None:
        bench = Bench()

        def fail(piped: Piped) -> None:
            bench.deadline.cancelled.set()
            raise CommandError(piped.source, exit_code=-15, output="")

        bench.runner.on_pipe = fail
        with pytest.raises(CancelledError):
            bench.send("localhost/api:1")

        assert len(bench.runner.pipes) == 1

    def test_a_kind_node_whose_content_cannot_be_listed_gets_the_whole_archive(self) -> None:
        class Silent(FakeProvider):
            def blobs_in(self, node: str, deadline: Deadline) -> frozenset[str]:
                raise CommandError(["docker", "exec", node], exit_code=1, output=f"{deadline.left}")

        bench = Bench(provider=Silent())

        bench.send("localhost/api:1")

        assert bench.received() == [("node", [BASE, API])]


def test_what_arrived_in_part_is_listed_no_more() -> None:
    """`ctr` lists an image before it unpacks it, and the next load would skip it as present."""
    bench = Bench("delta")
    bench.send("python:3.11-slim")

    def half(piped: Piped) -> tuple[int, ...]:
        bench.content.stores["node"].pop(digest(BASE), None)
        bench.provider.blobs["node"].add(digest(BASE))
        return bench.content.stream(piped)

    bench.runner.on_pipe = half
    with pytest.raises(CommandError, match="not found"):
        bench.send("localhost/web:1")

    assert bench.provider.images["node"] == {"docker.io/library/python:3.11-slim"}
