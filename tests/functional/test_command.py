"""The `kindinfra` command and the functions behind it: builds without tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Call, Project


@pytest.fixture
def shop(project: Project) -> Project:
    project.image("tool")  # no service runs it
    project.service("api", image=True)
    project.service("web", image=True, needs=("api",))
    return project


def builds(project: Project) -> list[Call]:
    return [call for call in project.calls() if call.what.startswith("build")]


def masked(text: str) -> str:
    return re.sub(r"[0-9a-f]{16}\b", "TAG", text)


class TestBuild:
    def test_all_that_is_declared_is_built_and_named(self, shop: Project) -> None:
        done = shop.command("build")

        assert (done.returncode, done.stderr) == (0, "")
        assert masked(done.stdout).splitlines()[-3:] == [
            "tool                 localhost/tool:TAG",
            "api                  localhost/api:TAG",
            "web                  localhost/web:TAG",
        ]
        assert {call.what for call in builds(shop)} == {"build tool", "build api", "build web"}
        assert {call.what for call in shop.calls()} & {"create", "save", "get clusters"} == set()

    def test_each_build_is_shown_when_it_starts_and_ends(self, shop: Project) -> None:
        done = shop.command("build", "api")

        lines = re.sub(r"\d+\.\d", "T", done.stdout).splitlines()
        assert [" ".join(line.split()) for line in lines[:2]] == [
            "kindinfra T s [api] building",
            "kindinfra T s [api] built in T s",
        ]

    def test_services_by_name_and_what_they_need(self, shop: Project) -> None:
        assert shop.command("build", "web").returncode == 0
        assert {call.what for call in builds(shop)} == {"build api", "build web"}

    def test_what_was_built_is_not_built_again(self, shop: Project) -> None:
        shop.command("build")
        before = len(builds(shop))

        done = shop.command("build")

        assert done.stdout.count("(unchanged)") == 3
        assert len(builds(shop)) == before

    def test_no_cache_builds_each_once_more_and_without_the_engines_cache(
        self, shop: Project
    ) -> None:
        shop.command("build", "api")
        shop.command("build", "--no-cache", "api")

        assert [("--no-cache" in call.argv) for call in builds(shop)] == [False, True]

    def test_a_run_then_takes_what_was_built(self, shop: Project) -> None:
        shop.command("build")
        shop.tests("""
            @pytest.mark.kindinfra("web")
            def test_it(): ...
        """)

        run = shop.run()

        assert (run.code, run.calls("build")) == (0, [])

    def test_every_failure_is_reported(self, shop: Project) -> None:
        shop.behave("build api", exit=2, complains="no compiler")
        shop.behave("build web", exit=3, complains="no space")

        done = shop.command("build")

        assert done.returncode == 1
        head = 'kindinfra: image "api" failed to build:'
        assert f'{head}\nbuilding image "api": exit code 2' in done.stderr
        assert 'image "web" failed to build:\nbuilding image "web": exit code 3' in done.stderr
        assert "no compiler" in done.stderr
        assert "no space" in done.stderr

    def test_no_failure_shows_the_secret_of_any_image(self, project: Project) -> None:
        """Nor that of one which is built later, and which another build's output names."""
        token = "hunter2-hunter2"  # no real one
        project.image("api")
        project.image("web", 'needs = ["api"]\nbuild_args = { TOKEN = "${SHOP_TOKEN}" }')
        project.behave("build api", exit=2, complains=f"refused: {token}")

        done = project.command("build", SHOP_TOKEN=token)

        assert done.returncode == 1
        assert "refused: ***" in done.stderr
        assert token not in done.stdout + done.stderr

    def test_a_builder_that_cannot_see_the_engines_images_is_not_used(
        self, project: Project
    ) -> None:
        """As docker/setup-buildx-action leaves it behind in GitHub Actions."""
        project.image("base")
        project.image("api", 'needs = ["base"]')

        done = project.command("build", BUILDX_BUILDER="ci")

        assert done.returncode == 0, done.stderr
        for call in builds(project):
            assert call.argv[call.argv.index("--builder") + 1] == "default"

    def test_what_was_not_built_because_of_another_is_named_in_one_line(
        self, project: Project
    ) -> None:
        project.image("base")
        project.image("api", 'needs = ["base"]')
        project.behave("build base", exit=2)

        done = project.command("build")

        assert done.stderr.count("failed to build:") == 1
        assert "\nnot built because of it: api\n" in done.stderr

    def test_an_unknown_service_is_named(self, shop: Project) -> None:
        done = shop.command("build", "wep")

        assert done.returncode == 1
        assert done.stderr == (
            "kindinfra: 1 problem in the declaration:\n"
            '  - this call needs "wep": no such service; did you mean "web"? '
            '(declared: "api", "web")\n'
        )

    def test_a_folder_without_a_declaration_is_named(self, project: Project) -> None:
        done = project.command("build")

        assert done.returncode == 1
        assert f"{project.folder} has no kindinfra.toml and no [tool.kindinfra] table" in (
            done.stderr
        )

    def test_without_an_engine_it_says_so(self, shop: Project) -> None:
        shop.remove("docker")

        done = shop.command("build")

        assert done.returncode == 1
        assert done.stderr.startswith('kindinfra: "docker" is not on PATH')

    def test_options_of_the_file_and_the_environment_count(self, shop: Project) -> None:
        done = shop.command("build", "api", KINDINFRA_ARTIFACTS="logs", IMAGE_TAG="ci-7")

        assert done.returncode == 0
        assert [path.name for path in shop.folder.glob("logs/latest/build/*.log")] == ["api.log"]
        assert done.stdout.endswith(f"{'':<21}localhost/api:ci-7\n")

    def test_an_option_that_cannot_be_used_is_named(self, shop: Project) -> None:
        done = shop.command("build", KINDINFRA_BUILD_JOBS="many")

        assert "environment KINDINFRA_BUILD_JOBS=many: expected a whole number" in done.stderr
        assert done.returncode == 1


