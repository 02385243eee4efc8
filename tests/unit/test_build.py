"""An image is built at most once for each content, and never more at a time than allowed."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.images.build import BuildSetup, build_image
from pytest_kindinfra.images.buildlog import last_line
from pytest_kindinfra.images.slots import BuildSlots
from pytest_kindinfra.model import BuiltImage, Image
from pytest_kindinfra.system.timeline import Deadline, Timeline
from tests.fakes import FakeEngine, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.protocols.engine import BuildRequest


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@dataclass
class Bench:
    """All that a build needs."""

    folder: Path
    engine: FakeEngine = field(default_factory=FakeEngine)
    timeline: Timeline = field(default_factory=Timeline)
    slots: BuildSlots = field(default_factory=lambda: BuildSlots(2))
    cancelled: threading.Event = field(default_factory=threading.Event)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def build(self, image: Image, *bases: BuiltImage, rank: float = 0.0) -> BuiltImage:
        setup = BuildSetup(
            folder=self.folder,
            output=self.folder / "out" / "build",
            engine=self.engine,
            slots=self.slots,
            timeline=self.timeline,
            names=self.names,
        )
        return build_image(
            image,
            bases=bases,
            setup=setup,
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
        assert bench.engine.built == list(built.contexts)
        assert {built.reference, *built.contexts} == bench.engine.images.keys()

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

    @pytest.mark.parametrize(
        "text",
        [
            "FROM registry.example/org/base:1",
            "FROM alpine\nCOPY --from=registry.example/org/base:1 / /",
            "ARG BASE=registry.example/org/base:1\nFROM ${BASE}",
        ],
    )
    def test_a_declared_base_may_be_called_by_a_registrys_name(
        self, text: str, bench: Bench
    ) -> None:
        """Else the registry's would be taken, which is an older one."""
        (bench.folder / "Dockerfile").write_text(text)
        bench.names = {"base": ("registry.example/org/base:1",)}

        bench.build(API, BuiltImage(name="base", reference="localhost/base:1", cached=False))

        contexts = bench.engine.builds[0].contexts
        assert contexts["registry.example/org/base:1"] == "localhost/base:1"

    def test_a_declared_image_of_a_further_context_is_the_one_that_was_built(
        self, bench: Bench
    ) -> None:
        image = replace(
            API, needs=("base",), build_options=("--build-context", "b=docker-image://base")
        )

        bench.build(image, BuiltImage(name="base", reference="localhost/base:1", cached=False))

        (request,) = bench.engine.builds
        assert request.options == ("--build-context", "b=docker-image://localhost/base:1")

    def test_relative_paths_in_its_flags_start_at_the_project(self, bench: Bench) -> None:
        bench.build(API)

        (request,) = bench.engine.builds
        assert (request.folder, request.source) == (bench.folder, bench.folder / "Dockerfile")

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

    def test_the_name_of_the_build_itself_does_not_stay(self, bench: Bench) -> None:
        built = bench.build(API)

        assert bench.engine.builds[0].reference not in built.names
        assert set(bench.engine.images) == set(built.names)

    def test_a_failed_build_is_a_failed_phase(self, bench: Bench) -> None:
        def fail(_: BuildRequest) -> None:
            raise CommandError(["docker"], exit_code=1, output="no space left")

        bench.engine.on_build = fail

        with pytest.raises(CommandError, match="no space left"):
            bench.build(API)

        assert bench.phases() == [("build api", False)]

    @pytest.mark.parametrize(
        ("timeout", "said", "fix"),
        [
            (30.0, "timeout in [images.api]", "raise timeout in [images.api]"),
            (
                None,
                "--kindinfra-timeout",
                "raise --kindinfra-timeout, or set timeout in [images.api]",
            ),
        ],
    )
    def test_one_that_takes_too_long_says_how_long_and_what_sets_that(
        self, timeout: float | None, said: str, fix: str, bench: Bench
    ) -> None:
        def hang(_: BuildRequest) -> None:
            raise CommandError(["docker"], exit_code=None, output="#5 compiling\n", what="building")

        bench.engine.on_build = hang

        with pytest.raises(CommandError) as caught:
            bench.build(replace(API, timeout=timeout))

        assert str(caught.value).splitlines()[2:] == [
            "    #5 compiling",
            f"    It was stopped after {timeout or 20:.0f} s, the limit of {said}",
            f"    To fix: {fix}",
        ]

    def test_waiting_for_a_slot_is_no_part_of_its_time(self, bench: Bench) -> None:
        """With many images and few slots the last ones were out of time before they began."""
        bench.slots = BuildSlots(1)
        with ThreadPoolExecutor(1) as pool:
            with bench.slots.queue() as place, bench.slots.turn(place, Deadline.after(20)):
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
            with bench.slots.queue(weight=2) as place:
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


