"""Old images of ours go, and nothing else: by name, age, label, and never under a live run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.images.cleanup import Discarded, discard_images
from pytest_kindinfra.model import BuiltImage
from pytest_kindinfra.protocols.engine import OwnImage
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.memory import ImageUse, note_use, read_uses
from pytest_kindinfra.state.records import ImageReady
from tests.fakes import FakeEngine, FakeProvider

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline

OLD, BEFORE, NEW = 100.0, 1000.0, 2000.0
API = "localhost/api:1f"


@dataclass
class Bench:
    """An engine with images, and what is known of their uses."""

    folder: Path
    deadline: Deadline
    engine: FakeEngine = field(default_factory=FakeEngine)
    provider: FakeProvider = field(default_factory=FakeProvider)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def has(self, *references: str, name: str = "api", since: float = OLD) -> None:
        self.engine.own.append(OwnImage(name=name, references=references, since=since))

    def used(self, reference: str, *, at: float = OLD, run: str = "gone") -> RunDirectory:
        directory = RunDirectory(self.folder / run)
        note_use(self.cache, [reference], ImageUse(run=directory.path, at=at))
        return directory

    def discard(self) -> Discarded:
        return discard_images(
            self.engine,
            self.provider,
            cache=self.cache,
            before=BEFORE,
            deadline=self.deadline,
        )


@pytest.fixture
def bench(tmp_path: Path, soon: Deadline) -> Bench:
    return Bench(tmp_path, soon)


def test_an_old_image_that_nobody_used_goes_with_what_was_known_of_it(bench: Bench) -> None:
    bench.has(API)
    bench.used(API)

    assert bench.discard() == Discarded(removed=[API])
    assert bench.engine.removed == [API]
    assert read_uses(bench.cache) == {}


def test_one_of_which_nothing_is_known_goes_by_its_age(bench: Bench) -> None:
    bench.has(API)
    bench.has("localhost/web:2e", name="web", since=NEW)

    assert bench.discard() == Discarded(removed=[API])


def test_one_that_was_used_a_short_while_ago_stays_however_old_it_is(bench: Bench) -> None:
    """Sources that rarely change have old images, which each run uses."""
    bench.has(API)
    bench.used(API, at=NEW)

    assert bench.discard() == Discarded()


def test_names_that_others_gave_stay(bench: Bench) -> None:
    """An image of ours pushed elsewhere, and one that somebody built on ours, with our label."""
    bench.has(API, "registry.example/api:prod")
    bench.has("mine:1", "localhost/mine:1", "localhost/api-more:1")

    assert bench.discard() == Discarded(removed=[API])


def test_tags_by_a_template_go_too(bench: Bench) -> None:
    bench.has(API, "localhost/api:api-jordi-abc123f-1734278400")

    assert len(bench.discard().removed) == 2


def test_a_context_name_goes_by_its_own_last_use(bench: Bench) -> None:
    """Each edit in a monorepo gives the same image one more, which makes the image look new."""
    old, last, of_others = (f"localhost/api:ctx-{one}" for one in "abc")
    bench.has(API, old, last, of_others, since=NEW)
    bench.used(API)
    bench.used(old)
    bench.used(last, at=NEW)

    assert bench.discard() == Discarded(removed=[old])


def test_all_names_of_what_a_live_run_uses_stay(bench: Bench) -> None:
    context = "localhost/api:ctx-1"
    bench.has(API, context)
    run = bench.used(API, run="live")
    image = BuiltImage(name="api", reference=API, cached=True, contexts=(context,))
    run.write(ImageReady(image=image), "api")
    lock = hold(run.lock)

    try:
        assert bench.discard() == Discarded()
    finally:
        lock.release()


def test_what_a_live_run_noted_last_stays_however_long_it_lives(bench: Bench) -> None:
    bench.has(API)
    run = bench.used(API, run="live")
    run.write(ImageReady(image=BuiltImage(name="api", reference=API, cached=True)), "api")
    lock = hold(run.lock)

    try:
        assert bench.discard() == Discarded()
    finally:
        lock.release()
    assert bench.discard() == Discarded(removed=[API])


def test_what_the_run_of_a_cluster_uses_stays_without_a_note(bench: Bench) -> None:
    """Its notes went to another user's cache folder."""
    also = "localhost/api:ci-7"
    bench.has(API, also)
    run = RunDirectory(bench.folder / "live")
    image = BuiltImage(name="api", reference=API, cached=True, also=(also,))
    run.write(ImageReady(image=image), "api")
    bench.provider.runs["kindinfra-1"] = run.path
    lock = hold(run.lock)

    try:
        assert bench.discard() == Discarded()
    finally:
        lock.release()


def test_what_a_dead_run_used_long_ago_goes(bench: Bench) -> None:
    bench.has(API)
    run = bench.used(API, run="dead")
    run.write(ImageReady(image=BuiltImage(name="api", reference=API, cached=True)), "api")
    hold(run.lock).release()

    assert bench.discard() == Discarded(removed=[API])


def test_one_that_a_container_runs_is_named_and_the_others_go(bench: Bench) -> None:
    web = "localhost/web:2e"
    bench.has(API)
    bench.has(web, name="web")
    bench.engine.in_use.add(API)

    done = bench.discard()

    assert done.removed == [web]
    assert list(done.left) == [API]
    assert "in use" in done.left[API]


def test_notes_that_are_broken_count_as_none(bench: Bench) -> None:
    bench.has(API)
    bench.used(API, at=NEW)
    for path in (bench.cache / "images").iterdir():
        path.write_text("{")

    assert bench.discard() == Discarded(removed=[API])