class TestPlan:
    def test_it_is_that_of_a_run(self, shop: Project) -> None:
        done = shop.command("plan", "web")

        assert done.returncode == 0
        assert masked(done.stdout).splitlines()[:13] == [
            "cluster:",
            "  name                 kindinfra-RUN_ID (a new name for each run)",
            "  node image           kind's default",
            "  engine               docker",
            "",
            "images:",
            "  api                  localhost/api:ctx-TAG (to be built)",
            "  web                  localhost/web:ctx-TAG (to be built)",
            "",
            "services, in the order of their needs:",
            "  api                  needs -",
            "  web                  needs api",
            "",
        ]


class TestFromASubfolder:
    @pytest.mark.parametrize("words", [("plan",), ("build",), ("down",), ("status",), ("doctor",)])
    def test_the_declaration_above_it_counts(self, shop: Project, words: tuple[str, ...]) -> None:
        (shop.folder / "tests" / "deeper").mkdir(parents=True)

        above = shop.command(*words)
        done = shop.command(*words, within="tests/deeper")

        assert done.returncode == above.returncode, done.stderr
        assert f"kindinfra: using the declaration in {shop.folder}\n" in done.stderr
        assert "using the declaration" not in above.stderr
        assert "has no kindinfra.toml" not in done.stderr
        if words not in {("build",), ("doctor",)}:  # their lines have times, and memory
            assert done.stdout == above.stdout

    def test_without_any_declaration_the_current_folder_is_named(self, project: Project) -> None:
        (project.folder / "tests").mkdir()

        done = project.command("build", within="tests")

        assert done.returncode == 1
        assert f"{project.folder / 'tests'} has no kindinfra.toml" in done.stderr


class TestOldImages:
    @pytest.fixture
    def api(self, project: Project) -> Project:
        project.service("api", image=True)
        project.host_image("registry.example/tool:1")
        project.tests("""
            @pytest.mark.kindinfra("api")
            def test_it():
                note("begun")
                await_gate("end")
        """)
        return project

    def test_what_a_live_run_uses_stays_and_goes_when_it_is_over(self, api: Project) -> None:
        running = api.start()
        running.until_at("begun")
        during = api.command("gc", "--images", "--older-than=0")
        api.open("end")
        run = running.finish()
        after = api.command("gc", "--images", "--older-than=0")

        assert (run.code, during.returncode, after.returncode) == (0, 0, 0)
        assert during.stdout.splitlines()[-1] == "no image built by kindinfra is older than 0 days"
        image = run.report["images"]["api"]
        first, *others = after.stdout.splitlines()
        assert first == "nothing was left behind"
        names = {image["reference"], *image["contexts"]}
        assert set(others) == {f"removed image {name}" for name in names}
        assert api.images() == ["registry.example/tool:1"]

    def test_what_was_used_in_the_last_week_stays(self, api: Project) -> None:
        api.open("end")
        assert api.run().code == 0

        done = api.command("gc", "--images")

        assert (
            done.stdout
            == "nothing was left behind\nno image built by kindinfra is older than 7 days\n"
        )
        assert len(api.images()) == 3  # the built one has a name by content and one by context

    @pytest.mark.parametrize("days", ["-1", "nan", "soon"])
    def test_days_that_are_none_are_refused(self, api: Project, days: str) -> None:
        done = api.command("gc", "--images", f"--older-than={days}")

        assert done.returncode == 2
        assert "--older-than" in done.stderr


class TestFromPython:
    def test_stages_are_functions(self, shop: Project) -> None:
        shop.write("script.py", """
            import pathlib
            from pytest_kindinfra import build_images, resolve

            plan = resolve(folder=pathlib.Path("."), services=["web"])
            seen = []
            note = lambda phase, ended: seen.append(phase.name)
            first = build_images(plan, jobs=1, progress=note)
            again = build_images(plan)
            print([image.name for image in plan.images], seen.count("build web"))
            print([one.cached for one in first.values()], [one.cached for one in again.values()])
            print(first["web"].reference == again["web"].reference)
        """)  # fmt: skip

        done = shop.python("script.py")

        assert done.stdout.splitlines() == [
            "['api', 'web'] 2",
            "[False, False] [True, True]",
            "True",
        ], done.stderr
        assert len(builds(shop)) == 2

    def test_an_argument_that_cannot_be_used_is_an_error(self, shop: Project) -> None:
        shop.write("script.py", """
            from pytest_kindinfra import KindInfraError, build_images, resolve
            try:
                build_images(resolve(), tag="{servise}")
            except KindInfraError as error:
                print(error)
        """)  # fmt: skip

        assert "--kindinfra-tag={servise}: expected" in shop.python("script.py").stdout
