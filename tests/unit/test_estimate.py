"""How much room images will take: what earlier runs and the engine know of them, and no guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.model import Declaration, Image, Plan, Service
from pytest_kindinfra.protocols.engine import ImageSize, OwnImage
from pytest_kindinfra.run.machine import Room, estimate_room
from pytest_kindinfra.state.memory import file_for, keep_sizes, read_sizes
from tests.fakes import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline

MB = 1_000_000
BASE, API, WEB = {"sha256:base": 200 * MB}, {"sha256:api": 50 * MB}, {"sha256:web": 30 * MB}


def plan(folder: Path, *images: Image, external: tuple[str, ...] = ()) -> Plan:
    service = Service(name="s", images=tuple(image.name for image in images))
    return Plan(
        declaration=Declaration(folder=folder),
        services=(service,),
        images=images,
        external={"s": external},
    )


def room(
    folder: Path, engine: FakeEngine, deadline: Deadline, *images: Image, external: Any = ()
) -> Room:
    made = plan(folder, *images, external=external)
    return estimate_room(made, cache=folder / "cache", engine=engine, deadline=deadline)


def had(*names: str) -> FakeEngine:
    """Return an engine with images of ours."""
    return FakeEngine(own=[OwnImage(name=name, references=(), since=0) for name in names])


def test_of_images_never_seen_nothing_is_said(tmp_path: Path, soon: Deadline) -> None:
    images = (Image(name="api"), Image(name="x", prebuilt="x:1"))

    assert room(tmp_path, FakeEngine(), soon, *images, external=("redis:7",)) == Room()


def test_layers_that_images_share_count_once(tmp_path: Path, soon: Deadline) -> None:
    """A kind node has each of them twice: as it was sent, and unpacked."""
    keep_sizes(tmp_path / "cache", tmp_path, {"api": BASE | API, "web": BASE | WEB})
    engine = had("api", "web")

    both = room(tmp_path, engine, soon, Image(name="api"), Image(name="web"))
    one = room(tmp_path, engine, soon, Image(name="web"))

    assert (both, one) == (Room(in_node=560 * MB), Room(in_node=460 * MB))


def test_what_the_engine_has_not_got_will_be_built_there(tmp_path: Path, soon: Deadline) -> None:
    keep_sizes(tmp_path / "cache", tmp_path, {"api": BASE | API, "web": BASE | WEB})
    images = (Image(name="api"), Image(name="web"))

    assert room(tmp_path, had("api"), soon, *images).builds == 30 * MB
    assert room(tmp_path, had(), soon, *images).builds == 280 * MB


def test_images_of_the_engine_that_no_run_has_loaded_are_asked_for(
    tmp_path: Path, soon: Deadline
) -> None:
    keep_sizes(tmp_path / "cache", tmp_path, {"docker.io/library/redis:7": {"sha256:r": 10 * MB}})
    sizes = {
        "redis:7": ImageSize(size=999 * MB, layers=("sha256:r",)),
        "postgres:15": ImageSize(size=300 * MB, layers=("sha256:d", "sha256:p")),
        "x:1": ImageSize(size=200 * MB, layers=("sha256:d", "sha256:x")),
        "y:1": ImageSize(size=5 * MB, layers=("sha256:y",)),
    }
    images = (Image(name="x", prebuilt="x:1"), Image(name="y", prebuilt="y:1"))

    found = room(
        tmp_path, FakeEngine(sizes=sizes), soon, *images, external=("redis:7", "postgres:15")
    )

    assert found == Room(
        in_node=2 * (10 + 300 + 5) * MB
    )  # x shares a layer, nobody knows how large


def test_an_archive_is_at_least_as_large_as_its_file(tmp_path: Path, soon: Deadline) -> None:
    (tmp_path / "api.tar").write_bytes(bytes(1000))
    images = (
        Image(name="api", archive=tmp_path / "api.tar"),
        Image(name="gone", archive=tmp_path / "gone.tar"),
    )

    assert room(tmp_path, FakeEngine(), soon, *images) == Room(in_node=2000)


def test_an_engine_that_does_not_answer_has_nothing(tmp_path: Path, soon: Deadline) -> None:
    class Silent(FakeEngine):
        def image_sizes(
            self, references: Sequence[str], deadline: Deadline
        ) -> dict[str, ImageSize]:
            raise KindInfraError(str((references, deadline)))

        def own_images(self, deadline: Deadline) -> list[OwnImage]:
            raise KindInfraError(str(deadline))

    keep_sizes(tmp_path / "cache", tmp_path, {"api": API})

    found = room(tmp_path, Silent(), soon, Image(name="api"), external=("redis:7",))

    assert found == Room(in_node=100 * MB)


class TestMemory:
    def test_what_a_run_did_not_load_stays_as_it_was(self, tmp_path: Path) -> None:
        keep_sizes(tmp_path, tmp_path, {"api": API, "web": WEB})
        keep_sizes(tmp_path, tmp_path, {"api": BASE})
        keep_sizes(tmp_path, tmp_path, {})

        assert read_sizes(tmp_path, tmp_path) == {"api": BASE, "web": WEB}

    @pytest.mark.parametrize("text", ["", "[]", '{"images": 3}', '{"images": {"api": 3}}'])
    def test_a_damaged_file_says_nothing(self, tmp_path: Path, text: str) -> None:
        keep_sizes(tmp_path, tmp_path, {"api": API})
        file_for(tmp_path, "sizes", tmp_path).write_text(text)

        assert read_sizes(tmp_path, tmp_path) == {}
