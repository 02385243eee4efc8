"""An OCI layout becomes an archive that Docker loads, or is named with what is wrong."""

from __future__ import annotations

import json
import os
import platform
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.images.archive import is_layout, load_image_file, unpack, write_docker_archive
from tests.fakes import FakeEngine
from tests.oci import INDEX, put_image, put_index, put_json

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline

REFERENCE = "localhost/api:1f"
HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    folder = tmp_path / "layout"
    folder.mkdir()
    return folder


def described(archive: Path) -> tuple[dict[str, Any], list[str]]:
    """Return Docker's manifest in an archive, and the names of all that is in it."""
    with tarfile.open(archive) as file:
        manifest = file.extractfile("manifest.json")
        assert manifest is not None
        (one,) = json.load(manifest)
        return one, sorted(file.getnames())


def converted(layout: Path) -> tuple[dict[str, Any], list[str]]:
    archive = layout.parent / "image.tar"
    write_docker_archive(layout, REFERENCE, archive)
    return described(archive)


def config_of(layout: Path, image: dict[str, Any]) -> str:
    manifest = json.loads((layout / "blobs/sha256" / image["digest"][7:]).read_text())
    return f"blobs/sha256/{manifest['config']['digest'][7:]}"


class TestTheArchive:
    def test_it_has_the_image_under_the_name_that_is_wanted(self, layout: Path) -> None:
        image = put_image(layout, "hello")
        one, names = converted(put_index(layout, image))

        assert one["RepoTags"] == [REFERENCE]
        assert one["Config"] == config_of(layout, image)
        assert names == sorted(["manifest.json", one["Config"], *one["Layers"]])

    def test_an_index_within_the_index_is_followed(self, layout: Path) -> None:
        image = put_image(layout, "hello")
        inner = put_json(layout, {"schemaVersion": 2, "manifests": [image]})
        put_index(layout, {"mediaType": INDEX, **inner})

        assert converted(layout)[0]["Config"] == config_of(layout, image)

    def test_of_several_platforms_this_machines_is_taken(self, layout: Path) -> None:
        other = put_image(layout, "other", architecture="s390x")
        image = put_image(layout, "hello", architecture=HERE)

        assert converted(put_index(layout, other, image))[0]["Config"] == config_of(layout, image)

    def test_attestations_are_no_images(self, layout: Path) -> None:
        image = put_image(layout, "hello")
        note = {"vnd.docker.reference.type": "attestation-manifest"}
        attestation = {**put_image(layout, "signed"), "annotations": note}

        one, _ = converted(put_index(layout, image, attestation))

        assert one["Config"] == config_of(layout, image)

    def test_one_image_under_two_names_is_one(self, layout: Path) -> None:
        image = put_image(layout, "hello")

        assert converted(put_index(layout, image, {**image, "annotations": {"x": "y"}}))


class TestWhatIsWrong:
    def test_several_images_are_named(self, layout: Path) -> None:
        put_index(layout, put_image(layout, "one"), put_image(layout, "two"))

        with pytest.raises(KindInfraError) as caught:
            converted(layout)

        assert str(caught.value) == (f'"{layout}" holds 2 images\nTo fix: one image in each layout')

    def test_a_layout_without_an_image_is_named(self, layout: Path) -> None:
        with pytest.raises(KindInfraError, match="holds 0 images"):
            converted(put_index(layout))

    @pytest.mark.parametrize(
        "index",
        [
            "{",
            "[]",
            '{"manifests": [{"digest": "sha256:00"}]}',
            '{"manifests": [{"digest": "sha256:../../../x"}]}',
            '{"manifests": [{}]}',
        ],
    )
    def test_a_broken_one_is_named(self, index: str, layout: Path) -> None:
        (layout / "index.json").write_text(index)

        with pytest.raises(KindInfraError, match="is no whole OCI layout"):
            converted(layout)


