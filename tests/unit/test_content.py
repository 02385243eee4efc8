"""The context tag changes with what a build can see, and with nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.content import bases_of, content_of, read_source, write_ignore_file
from pytest_kindinfra.images.names import context_tag
from pytest_kindinfra.model import Image

if TYPE_CHECKING:
    from collections.abc import Callable

API = Image(name="api")
BASES = {"alpine": "sha256:1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A build context."""
    write(
        tmp_path,
        {
            "Dockerfile": "FROM alpine\nCOPY . /\n",
            "main.go": "package main\n",
            "docs/x.md": "# x\n",
            "src/deep/a.go": "package deep\n",
        },
    )
    (tmp_path / "main.go").chmod(0o644)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def tag_of(folder: Path, image: Image = API, bases: dict[str, str] | None = None) -> str:
    content = content_of(image, read_source(image, folder=folder))
    return context_tag(content.digest, bases or BASES)


class TestTheTagChangesWith:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda f: (f / "main.go").write_text("package mane\n"), id="a byte"),
            pytest.param(lambda f: (f / "main.go").chmod(0o755), id="a mode"),
            pytest.param(lambda f: (f / "main.go").chmod(0o4644), id="a set-user-id bit"),
            pytest.param(lambda f: (f / "src").chmod(0o700), id="a folder's mode"),
            pytest.param(lambda f: (f / "main.go").rename(f / "mane.go"), id="a file's name"),
            pytest.param(lambda f: (f / "src").rename(f / "lib"), id="a folder's name"),
            pytest.param(lambda f: (f / "new").write_text(""), id="an empty file"),
            pytest.param(lambda f: (f / "new").mkdir(), id="an empty folder"),
            pytest.param(lambda f: (f / "main.go").unlink(), id="a file less"),
            pytest.param(lambda f: (f / "link").symlink_to("main.go"), id="a link"),
            pytest.param(lambda f: (f / "link").symlink_to("nowhere"), id="a link to nowhere"),
            pytest.param(lambda f: write(f, {"Dockerfile": "FROM alpine\n"}), id="the Dockerfile"),
            pytest.param(lambda f: write(f, {".dockerignore": "docs"}), id="the ignore file"),
        ],
    )
    def test_the_context(self, change: Callable[[Path], object], folder: Path) -> None:
        before = tag_of(folder)

        change(folder)

        assert tag_of(folder) != before

    @pytest.mark.parametrize(
        "image",
        [
            pytest.param(replace(API, target="runtime"), id="the target"),
            pytest.param(replace(API, build_args=(("V", "1"),)), id="an argument"),
            pytest.param(replace(API, build_options=("--network=host",)), id="a build option"),
            pytest.param(replace(API, ignore=("docs",)), id="a rule of ours"),
        ],
    )
    def test_the_declaration(self, image: Image, folder: Path) -> None:
        assert tag_of(folder, image) != tag_of(folder)

    @pytest.mark.parametrize(
        ("variable", "options", "dockerfile"),
        [
            pytest.param("VERSION", ("--build-arg", "VERSION"), "", id="an argument's variable"),
            pytest.param("VERSION", ("--build-arg=VERSION",), "", id="the same in one word"),
            pytest.param("DOCKER_DEFAULT_PLATFORM", (), "", id="the platform"),
            pytest.param("SOURCE_DATE_EPOCH", (), "ARG SOURCE_DATE_EPOCH", id="the time"),
        ],
    )
    def test_what_the_builder_reads_from_the_environment(
        self,
        variable: str,
        options: tuple[str, ...],
        dockerfile: str,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write(folder, {"Dockerfile": f"FROM alpine\n{dockerfile}\n"})
        image = replace(API, build_options=options)
        tags = set()
        for value in ("", "linux/amd64", "linux/arm64"):
            monkeypatch.setenv(variable, value)
            tags.add(tag_of(folder, image))

        assert len(tags) == 3

    def test_a_base_images_id(self, folder: Path) -> None:
        assert tag_of(folder, bases={"alpine": "sha256:2"}) != tag_of(folder)

    def test_an_argument_from_the_environment(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = replace(API, build_args=(("V", "${VERSION:-dev}"),))
        before = tag_of(folder, image)
        monkeypatch.setenv("VERSION", "1.2")

        assert read_source(image, folder=folder).build_args == {"V": "1.2"}
        assert tag_of(folder, image) != before

    def test_a_links_target(self, folder: Path) -> None:
        link = folder / "link"
        link.symlink_to("main.go")
        before = tag_of(folder)
        link.unlink()
        link.symlink_to("docs")

        assert tag_of(folder) != before

    def test_a_file_moved_into_its_neighbour(self, folder: Path) -> None:
        """Names and lengths are part of it, or these two contexts would be one."""
        write(folder, {"a": "1", "b": "2"})
        before = tag_of(folder)
        write(folder, {"a": "12", "b": ""})

        assert tag_of(folder) != before

    def test_a_file_whose_rule_differs_from_it_in_case(self, folder: Path) -> None:
        """`docs` was taken for `Docs` too: its files were sent, but their changes unnoticed."""
        write(folder, {".dockerignore": "docs", "Docs/y.md": "1"})
        before = tag_of(folder)
        write(folder, {"Docs/y.md": "2"})

        assert tag_of(folder) != before

    def test_a_file_excepted_within_an_ignored_folder(self, folder: Path) -> None:
        """With `*` and `!**/*.go`, sources below the top were sent, but their changes unnoticed."""
        write(folder, {".dockerignore": "*\n!**/*.go\n"})
        before = tag_of(folder)
        write(folder, {"src/deep/a.go": "package changed\n"})

        assert tag_of(folder) != before


class TestTheTagStaysWith:
    def test_another_time(self, folder: Path) -> None:
        before = tag_of(folder)

        for path in (folder / "main.go", folder / "src"):
            os.utime(path, (1, 1))

        assert tag_of(folder) == before

    def test_another_place_and_another_order_on_disk(self, folder: Path, tmp_path: Path) -> None:
        copy = tmp_path.with_name(f"{tmp_path.name}-copy")
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file():
                write(copy, {str(path.relative_to(folder)): path.read_text()})

        assert tag_of(copy) == tag_of(folder)

    def test_another_name_of_the_image(self, folder: Path) -> None:
        assert tag_of(folder, replace(API, name="other")) == tag_of(folder)

    def test_the_order_in_which_arguments_are_declared(self, folder: Path) -> None:
        pairs = (("A", "1"), ("B", "2"))

        assert tag_of(folder, replace(API, build_args=pairs)) == tag_of(
            folder, replace(API, build_args=pairs[::-1])
        )

    @pytest.mark.parametrize(
        "path",
        [
            ".kindinfra/run-1/log",
            ".pytest_cache/v/x",
            "__pycache__/x.pyc",
            "src/deep/__pycache__/x.pyc",
            "src/.pytest_cache/README.md",
        ],
    )
    @pytest.mark.parametrize("rules", ["", "*\n!**/*\n", "!**/__pycache__\n"])
    def test_what_test_runs_write_themselves(self, rules: str, path: str, folder: Path) -> None:
        write(folder, {".dockerignore": rules, path: "1"})
        before = tag_of(folder)

        write(folder, {path: "2"})

        assert tag_of(folder) == before

    @pytest.mark.parametrize(
        ("rules", "path"),
        [
            pytest.param("docs", "docs/x.md", id="a folder"),
            pytest.param("**/*.md", "docs/x.md", id="at any depth"),
            pytest.param("*\n!src", "main.go", id="all but"),
            pytest.param("# a remark\n\ndocs\n", "docs/x.md", id="after a comment"),
            pytest.param("\ufeffdocs", "docs/x.md", id="a byte order mark"),
            pytest.param("docs\r\nsrc\r\n", "docs/x.md", id="lines of Windows"),
        ],
    )
    def test_an_ignored_file(self, rules: str, path: str, folder: Path) -> None:
        write(folder, {".dockerignore": rules})
        before = tag_of(folder)

        write(folder, {path: "changed"})

        assert tag_of(folder) == before

    def test_a_file_ignored_by_the_declaration(self, folder: Path) -> None:
        image = replace(API, ignore=("docs/**",))
        before = tag_of(folder, image)

        write(folder, {"docs/x.md": "changed", "docs/new.md": "new"})

        assert tag_of(folder, image) == before

    def test_what_git_notes_for_itself(self, folder: Path) -> None:
        """`git status` alone rewrites the index."""
        git = {"HEAD": "ref: refs/heads/main\n", "refs/heads/main": "1f\n", "index": "1"}
        write(folder / ".git", git)
        before = tag_of(folder)

        write(folder / ".git", {"index": "2", "FETCH_HEAD": "x", "packed-refs": "2e other\n"})

        assert tag_of(folder) == before


class TestGit:
    @pytest.fixture(autouse=True)
    def _checkout(self, folder: Path) -> None:
        write(folder / ".git", {"HEAD": "ref: refs/heads/main\n", "refs/heads/main": "1f\n"})

    @pytest.mark.parametrize(
        "files",
        [
            pytest.param({"refs/heads/main": "2e\n"}, id="a commit"),
            pytest.param({"HEAD": "ref: refs/heads/other\n"}, id="a branch"),
            pytest.param({"HEAD": "3d\n"}, id="no branch"),
        ],
    )
    def test_where_it_is_sent_another_commit_is_another_content(
        self, files: dict[str, str], folder: Path
    ) -> None:
        before = tag_of(folder)

        write(folder / ".git", files)

        assert tag_of(folder) != before

    def test_a_packed_branch_counts_too(self, folder: Path) -> None:
        (folder / ".git/refs/heads/main").unlink()
        write(folder / ".git", {"packed-refs": "1f refs/heads/main\n"})
        before = tag_of(folder)
        write(folder / ".git", {"packed-refs": "2e refs/heads/main\n"})

        assert tag_of(folder) != before

    def test_where_it_is_ignored_no_commit_counts(self, folder: Path) -> None:
        write(folder, {".dockerignore": ".git"})
        before = tag_of(folder)
        write(folder / ".git", {"HEAD": "3d\n"})

        assert tag_of(folder) == before


class TestStrangeFiles:
    def test_a_name_that_is_no_text_does_no_harm(self, folder: Path) -> None:
        before = tag_of(folder)
        with open(os.fsencode(folder) + b"/\xff", "wb"):  # noqa: PTH123 - a name of bytes
            pass

        assert tag_of(folder) != before

    def test_a_dockerfile_that_is_no_utf_8_comes_through_unharmed(self, folder: Path) -> None:
        text = b'FROM alpine\nLABEL who="J\xfcrgen"\n'
        (folder / "Dockerfile").write_bytes(text)
        source = read_source(API, folder=folder)

        assert tag_of(folder)
        assert write_ignore_file(source, into=folder / "out").read_bytes() == text

    def test_pipes_are_no_content(self, folder: Path) -> None:
        before = tag_of(folder)
        os.mkfifo(folder / "pipe")

        assert tag_of(folder) == before

    def test_a_link_to_a_folder_is_not_followed(self, folder: Path) -> None:
        (folder / "round").symlink_to(folder)

        assert tag_of(folder)


class TestWhatIsRead:
    def test_the_dockerfiles_own_ignore_file_comes_before_the_contexts(self, folder: Path) -> None:
        write(folder, {".dockerignore": "docs", "Dockerfile.dockerignore": "src"})

        assert read_source(API, folder=folder).ignore[0] == "src"
        assert "docs" not in read_source(API, folder=folder).ignore

    def test_a_dockerfile_may_stand_elsewhere(self, folder: Path) -> None:
        write(folder, {"build/api.Dockerfile": "FROM b", "build/api.Dockerfile.dockerignore": "x"})
        image = replace(API, dockerfile=folder / "build/api.Dockerfile")
        source = read_source(image, folder=folder)

        assert (source.context, source.text, source.ignore[0]) == (folder, "FROM b", "x")

    def test_base_images_are_found_with_their_arguments(self, folder: Path) -> None:
        text = "ARG V=3\nARG GIVEN\nFROM base\nFROM alpine:$V\nFROM golang:$GIVEN"
        write(folder, {"Dockerfile": text})
        image = replace(API, build_args=(("GIVEN", "1"),))
        source = read_source(image, folder=folder)

        found = bases_of(image, source, names={"base": ()})

        assert found.external == ("alpine:3", "golang:1")
        assert found.declared == {"base": "base"}

    @pytest.mark.parametrize(
        ("image", "missing"),
        [
            pytest.param(replace(API, dockerfile=None), "Dockerfile", id="no Dockerfile"),
            pytest.param(API, "", id="no context"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, image: Image, missing: str, folder: Path) -> None:
        gone = folder / "gone"
        image = replace(image, context=gone)
        if missing:
            gone.mkdir()

        with pytest.raises(KindInfraError) as caught:
            read_source(image, folder=folder)

        assert str(caught.value) == (
            'image "api": cannot read its build context: '
            f"[Errno 2] No such file or directory: '{gone / 'Dockerfile'}'"
        )

    def test_a_folder_in_place_of_a_dockerfile_is_named(self, folder: Path) -> None:
        with pytest.raises(KindInfraError, match=r'^image "api": .*Is a directory: .*docs'):
            read_source(replace(API, dockerfile=folder / "docs"), folder=folder)

    def test_a_context_that_is_gone_is_named(self, folder: Path) -> None:
        """It was a traceback of this project's own code."""
        image = replace(API, context=folder / "gone", dockerfile=folder / "Dockerfile")

        with pytest.raises(KindInfraError, match=r'^image "api": .*No such file .*gone'):
            tag_of(folder, image)


class TestTheCopyForTheBuild:
    def test_it_has_the_users_rules_then_the_declarations_then_ours(self, folder: Path) -> None:
        write(folder, {".dockerignore": "# a remark\n\ndocs\n  !docs/x.md  \n"})
        source = read_source(replace(API, ignore=("*.log",)), folder=folder)

        dockerfile = write_ignore_file(source, into=folder / "new" / "folder")

        assert dockerfile.read_text() == "FROM alpine\nCOPY . /\n"
        assert dockerfile.with_name("Dockerfile.dockerignore").read_text() == (
            "# a remark\n"
            "\n"
            "docs\n"
            "  !docs/x.md  \n"
            "*.log\n"
            "**/.kindinfra\n"
            "**/.pytest_cache\n"
            "**/__pycache__\n"
        )


class TestAFurtherContext:
    """`--build-context NAME=FOLDER` in build_options."""

    IMAGE = replace(API, context=Path("app"), build_options=("--build-context", "skills=./skills"))

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        files = {"app/Dockerfile": "FROM scratch\nCOPY --from=skills . /\n", "skills/a.txt": "one"}
        write(tmp_path, files)
        return tmp_path

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda f: write(f, {"a.txt": "two"}), id="a byte"),
            pytest.param(lambda f: write(f, {"b.txt": ""}), id="a file more"),
            pytest.param(lambda f: write(f, {".dockerignore": "a.txt"}), id="its ignore file"),
        ],
    )
    def test_a_change_in_it_is_another_tag(
        self, change: Callable[[Path], object], project: Path
    ) -> None:
        before = tag_of(project, self.IMAGE)

        change(project / "skills")

        assert tag_of(project, self.IMAGE) != before

    def test_its_own_ignore_file_applies_and_no_other(self, project: Path) -> None:
        write(project, {"skills/.dockerignore": "*.log\n", "app/.dockerignore": "a.txt\n"})
        write(project, {"skills/__pycache__/x.pyc": "1", "skills/x.log": "1"})
        before = tag_of(project, self.IMAGE)

        write(project, {"skills/__pycache__/x.pyc": "2", "skills/x.log": "2"})
        assert tag_of(project, self.IMAGE) == before
        write(project, {"skills/a.txt": "two"})
        assert tag_of(project, self.IMAGE) != before

    def test_it_is_no_image(self, project: Path) -> None:
        source = read_source(self.IMAGE, folder=project)

        assert bases_of(self.IMAGE, source, names={}).external == ()

    def test_one_that_is_not_there_is_named(self, project: Path) -> None:
        image = replace(self.IMAGE, build_options=("--build-context=skills=skils",))

        with pytest.raises(KindInfraError, match=r'image "api": cannot read .*skils'):
            tag_of(project, image)

    def test_an_image_counts_by_its_id(self, project: Path) -> None:
        write(project, {"app/Dockerfile": "FROM python:3.12\n"})
        options = ("--build-context", "python:3.12=docker-image://mirror.example/python:3.12")
        image = replace(self.IMAGE, build_options=options)
        source = read_source(image, folder=project)

        assert bases_of(image, source, names={}).external == ("mirror.example/python:3.12",)

    @pytest.mark.parametrize("written", ["./layout", "./layout:1", "./layout@sha256:" + "1" * 64])
    def test_a_layout_counts_by_its_index(self, written: str, project: Path) -> None:
        write(project, {"layout/index.json": "one"})
        options = ("--build-context", f"skills=oci-layout://{written}")
        image = replace(self.IMAGE, build_options=options)
        before = tag_of(project, image)

        write(project, {"layout/index.json": "two"})

        assert tag_of(project, image) != before


def test_a_dockerfile_in_small_letters_is_found(folder: Path) -> None:
    (folder / "Dockerfile").rename(folder / "dockerfile")

    assert read_source(API, folder=folder).dockerfile == folder / "dockerfile"


def test_lines_of_an_ignore_file_are_buildkits(folder: Path) -> None:
    """For Python a form feed ends a line too."""
    (folder / ".dockerignore").write_bytes(b"\xef\xbb\xbfdocs\r\na\x0cb\r\n")

    assert read_source(API, folder=folder).ignore[:2] == ("docs", "a\x0cb")
