"""Images that this run does not build, in a real Docker: saved by another job, or as archives.

No cluster is made here: what matters is what the engine has afterwards.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra import build_images, resolve, save_images
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.archive import load_image_file
from pytest_kindinfra.images.digests import Digests
from pytest_kindinfra.images.saved import ImageSources, find_images, read_saved_images
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import make_tools
from tests.e2e.runs import run_pytest
from tests.oci import put_image, put_index

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kindinfra.model import BuiltImage

DECLARATION = """
[images.base]
context = "base"

[images.web]
context = "web"
needs = ["base"]

[services.web]
manifests = ["web.yaml"]
"""
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: web, image: web}]}
"""
TEST = """
import pytest

@pytest.mark.kindinfra("web")
def test_web(): ...
"""
LABEL = ("--filter", "label=dev.kindinfra.image")


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True)
    return done.stdout


def soon() -> Deadline:
    return Deadline.after(120)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """A project whose images nobody has; what it made is removed."""
    folder = tmp_path / "shop"
    for name, start in (("base", "scratch"), ("web", "base")):
        (folder / name).mkdir(parents=True)
        (folder / name / "Dockerfile").write_text(f"FROM {start}\nCOPY . /{name}\n")
        (folder / name / "new").write_text(str(tmp_path))
    (folder / "kindinfra.toml").write_text(DECLARATION)
    (folder / "web.yaml").write_text(MANIFEST)
    (folder / "test_web.py").write_text(TEST)
    before = set(docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *LABEL).split())
    yield folder
    ours = {f"localhost/{name}" for name in ("base", "web")}
    after = set(docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *LABEL).split())
    for name in after - before:
        if name.partition(":")[0] in ours and name in made(folder):
            docker("image", "rm", name)


def made(folder: Path) -> str:
    """Return all that runs in that folder noted, so that nobody else's image is removed."""
    notes = folder.glob(".kindinfra/*/state/image-*.json")
    return "".join(path.read_text() for path in notes)


def forget(images: dict[str, BuiltImage]) -> None:
    """Have an engine without them, as the next job of a pipeline has."""
    docker("image", "rm", *(name for one in images.values() for name in one.names))


def find(folder: Path, saved: Path | None = None) -> dict[str, BuiltImage]:
    shelf = ImageSources(
        folder=folder,
        engine=make_tools().engine,
        digests=Digests(),
        saved=(saved, read_saved_images(saved)) if saved else None,
    )
    return find_images(resolve(folder=folder), shelf, before=lambda _: None, deadline=soon)


def test_what_one_job_saved_the_next_one_takes(shop: Path, tmp_path: Path) -> None:
    plan = resolve(folder=shop)
    built = build_images(plan)
    save_images(plan, built, folder=tmp_path / "out")
    forget(built)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(shop, elsewhere, ignore=shutil.ignore_patterns(".kindinfra"))

    found = find(elsewhere, tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json",
        "web.tar",
    ]
    assert found["web"].reference == built["web"].reference
    assert docker("image", "inspect", "--format", "{{.Id}}", found["web"].reference)


def test_a_changed_source_is_told_before_anything_is_loaded(shop: Path, tmp_path: Path) -> None:
    plan = resolve(folder=shop)
    built = build_images(plan)
    save_images(plan, built, folder=tmp_path / "out")
    (shop / "base" / "new").write_text("changed")

    with pytest.raises(KindInfraError, match="but the files here give localhost/web:ctx-"):
        find(shop, tmp_path / "out")


def test_without_builds_a_run_says_what_is_missing_and_makes_no_cluster(shop: Path) -> None:
    run = run_pytest(shop, "--kindinfra-no-build")

    assert run.exit_code == 1
    assert "is not in the engine\nTo fix: kindinfra build web\n" in run.output
    assert run.report["phases"] == []


def test_the_command_builds_what_such_a_run_needs(shop: Path) -> None:
    main = "from pytest_kindinfra.cli import main; raise SystemExit(main())"
    subprocess.run([sys.executable, "-c", main, "build", "web"], cwd=shop, check=True)

    assert list(find(shop)) == ["web"]


def test_old_images_are_found_by_their_label_and_removed_by_name(shop: Path) -> None:
    built, engine = build_images(resolve(folder=shop), tag="e2e-{random}"), make_tools().engine
    web = built["web"]
    (own,) = [one for one in engine.own_images(soon()) if web.reference in one.references]

    assert (own.name, set(own.references)) == ("web", set(web.names))
    for one in built.values():
        for name in one.also:
            engine.remove(name, soon())
    (own,) = [one for one in engine.own_images(soon()) if web.reference in one.references]
    assert set(own.references) == {web.reference, *web.contexts}


def as_it_is(archive: Path) -> Path:
    return archive


def gzipped(archive: Path) -> Path:
    packed = archive.with_suffix(".tar.gz")
    packed.write_bytes(gzip.compress(archive.read_bytes()))
    return packed


def zstandard(archive: Path) -> Path:
    packed = archive.with_suffix(".tar.zst")
    packed.write_bytes(zstd.compress(archive.read_bytes()))
    return packed


def layout(archive: Path) -> Path:
    folder = archive.parent / "layout"
    folder.mkdir()
    return put_index(folder, put_image(folder, str(folder)))


def layout_in_an_archive(archive: Path) -> Path:
    packed = archive.parent / "layout.tar.gz"
    with tarfile.open(packed, "w:gz") as file:
        file.add(layout(archive), arcname=".")
    return packed


def layout_packed_by_zstd(archive: Path) -> Path:
    packed = archive.parent / "layout.tar"
    with tarfile.open(packed, "w") as file:
        file.add(layout(archive), arcname=".")
    return zstandard(packed)


FORMS = [as_it_is, gzipped, zstandard, layout, layout_in_an_archive, layout_packed_by_zstd]


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_an_archive_is_loaded_whatever_its_form(
    form: Callable[[Path], Path], shop: Path, tmp_path: Path
) -> None:
    built = build_images(resolve(folder=shop))
    docker("save", "--output", str(tmp_path / "web.tar"), built["web"].reference)
    path = form(tmp_path / "web.tar")
    forget(built)
    reference = f"localhost/web:e2e-{form.__name__.replace('_', '-')}"

    load_image_file(path, reference, make_tools().engine, soon())

    (image,) = json.loads(docker("image", "inspect", reference))
    docker("image", "rm", *image["RepoTags"])
    assert len(image["RootFS"]["Layers"]) in {1, 2}