class TestAFileThatChangesDuringItsBuild:
    """Between hashing and reading lie minutes where builds wait for each other."""

    def change(self, bench: Bench, *texts: str) -> None:
        """Have a build see one text after the other, the last one for good."""
        left = iter(texts)

        def save(_: BuildRequest) -> None:
            if (text := next(left, None)) is not None:
                (bench.folder / "main.go").write_text(text)

        bench.engine.on_build = save

    def test_no_wrong_content_gets_the_name(self, bench: Bench) -> None:
        old = bench.build(API)
        bench.engine.images.clear()
        self.change(bench, "package new\n")

        built = bench.build(API)

        assert built.reference != old.reference
        assert set(bench.engine.images) == set(built.names)
        assert bench.engine.built == [*old.contexts, *old.contexts, *built.contexts]  # in order

    def test_a_change_that_is_undone_before_the_builds_end_counts(self, bench: Bench) -> None:
        """`git checkout -` and back: the files are as they were, the image is not."""
        path = bench.folder / "main.go"
        old = path.read_text()
        os.utime(path, (1, 1))

        def there_and_back(_: BuildRequest) -> None:
            if not bench.engine.builds:
                path.write_text("package new\n")
                path.write_text(old)

        bench.engine.on_build = there_and_back

        bench.build(API)

        assert len(bench.engine.builds) == 2

    def test_a_new_file_counts(self, bench: Bench) -> None:
        def add(_: BuildRequest) -> None:
            if not bench.engine.builds:
                (bench.folder / "new.go").write_text("package main\n")

        bench.engine.on_build = add

        bench.build(API)

        assert len(set(bench.engine.built)) == 2

    def test_a_folder_that_is_gone_for_a_moment_counts(self, bench: Bench) -> None:
        """`git checkout` of another branch, and back."""
        (bench.folder / "app").mkdir()
        (bench.folder / "app" / "Dockerfile").write_text("FROM scratch\n")

        def move(_: BuildRequest) -> None:
            (bench.folder / "app").rename(bench.folder / "aside")

        bench.engine.on_build = move

        with pytest.raises(KindInfraError, match='image "app": cannot read its build context'):
            bench.build(Image(name="app", context=Path("app")))
        assert bench.engine.images == {}

    def test_what_is_left_out_may_change(self, bench: Bench) -> None:
        bench.engine.on_build = lambda _: (bench.folder / "out" / "log").write_text("x")

        bench.build(API)

        assert len(bench.engine.builds) == 1

    def test_one_that_never_stays_as_it_is_is_named_and_nothing_is_left(self, bench: Bench) -> None:
        self.change(bench, *(f"package p{number}\n" for number in range(9)))

        with pytest.raises(KindInfraError) as caught:
            bench.build(API)

        assert str(caught.value) == (
            'image "api": it was built 3 times, and each time files of its context'
            ' changed during the build, so its content is unknown: "main.go"\n'
            "To fix: stop the program that writes there, or exclude these files: `ignore` in"
            " [images.api], or .dockerignore"
        )
        assert bench.engine.images == {}


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