class TestWhatIsOne:
    def test_a_folder_with_an_index(self, layout: Path) -> None:
        assert not is_layout(layout)
        assert is_layout(put_index(layout))

    @pytest.mark.parametrize("mode", ["w", "w:gz"])
    def test_an_archive_of_such_a_folder(self, mode: Any, layout: Path) -> None:
        archive = layout.parent / "layout.tar"
        with tarfile.open(archive, mode) as file:
            file.add(put_index(layout, put_image(layout, "hello")), arcname=".")

        assert is_layout(archive)
        unpack(archive, layout.parent / "unpacked")
        assert (layout.parent / "unpacked" / "index.json").is_file()

    def test_an_archive_that_docker_loads_by_itself_is_none(self, layout: Path) -> None:
        archive = layout.parent / "image.tar"
        put_index(layout)
        (layout / "manifest.json").write_text("[]")
        with tarfile.open(archive, "w") as file:
            file.add(layout, arcname=".")

        assert not is_layout(archive)

    def test_any_other_file_is_none(self, layout: Path) -> None:
        (layout / "x.tar").write_text("no archive")

        assert not is_layout(layout / "x.tar")


def classic(archive: Path) -> str:
    """Load as an engine whose store is no containerd's does."""
    try:
        return str(described(archive)[0]["RepoTags"][0])
    except (KeyError, tarfile.TarError) as error:
        raise CommandError(["load"], exit_code=1, output=str(error)) from error


class TestLoading:
    def test_a_layout_is_loaded_under_its_name(self, layout: Path, soon: Deadline) -> None:
        engine = FakeEngine(on_load=classic)
        load_image_file(put_index(layout, put_image(layout, "x")), REFERENCE, engine, soon)

        assert list(engine.images) == [REFERENCE]

    def test_an_archive_of_a_layout_is_unpacked_if_the_engine_does_not_take_it(
        self, layout: Path, soon: Deadline
    ) -> None:
        engine, archive = FakeEngine(on_load=classic), layout.parent / "layout.tar.gz"
        with tarfile.open(archive, "w:gz") as file:
            file.add(put_index(layout, put_image(layout, "x")), arcname=".")

        load_image_file(archive, REFERENCE, engine, soon)

        assert list(engine.images) == [REFERENCE]
        assert sorted(path.name for path in layout.parent.iterdir()) == ["layout", "layout.tar.gz"]

    def test_one_that_is_packed_by_zstd_is_unpacked_too(self, layout: Path, soon: Deadline) -> None:
        engine, archive = FakeEngine(on_load=classic), layout.parent / "layout.tar.zst"
        with zstd.open(archive, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as file:
            file.add(put_index(layout, put_image(layout, "x")), arcname=".")

        load_image_file(archive, REFERENCE, engine, soon)

        assert list(engine.images) == [REFERENCE]

    def test_one_that_ends_too_early_is_the_engines_error(
        self, layout: Path, soon: Deadline
    ) -> None:
        archive = layout.parent / "layout.tar.zst"
        archive.write_bytes(zstd.compress(os.urandom(9000))[:5000])

        with pytest.raises(CommandError):
            load_image_file(archive, REFERENCE, FakeEngine(on_load=classic), soon)

    def test_what_is_called_otherwise_in_there_gets_the_name(
        self, layout: Path, soon: Deadline
    ) -> None:
        engine = FakeEngine(on_load=lambda _: "org/api:dev")
        (layout / "x.tar").write_text("")

        load_image_file(layout / "x.tar", REFERENCE, engine, soon)

        assert list(engine.images) == ["org/api:dev", REFERENCE]

    def test_a_file_that_is_no_archive_is_the_engines_error(
        self, layout: Path, soon: Deadline
    ) -> None:
        (layout / "x.tar").write_text("no archive")

        with pytest.raises(CommandError):
            load_image_file(layout / "x.tar", REFERENCE, FakeEngine(on_load=classic), soon)
