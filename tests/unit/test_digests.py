"""A file is read again exactly when the file system does not vouch for it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.images import digests as digests_module
from pytest_kindinfra.images.digests import Digests
from pytest_kindinfra.state.memory import file_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    (folder / "b.txt").write_text("two")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def _old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two seconds go by after each change, without waiting for them."""
    monkeypatch.setattr(digests_module, "RACY", -3600.0)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ask(folder: Path, cache: Path, *names: str) -> list[str]:
    """Return digests as a run would: with what earlier runs kept, and keep them."""
    digests = Digests(cache)
    with digests.of(folder) as files:
        found = [files.digest(name, (folder / name).lstat()) for name in names or ("a.txt",)]
    assert digests.keep() == []
    return found


def forge(folder: Path, cache: Path) -> None:
    """Change what is kept of each file, so that it shows whether that is used."""
    path = file_for(cache, "digests", folder)
    value = json.loads(path.read_text())
    value["files"] = {name: [*entry[:-1], "kept"] for name, entry in value["files"].items()}
    path.write_text(json.dumps(value))


@pytest.mark.usefixtures("_old_files")
class TestAFileThatWasReadBefore:
    def test_it_is_not_read_again(self, folder: Path, cache: Path) -> None:
        assert ask(folder, cache, "a.txt", "b.txt") == [sha256("one"), sha256("two")]
        forge(folder, cache)

        assert ask(folder, cache, "a.txt", "b.txt") == ["kept", "kept"]

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda f: f.write_text("eno"), id="written anew"),
            pytest.param(lambda f: f.write_text("longer"), id="of another size"),
            pytest.param(lambda f: os.utime(f, (1, 1)), id="with other times"),
            pytest.param(lambda f: f.chmod(0o600), id="with another mode"),
        ],
    )
    def test_it_is_read_again_once_it_was_touched(
        self, change: Callable[[Path], object], folder: Path, cache: Path
    ) -> None:
        ask(folder, cache)
        forge(folder, cache)
        change(folder / "a.txt")

        assert ask(folder, cache) == [sha256((folder / "a.txt").read_text())]

    def test_a_change_that_hides_behind_the_old_time_and_size_is_seen(
        self, folder: Path, cache: Path
    ) -> None:
        """Like `touch --reference`, or an archive unpacked over it."""
        path, before = folder / "a.txt", (folder / "a.txt").stat()
        ask(folder, cache)
        path.write_text("eno")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        assert ask(folder, cache) == [sha256("eno")]

    def test_another_file_under_its_name_is_seen(self, folder: Path, cache: Path) -> None:
        ask(folder, cache)
        (folder / "new").write_text("eno")
        (folder / "new").replace(folder / "a.txt")

        assert ask(folder, cache) == [sha256("eno")]

    def test_files_of_other_images_stay_known_and_those_that_are_gone_do_not(
        self, folder: Path, cache: Path
    ) -> None:
        """Two images share a folder, and a run may need one of them only."""
        ask(folder, cache, "b.txt")
        (folder / "c.txt").write_text("three")
        ask(folder, cache, "c.txt")
        (folder / "c.txt").unlink()
        ask(folder, cache, "a.txt")

        kept = json.loads(file_for(cache, "digests", folder).read_text())
        assert sorted(kept["files"]) == ["a.txt", "b.txt"]

    def test_the_same_folder_by_another_path_is_known(
        self, folder: Path, cache: Path, tmp_path: Path
    ) -> None:
        ask(folder, cache)
        forge(folder, cache)
        (tmp_path / "link").symlink_to(folder)

        assert ask(tmp_path / "link", cache) == ["kept"]


class TestAFileThatMayStillChange:
    def test_what_was_written_a_moment_ago_is_not_kept(self, folder: Path, cache: Path) -> None:
        """A second change within one tick of the clock would leave the same times."""
        os.utime(folder / "a.txt", (1, 1))  # its ctime still says when that was

        assert ask(folder, cache) == [sha256("one")]
        assert not cache.exists()

    def test_what_is_changed_while_it_is_read_is_not_kept(
        self, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(digests_module, "RACY", -3600.0)
        path = folder / "pipe.txt"
        path.write_text("x" * 5_000_000)
        begun, go = threading.Event(), threading.Event()
        real = hashlib.file_digest

        def slow(file: object, name: str) -> object:
            begun.set()
            go.wait(60)
            return real(file, name)  # type: ignore[arg-type]

        monkeypatch.setattr(hashlib, "file_digest", slow)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, folder, cache, "pipe.txt")
            assert begun.wait(60)
            path.write_text("y" * 5_000_000)
            go.set()
            asked.result(5)

        assert not cache.exists()


class TestTheMemory:
    @pytest.mark.parametrize(
        "text",
        ["{", "[]", '{"files": 3}', '{"files": {"a.txt": null}}', '{"files": {"a.txt": []}}'],
    )
    def test_a_broken_one_counts_as_none(self, text: str, folder: Path, cache: Path) -> None:
        path = file_for(cache, "digests", folder)
        path.parent.mkdir(parents=True)
        path.write_text(text)

        with Digests(cache).of(folder) as files:
            assert files.digest("a.txt", (folder / "a.txt").lstat()) == sha256("one")

    def test_what_is_wrong_with_it_is_said(self, folder: Path, cache: Path) -> None:
        path = file_for(cache, "digests", folder)
        path.parent.mkdir(parents=True)
        path.write_text("{")
        digests = Digests(cache)
        with digests.of(folder):
            pass

        (problem,) = digests.keep()

        assert problem.startswith(f"{path}: Expecting property name")

    def test_without_a_folder_nothing_is_kept(self, folder: Path) -> None:
        digests = Digests()
        with digests.of(folder) as files:
            assert files.digest("a.txt", (folder / "a.txt").lstat()) == sha256("one")

        assert digests.keep() == []

    @pytest.mark.usefixtures("_old_files")
    def test_several_threads_read_each_file_once(self, folder: Path, cache: Path) -> None:
        digests, inside, most = Digests(cache), [0], [0]

        def use(_: int) -> str:
            with digests.of(folder) as files:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                found = files.digest("a.txt", (folder / "a.txt").lstat())
                inside[0] -= 1
                return found

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(use, range(40))) == {sha256("one")}
        assert most == [1]

    def test_a_file_that_cannot_be_read_is_an_error(self, folder: Path) -> None:
        info = (folder / "a.txt").lstat()
        (folder / "a.txt").unlink()

        with Digests().of(folder) as files, pytest.raises(FileNotFoundError):
            files.digest("a.txt", info)
