"""An image is built at most once for each content, and never more at a time than allowed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.model import BuiltImage, Image
from pytest_kindinfra.slots import BuildSlots
from pytest_kindinfra.steps.build import Workshop, build_image, last_line
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


@dataclass
class Bench:
    """All that a build needs."""

    folder: Path
    engine: FakeEngine = field(default_factory=FakeEngine)
    timeline: Timeline = field(default_factory=Timeline)
    slots: BuildSlots = field(default_factory=lambda: BuildSlots(2))
    cancelled: threading.Event = field(default_factory=threading.Event)

    def build(self, image: Image, *bases: BuiltImage, rank: float = 0.0) -> BuiltImage:
        workshop = Workshop(
            folder=self.folder,
            output=self.folder / "out" / "build",
            engine=self.engine,
            slots=self.slots,
            timeline=self.timeline,
        )
        return build_image(
            image,
            bases=bases,
            workshop=workshop,
            rank=rank,
            deadline=lambda seconds: Deadline.after(seconds or 20, self.cancelled),
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
            with bench.slots.place() as place, bench.slots.turn(place, Deadline.after(20)):
                waited = pool.submit(bench.build, API)
                assert eventually((bench.folder / "out/build/api").exists)
                freed = Deadline.after(20).at
            waited.result(5)

        assert bench.engine.deadlines[0].at >= freed
        assert bench.timeline.phases[0].end - bench.timeline.phases[0].start < 5

    def test_a_timeout_of_its_own_is_that_of_its_build(self, bench: Bench) -> None:
        bench.build(replace(API, timeout=3000))

        assert bench.engine.deadlines[0].left > 2000

    def test_a_heavy_image_takes_several_slots(self, bench: Bench) -> None:
        bench.slots = BuildSlots(3)
        others: list[bool] = []

        def look(_: BuildRequest) -> None:
            with bench.slots.place(weight=2) as place:
                place.waits = True
                others.append(bench.slots.has_room_for(place))

        bench.engine.on_build = look
        bench.build(replace(API, weight=2))
        bench.build(replace(API, weight=1, target="other"))
        bench.build(replace(API, exclusive=True, target="third"))

        assert others == [False, True, False]

    def test_what_cannot_be_read_is_named(self, bench: Bench) -> None:
        with pytest.raises(KindInfraError, match=r'^image "api": .*no-such-file'):
            bench.build(replace(API, dockerfile=bench.folder / "no-such-file"))

        assert bench.phases() == []


class TestTheLogOfABuild:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("", ""),
            ("#1 begun\n#2 half a li", "#1 begun"),
            ("#1 begun\n#2 done\n\n  \n", "#2 done"),
            ("x" * 10_000 + "\n#9 last\n", "#9 last"),
        ],
    )
    def test_its_last_whole_line_says_what_goes_on(
        self, text: str, line: str, tmp_path: Path
    ) -> None:
        (tmp_path / "api.log").write_text(text)

        assert last_line(tmp_path / "api.log") == line

    def test_one_that_is_not_there_yet_says_nothing(self, tmp_path: Path) -> None:
        assert last_line(tmp_path / "api.log") == ""

    def test_who_watches_the_build_sees_it(self, bench: Bench) -> None:
        seen: list[str] = []

        def look(_: BuildRequest) -> None:
            (bench.folder / "out" / "build" / "api.log").write_text("#5 compiling\n")
            seen.extend(one.says() for one in bench.timeline.running)

        bench.engine.on_build = look
        bench.build(API)

        assert seen == ["#5 compiling"]


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
        assert bench.engine.loads == [archive, archive]
        assert {first.reference, other.reference} <= bench.engine.images.keys()
        assert bench.phases() == []


def test_a_base_image_that_cannot_be_pulled_is_named_with_a_remedy(bench: Bench) -> None:
    says = (
        "ERROR: failed to solve: python:3.99: failed to resolve source metadata for "
        "docker.io/library/python:3.99: docker.io/library/python:3.99: not found"
    )

    def fail(_: BuildRequest) -> None:
        raise CommandError(["docker"], exit_code=1, output=says, what='building image "api"')

    bench.engine.on_build = fail
    with pytest.raises(CommandError) as caught:
        bench.build(API)

    text = str(caught.value)
    assert 'image "api": the base image "docker.io/library/python:3.99" cannot be pulled' in text
    assert "To fix: correct the image's name or tag" in text
