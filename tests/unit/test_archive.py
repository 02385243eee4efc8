"""An archive reaches each reader without the blobs that it holds, and otherwise unchanged."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kindinfra.images.stream import DeltaCopy
from tests.fake_archives import digest, files_of, save, tar

BASE, TOP = b"base" * 1000, b"top" * 100


def copied(archive: bytes, *held: set[str]) -> list[bytes]:
    """Return what each sink gets."""
    sinks = [io.BytesIO() for _ in held]
    DeltaCopy([frozenset(one) for one in held])(io.BytesIO(archive), sinks)
    return [sink.getvalue() for sink in sinks]


def path(blob: bytes) -> str:
    return f"blobs/{digest(blob).replace(':', '/')}"


def test_what_a_reader_holds_is_left_out_for_it_alone() -> None:
    archive = save({"localhost/api:1": [BASE, TOP]})
    whole = files_of(archive)

    one, other, third = copied(archive, {digest(BASE)}, set(), {digest(BASE), digest(TOP)})

    assert files_of(one) == {name: whole[name] for name in whole if name != path(BASE)}
    assert files_of(other) == whole
    assert {*whole} - {*files_of(third)} == {path(BASE), path(TOP)}


def test_it_knows_how_large_the_archive_is_and_which_blobs_are_in_it() -> None:
    archive = tar([(path(BASE), BASE), ("index.json", b"{}")])
    copy = DeltaCopy([frozenset({digest(BASE)})])

    copy(io.BytesIO(archive), [io.BytesIO()])

    assert copy.sizes == {digest(BASE): 4000}
    assert copy.size == 512 + 4096 + 512 + 512 + 1024


def test_it_knows_the_layers_of_each_image_also_of_those_left_out() -> None:
    archive = save({"localhost/api:1": [BASE, TOP], "redis:7": [BASE]})
    copy = DeltaCopy([frozenset({digest(BASE)})])

    copy(io.BytesIO(archive), [io.BytesIO()])

    assert copy.layers() == {
        "localhost/api:1": {digest(BASE): 4000, digest(TOP): 300},
        "redis:7": {digest(BASE): 4000},
    }


@pytest.mark.parametrize("described", [b"", b"{", b"[1]", b"{}", b'[{"RepoTags": ["x:1"]}]'])
def test_of_an_archive_that_describes_nothing_no_layers_are_known(described: bytes) -> None:
    archive = tar([(path(BASE), BASE), ("manifest.json", described)])
    copy = DeltaCopy([frozenset()])

    copy(io.BytesIO(archive), [io.BytesIO()])

    assert copy.layers() == {}


@pytest.mark.parametrize(
    "name", ["0a1b/layer.tar", "0a1b.json", "blobs/sha256", "x/blobs/sha256/0a"]
)
def test_what_is_not_named_by_a_digest_is_never_left_out(name: str) -> None:
    """Docker 24 and older name layers by ids, which containerd does not know."""
    archive = tar([(name, BASE)])

    assert files_of(copied(archive, {digest(BASE), "sha256:0a"})[0]) == {name: BASE}


def test_links_and_folders_stay_what_they_are() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("blobs", tarfile.DIRTYPE), ("a/layer.tar", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../b/layer.tar" if kind == tarfile.SYMTYPE else ""
            archive.addfile(member)

    with tarfile.open(fileobj=io.BytesIO(copied(out.getvalue(), set())[0])) as copy:
        found = [(one.name, one.type, one.linkname) for one in copy]

    assert found == [
        ("blobs", tarfile.DIRTYPE, ""),
        ("a/layer.tar", tarfile.SYMTYPE, "../b/layer.tar"),
    ]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_come_through(kind: int) -> None:
    name = "folder/" * 40 + "layer.tar"

    assert files_of(copied(tar([(name, TOP)], format=kind), set())[0]) == {name: TOP}


@given(
    st.lists(
        st.tuples(st.binary(max_size=3000), st.booleans()), max_size=8, unique_by=lambda x: x[0]
    )
)
def test_what_is_copied_and_what_is_held_are_together_the_whole(
    blobs: list[tuple[bytes, bool]],
) -> None:
    archive = tar([(path(blob), blob) for blob, _ in blobs])
    held = {digest(blob) for blob, there in blobs if there}

    (came,) = copied(archive, held)

    assert files_of(came) == {path(blob): blob for blob, there in blobs if not there}


def test_an_archive_that_is_cut_off_is_an_error() -> None:
    """A reader would take the rest for whole, since an archive may end after any file."""
    archive = save({"localhost/api:1": [BASE, TOP]})

    with pytest.raises(tarfile.ReadError):
        copied(archive[:3000], set())


def test_what_is_no_archive_is_an_error() -> None:
    with pytest.raises(tarfile.ReadError):
        copied(b"<html>" * 1000, set())
