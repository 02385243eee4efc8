"""An image is built at most once for each content, and never more at a time than allowed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CancelledError, CommandError, KindInfraError
from pytest_kindinfra.model import BuiltImage, Image
from pytest_kindinfra.steps.build import BuildSlots, build_image
from pytest_kindinfra.timeline import Deadline, Timeline
from tests.fakes import FakeEngine, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.engines.protocol import BuildRequest


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert threading.enumerate() == [threading.main_thread()]


class NoticedDeadline(Deadline):
    """A deadline that notes when somebody who waits looks at it."""

    noticed: threading.Event

    def __init__(self) -> None:
        super().__init__(Deadline.after(20).at)
        object.__setattr__(self, "noticed", threading.Event())

    def check(self) -> None:
        self.noticed.set()
        super().check()


@dataclass
class Inside:
    """Counts who is in a block at the same time."""

    now: int = 0
    most: int = 0
    beside_exclusive: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, *, exclusive: bool) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if exclusive:
                self.beside_exclusive = max(self.beside_exclusive, self.now - 1)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1


class TestSlots:
    @pytest.mark.parametrize("jobs", [1, 3])
    def test_never_more_builds_run_than_there_are_slots(self, jobs: int, soon: Deadline) -> None:
        slots, inside = BuildSlots(jobs), Inside()
        full = threading.Event()

        def build(number: int) -> None:
            exclusive = number % 8 == 7
            with slots.take(exclusive=exclusive, deadline=soon):
                inside.enter(exclusive=exclusive)
                if inside.most == jobs:
                    full.set()
                full.wait(5)  # nobody leaves before all slots were taken once
                inside.leave()

        with ThreadPoolExecutor(24) as pool:
            list(pool.map(build, range(24)))

        assert (inside.most, inside.beside_exclusive, inside.now) == (jobs, 0, 0)

    def test_an_exclusive_build_goes_before_those_that_came_later(self, soon: Deadline) -> None:
        """Or it would wait as long as there are others."""
        slots, order = BuildSlots(2), list[str]()
        noticed, release = NoticedDeadline(), [threading.Event(), threading.Event()]

        def hold(number: int) -> None:
            with slots.take(exclusive=False, deadline=soon):
                order.append("held")
                release[number].wait(10)

        def take(name: str, deadline: Deadline) -> None:
            with slots.take(exclusive=name == "exclusive", deadline=deadline):
                order.append(name)

        with ThreadPoolExecutor(4) as pool:
            for number in range(2):
                pool.submit(hold, number)
            assert eventually(lambda: len(order) == 2)
            pool.submit(take, "exclusive", noticed)
            assert noticed.noticed.wait(5)
            later = NoticedDeadline()
            pool.submit(take, "later", later)
            release[0].set()  # one slot is free, which the later one could have
            assert later.noticed.wait(5)
            release[1].set()

        assert order == ["held", "held", "exclusive", "later"]

    def test_two_exclusive_builds_do_not_block_each_other(self, soon: Deadline) -> None:
        slots, inside = BuildSlots(3), Inside()

        def build(_: int) -> None:
            with slots.take(exclusive=True, deadline=soon):
                inside.enter(exclusive=True)
                inside.leave()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(build, range(20)))

        assert inside.most == 1

    @pytest.mark.parametrize("exclusive", [False, True], ids=["plain", "exclusive"])
    def test_who_waits_for_a_slot_is_told_that_the_run_ends(
        self, soon: Deadline, *, exclusive: bool
    ) -> None:
        slots, waiting = BuildSlots(1 if not exclusive else 2), NoticedDeadline()

        def take(deadline: Deadline) -> None:
            with slots.take(exclusive=exclusive, deadline=deadline):
                pass

        with ThreadPoolExecutor(1) as pool, slots.take(exclusive=False, deadline=soon):
            waited = pool.submit(take, waiting)
            assert waiting.noticed.wait(5)
            waiting.cancelled.set()

            with pytest.raises(CancelledError):
                waited.result(5)
            if exclusive:  # nor does it stand in the way of others any longer
                with slots.take(exclusive=False, deadline=soon):
                    pass

        take(soon)

    def test_a_build_that_fails_gives_its_slot_back(self, soon: Deadline) -> None:
        slots = BuildSlots(1)

        for _ in range(2):
            with pytest.raises(LookupError), slots.take(exclusive=False, deadline=soon):
                raise LookupError


@dataclass
class Bench:
    """All that a build needs."""

    folder: Path
    engine: FakeEngine = field(default_factory=FakeEngine)
    timeline: Timeline = field(default_factory=Timeline)
    slots: BuildSlots = field(default_factory=lambda: BuildSlots(2))
    cancelled: threading.Event = field(default_factory=threading.Event)

    def build(self, image: Image, *bases: BuiltImage) -> BuiltImage:
        return build_image(
            image,
            bases=bases,
            folder=self.folder,
            output=self.folder / "out" / "build",
            engine=self.engine,
            slots=self.slots,
            timeline=self.timeline,
            deadline=lambda: Deadline.after(20, self.cancelled),
        )

    def phases(self) -> list[tuple[str, bool]]:
        return [(phase.name, phase.ok) for phase in self.timeline.phases]


API = Image(name="api", ignore=("out",))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "Dockerfile").write_text("FROM base\nFROM alpine\n")
    (tmp_path / "main.go").write_text("package main\n")
    return Bench(tmp_path)


class TestAnImage:
    def test_it_is_built_under_the_tag_of_its_content(self, bench: Bench) -> None:
        built = bench.build(API)

        name, _, tag = built.reference.partition(":")
        assert (name, len(tag), built.cached) == ("localhost/api", 16, False)
        assert bench.phases() == [("build api", True)]
        assert (bench.folder / "out/build/api.log").read_text() == f"built {built.reference}\n"

    def test_what_was_built_before_is_not_built_again(self, bench: Bench) -> None:
        first = bench.build(API)

        assert bench.build(API) == replace(first, cached=True)
        assert bench.phases() == [("build api", True)]
        assert len(bench.engine.builds) == 1

    def test_a_changed_file_is_another_image(self, bench: Bench) -> None:
        first = bench.build(API)
        (bench.folder / "main.go").write_text("package changed\n")

        assert bench.build(API).reference != first.reference
        assert len(bench.engine.builds) == 2

    def test_another_base_image_is_another_image(self, bench: Bench) -> None:
        """`docker pull alpine` brought security fixes that no build took in."""
        first = bench.build(API)
        bench.engine.images["alpine"] = "sha256:new"

        assert bench.build(API).reference != first.reference

    def test_a_declared_base_is_given_by_its_name(self, bench: Bench) -> None:
        base = BuiltImage(name="base", reference="localhost/base:1", cached=False)
        first = bench.build(API, base)

        assert bench.engine.builds[0].contexts == {"base": "localhost/base:1"}
        assert bench.build(API, replace(base, reference="localhost/base:2")) != first

    def test_all_that_was_declared_reaches_the_engine(self, bench: Bench) -> None:
        bench.build(
            replace(
                API,
                target="runtime",
                build_args=(("V", "1"),),
                build_options=("--network=host",),
            )
        )

        (request,) = bench.engine.builds
        assert (request.target, request.build_args) == ("runtime", {"V": "1"})
        assert (request.options, request.context) == (("--network=host",), bench.folder)
        assert request.dockerfile.read_text() == "FROM base\nFROM alpine\n"
        assert "out\n" in request.dockerfile.with_name("Dockerfile.dockerignore").read_text()

    def test_a_failed_build_is_a_failed_phase(self, bench: Bench) -> None:
        def fail(_: BuildRequest) -> None:
            raise CommandError(["docker"], exit_code=1, output="no space left")

        bench.engine.on_build = fail

        with pytest.raises(CommandError, match="no space left"):
            bench.build(API)

        assert bench.phases() == [("build api", False)]

    def test_waiting_for_a_slot_is_no_part_of_its_time(self, bench: Bench) -> None:
        """With many images and few slots the last ones were out of time before they began."""
        bench.slots = BuildSlots(1)
        with ThreadPoolExecutor(1) as pool:
            with bench.slots.take(exclusive=False, deadline=Deadline.after(20)):
                waited = pool.submit(bench.build, API)
                assert eventually((bench.folder / "out/build/api").exists)
                freed = Deadline.after(20).at
            waited.result(5)

        assert bench.engine.deadlines[0].at >= freed
        assert bench.timeline.phases[0].end - bench.timeline.phases[0].start < 5

    def test_what_cannot_be_read_is_named(self, bench: Bench) -> None:
        with pytest.raises(KindInfraError, match=r'^image "api": .*no-such-file'):
            bench.build(replace(API, dockerfile=bench.folder / "no-such-file"))

        assert bench.phases() == []


class TestAnImageThatIsThere:
    def test_a_prebuilt_image_is_taken_as_it_is(self, bench: Bench) -> None:
        bench.engine.images["registry/x:1"] = "sha256:1"

        built = bench.build(replace(API, prebuilt="registry/x:1"))

        assert built == BuiltImage(name="api", reference="registry/x:1", cached=True)
        assert (bench.engine.builds, bench.phases()) == ([], [])

    def test_a_prebuilt_image_that_is_not_there_is_named_with_what_to_do(
        self, bench: Bench
    ) -> None:
        with pytest.raises(KindInfraError) as caught:
            bench.build(replace(API, prebuilt="registry/x:1"))

        assert str(caught.value) == (
            'image "api": the prebuilt "registry/x:1" is not in the engine\n'
            "To fix: docker pull registry/x:1"
        )

    def test_an_archive_is_loaded_once_for_each_content(self, bench: Bench) -> None:
        archive = bench.folder / "api.tar"
        archive.write_text("one")
        image = replace(API, archive=archive)

        first, again = bench.build(image), bench.build(image)
        archive.write_text("two")
        other = bench.build(image)

        assert first == again != other
        assert bench.engine.loads == [(archive, first.reference), (archive, other.reference)]
        assert bench.phases() == []
