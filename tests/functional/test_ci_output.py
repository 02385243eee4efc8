"""What GitHub Actions, GitLab and JUnit's XML get of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True)
    project.service("web")
    project.tests("""
        @pytest.mark.kindinfra("api")
        def test_api(kindinfra): ...

        @pytest.mark.kindinfra("web")
        def test_web(kindinfra): ...

        def test_wrong():
            assert 1 == 2
    """)
    return project


def properties_in(project: Project, tag: str) -> list[ET.Element]:
    """Return the elements of a name in the file that the run wrote."""
    return list(ET.parse(project.folder / "junit.xml").iter(tag))  # noqa: S314 - pytest wrote it


def commands(run: Run) -> list[str]:
    """Return the workflow commands in a run's output."""
    return [line for line in run.out.splitlines() if line.startswith("::")]


def on_github(project: Project, *, workers: int | None) -> Run:
    return project.run(
        workers=workers,
        GITHUB_ACTIONS="true",
        GITHUB_WORKSPACE=str(project.folder.parent),
        GITHUB_STEP_SUMMARY=str(project.folder / "summary.md"),
    )


class TestGitHub:
    @pytest.mark.parametrize("workers", [None, 2])
    def test_each_root_cause_is_one_annotation(self, shop: Project, workers: int | None) -> None:
        frame = "Dockerfile:2\n--------------------\n   2 | >>> COPY . /api\n--------------------\n"
        shop.behave("build api", exit=1, complains=f"{frame}ERROR: failed to solve: no files")
        waiting = {"reason": "ErrImagePull", "message": "not found"}
        shop.breaks("web", {"state": {"waiting": waiting}, "ready": False, "restartCount": 0})

        run = on_github(shop, workers=workers)

        errors = commands(run)[2:]
        name = shop.folder.name
        assert len(errors) == 3, run.text
        assert f"::error file={name}/api/Dockerfile,line=2,title=kindinfra%3A image" in errors[0]
        assert f"file={name}/web.yaml,line=" in errors[1]
        assert "ErrImagePull" in errors[1]
        assert f"::error file={name}/test_it.py,line=" in errors[2]
        assert "test_wrong" in errors[2]
        assert "assert 1 == 2" in errors[2]

    def test_the_summary_is_added_to_the_steps_own(self, shop: Project) -> None:
        shop.write("summary.md", "## mine\n")
        shop.behave("build api", exit=1, complains="no compiler")

        on_github(shop, workers=None)

        text = (shop.folder / "summary.md").read_text()
        assert text.startswith("## mine\n### kindinfra: failed\n")
        assert '<details open><summary>image "api" failed' in text
        assert "no compiler" in text
        assert "| create | cluster |" in text or "under 0.2 s" in text
        assert f"Artifacts: `{shop.folder.name}/.kindinfra/" in text

    def test_the_table_is_a_group_and_the_total_is_not(self, shop: Project) -> None:
        run = on_github(shop, workers=None)

        lines = run.out.splitlines()
        end = lines.index("::endgroup::")
        assert lines.index("::group::kindinfra: all phases") < end
        assert lines[end + 1].startswith("total: ")

    def test_a_run_without_services_writes_nothing(self, shop: Project) -> None:
        shop.tests("def test_wrong():\n    assert 1 == 2\n")

        run = on_github(shop, workers=None)

        assert commands(run) == []
        assert not (shop.folder / "summary.md").exists()


def test_gitlab_gets_a_section_that_is_folded(shop: Project) -> None:
    run = shop.run(workers=None, GITLAB_CI="true")

    assert "section_start:" in run.out
    assert "[collapsed=true]\r\x1b[0Kkindinfra: all phases" in run.out


def test_elsewhere_there_is_no_markup(shop: Project) -> None:
    run = shop.run(workers=None)

    assert commands(run) == []
    assert "section_start" not in run.out


@pytest.mark.parametrize("workers", [None, 2])
def test_junit_has_the_services_of_each_test(shop: Project, workers: int | None) -> None:
    shop.behave("build api", seconds=0.5)

    run = shop.run("--junitxml=junit.xml", workers=workers)

    cases = {
        str(case.get("name")): {
            str(one.get("name")): str(one.get("value")) for one in case.iter("property")
        }
        for case in properties_in(shop, "testcase")
    }
    assert cases["test_wrong"] == {}
    assert cases["test_api"]["kindinfra_services"] == "api"
    assert cases["test_api"]["kindinfra_images"].startswith("localhost/api:")
    assert float(cases["test_api"]["kindinfra_waited_s"]) > 0
    assert cases["test_api"]["kindinfra_evidence"] == run.folder
    assert cases["test_web"]["kindinfra_services"] == "web"


def test_a_test_whose_service_failed_names_the_evidence_too(shop: Project) -> None:
    shop.behave("build api", exit=1)

    run = shop.run("--junitxml=junit.xml", workers=None)

    values = {one.get("value") for one in properties_in(shop, "property")}
    assert run.folder in values
