"""One job builds, the next one does not; and a run that must not build says all that is missing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.functional.project import Project, Run

TESTS = """
@pytest.mark.kindinfra("api", "web")
def test_both(kindinfra):
    assert sorted(kindinfra.images) == ["api", "web"]

def test_free(): ...
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """Two images, one of which starts from a third."""
    project.image("base")
    project.service("api", image=True)
    project.image("web", 'needs = ["base"]')
    project.manifest("web", image="web")
    project.declare("[services.web]\nmanifests = ['web.yaml']\nimage = 'web'\n")
    project.tests(TESTS)
    return project


def masked(text: str) -> str:
    """Hide tags and the folders of runs."""
    return re.sub(r"[0-9a-f]{16}\b", "TAG", text)


def assert_told(run: Run, told: str) -> None:
    """The whole message stands in the closing section, and no cluster was made for nothing."""
    assert run.outcomes == {"errors": 1, "passed": 1}, run.text
    assert f"kindinfra: the set-up failed:\n{told}\n" in masked(run.out)
    assert (run.calls("create"), run.calls("build")) == ([], [])


class TestNoBuild:
    @pytest.mark.parametrize("workers", [None, 2])
    def test_all_missing_images_are_reported_at_once_with_the_command_that_builds_them(
        self, shop: Project, workers: int | None
    ) -> None:
        run = shop.run("--kindinfra-no-build", workers=workers)

        assert_told(
            run,
            "2 images are missing, and this run does not build images (--kindinfra-no-build):\n"
            "  api: localhost/api:ctx-TAG is not in the engine\n"
            "  web: localhost/web:ctx-TAG is not in the engine\n"
            "To fix: kindinfra build api web",
        )

    def test_after_that_command_it_runs(self, shop: Project) -> None:
        built = shop.command("build", "api", "web")
        run = shop.run("--kindinfra-no-build")

        assert (built.returncode, run.code) == (0, 0), built.stderr + run.text
        assert run.calls("build") == []

    def test_a_changed_file_is_noticed(self, shop: Project) -> None:
        assert shop.command("build").returncode == 0
        shop.write("api/main.go", "package changed\n")

        run = shop.run("--kindinfra-no-build")

        assert_told(
            run,
            "1 image is missing, and this run does not build images (--kindinfra-no-build):\n"
            "  api: localhost/api:ctx-TAG is not in the engine\n"
            "To fix: kindinfra build api",
        )

    def test_prebuilt_images_and_archives_are_taken(self, project: Project) -> None:
        project.host_image("registry.example/api:1")
        project.write("web.tar", "org/web:dev")
        project.declare(
            '[images]\napi.prebuilt = "registry.example/api:1"\nweb.archive = "web.tar"'
        )
        for name in ("api", "web"):
            project.manifest(name, image=name)
            project.declare(f"[services.{name}]\nmanifests = ['{name}.yaml']")
        project.tests(TESTS)

        run = project.run("--kindinfra-no-build")

        assert run.code == 0, run.text

    def test_a_missing_prebuilt_image_is_reported_too(self, shop: Project) -> None:
        shop.declare('[images.cache]\nprebuilt = "registry.example/cache:1"')
        shop.manifest("cache", image="cache")
        shop.declare("[services.cache]\nmanifests = ['cache.yaml']")
        shop.tests("""
            @pytest.mark.kindinfra("cache", "api")
            def test_it(): ...
            def test_free(): ...
        """)

        run = shop.run("--kindinfra-no-build")

        assert_told(
            run,
            "2 images are missing, and this run does not build images (--kindinfra-no-build):\n"
            "  api: localhost/api:ctx-TAG is not in the engine\n"
            '  cache: the prebuilt "registry.example/cache:1" is not in the engine: '
            "docker pull registry.example/cache:1\n"
            "To fix: kindinfra build api",
        )

    def test_hooks_that_generate_sources_are_called_before_they_are_looked_at(
        self, shop: Project
    ) -> None:
        shop.write("conftest.py", """
            def pytest_kindinfra_before_build(config, image):
                (config.rootpath / image.name / "generated").write_text(image.name)
        """)  # fmt: skip
        shop.tests("""
            @pytest.mark.kindinfra("api", "web")
            def test_it(): ...
        """)
        built = shop.run()
        (shop.folder / "api" / "generated").unlink()

        run = shop.run("--kindinfra-no-build")

        assert (built.code, run.code) == (0, 0), run.text
        assert run.calls("build") == []


class TestSavedImages:
    @pytest.fixture
    def saved(self, shop: Project) -> Path:
        """What the first job of a pipeline leaves for the second one."""
        shop.host_image("scratch:latest")
        done = shop.command("build", "--save=out")
        assert done.returncode == 0, done.stderr
        assert "saved 2 of 3 in out" in done.stdout
        shop.forget_images()
        return shop.folder / "out"

    @pytest.mark.parametrize("workers", [None, 2])
    def test_the_next_job_takes_them_and_builds_nothing(
        self, shop: Project, saved: Path, workers: int | None
    ) -> None:
        run = shop.run("--kindinfra-images=out", workers=workers)

        assert run.code == 0, run.text
        assert run.calls("build") == []
        manifest = json.loads((saved / "manifest.json").read_text())["images"]
        assert {name: one["reference"] for name, one in run.report["images"].items()} == {
            name: manifest[name]["reference"] for name in ("api", "web")
        }

    def test_what_the_engine_has_is_not_loaded_again(self, shop: Project, saved: Path) -> None:
        assert shop.run(f"--kindinfra-images={saved}").code == 0

        run = shop.run(f"--kindinfra-images={saved}")

        assert (run.code, run.calls("load")) == (0, [])

    def test_other_sources_are_told_with_both_references(self, shop: Project, saved: Path) -> None:
        shop.write("base/main.go", "package changed\n")

        run = shop.run("--kindinfra-images=out")

        assert_told(
            run,
            "1 image is missing, and this run does not build images (--kindinfra-no-build):\n"
            f"  web: {saved} has localhost/web:ctx-TAG, "
            "but the files here give localhost/web:ctx-TAG\n"
            f"To fix: kindinfra build --save={saved} web",
        )

    def test_all_images_that_the_folder_lacks_are_reported_at_once(
        self, shop: Project, saved: Path
    ) -> None:
        manifest = json.loads((saved / "manifest.json").read_text())
        del manifest["images"]["api"]
        (saved / "manifest.json").write_text(json.dumps(manifest))
        (saved / "web.tar").unlink()

        run = shop.run("--kindinfra-images=out")

        assert_told(
            run,
            "2 images are missing, and this run does not build images (--kindinfra-no-build):\n"
            f"  api: {saved} has no archive of it\n"
            f"  web: {saved / 'web.tar'}: no such file\n"
            f"To fix: kindinfra build --save={saved} api web",
        )

    def test_an_archive_of_another_image_is_reported(self, shop: Project, saved: Path) -> None:
        (saved / "web.tar").write_text("localhost/web:stale")

        run = shop.run("--kindinfra-images=out")

        assert_told(
            run,
            "1 image is missing, and this run does not build images (--kindinfra-no-build):\n"
            f"  web: {saved / 'web.tar'} holds localhost/web:stale, not localhost/web:TAG\n"
            f"To fix: kindinfra build --save={saved} web",
        )

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            pytest.param(None, "no such file", id="missing"),
            pytest.param("{", "not written by kindinfra build --save: ", id="cut off"),
            pytest.param(
                '{"images": {"a": {"reference": "x", "file": "x", "bases": {}}}}',
                "not written by kindinfra build --save: KeyError('context')",
                id="of an earlier version",
            ),
            pytest.param("[]", "not written by kindinfra build --save: ", id="a list"),
            pytest.param(
                '{"images": {"a": {"reference": "x", "context": "y", "file": "../x", '
                '"bases": {}}}}',
                "not written by kindinfra build --save: ",
                id="a path",
            ),
        ],
    )
    def test_a_folder_that_is_none_is_a_usage_error(
        self, shop: Project, text: str | None, problem: str
    ) -> None:
        (shop.folder / "out").mkdir()
        if text is not None:
            shop.write("out/manifest.json", text)

        run = shop.run("--kindinfra-images=out")

        assert run.code == 4
        manifest = shop.folder / "out" / "manifest.json"
        assert f"--kindinfra-images: {manifest}: {problem}" in run.text
        assert run.all_calls == []
