"""A declaration that pytest's rootdir hides: the error says where it was looked for and what to do.

A monorepo has a declaration in each package, and test explorers start pytest at its top.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

PLAN = "--kindinfra-plan"
TEST = """
@pytest.mark.kindinfra("web")
def test_web(): ...
"""


@pytest.fixture
def monorepo(project: Project) -> Project:
    project.service("web")
    declared = project.folder / "kindinfra.toml"
    for package in ("api", "billing"):
        project.tests(TEST, f"packages/{package}/tests/test_{package}.py")
        project.write(f"packages/{package}/pytest.ini", "[pytest]\n")
        project.write(f"packages/{package}/kindinfra.toml", declared.read_text())
        project.write(f"packages/{package}/web.yaml", (project.folder / "web.yaml").read_text())
    declared.unlink()
    project.write("ci/pytest.ini", "[pytest]\n")
    return project


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize(
    ("arguments", "root", "why", "fix"),
    [
        pytest.param(
            ("--rootdir=.", "packages/api/tests"),
            ".",
            "set by --rootdir",
            "packages/api/kindinfra.toml; to fix: --rootdir=packages/api",
            id="--rootdir",
        ),
        pytest.param(
            ("-c", "ci/pytest.ini", "packages/api/tests"),
            "ci",
            "the folder of -c ci/pytest.ini",
            "packages/api/kindinfra.toml; to fix: --rootdir=packages/api",
            id="-c",
        ),
        pytest.param(
            ("packages/api/tests", "packages/billing/tests"),
            ".",
            "where pytest.ini is",
            "packages/api/kindinfra.toml, packages/billing/kindinfra.toml; to fix: run pytest for "
            "each of them alone, with --rootdir=packages/api or --rootdir=packages/billing",
            id="two packages",
        ),
    ],
)
def test_the_error_names_the_rootdir_the_file_and_the_fix(
    monorepo: Project,
    arguments: tuple[str, ...],
    root: str,
    why: str,
    fix: str,
    workers: int | None,
) -> None:
    run = monorepo.run(*arguments, workers=workers)

    place = (monorepo.folder / root).resolve()
    assert run.code == 4, run.text
    assert f"there is no kindinfra.toml in the rootdir {place} ({why}), and no " in run.text
    assert f"found, but not read: {fix}\n" in run.text
    assert 'needs "web", but no service is declared' in re.sub("need ", "needs ", run.text)
    assert "no such service" not in run.text


def test_the_fix_that_is_named_works(monorepo: Project) -> None:
    run = monorepo.run(
        "-c", "ci/pytest.ini", "--rootdir=packages/api", "packages/api/tests", PLAN, workers=None
    )

    assert run.code == 0, run.text
    assert run.lines("  web                  needs -")


def test_a_declaration_above_the_rootdir_is_named(project: Project) -> None:
    project.service("web")
    project.tests(TEST, "tests/test_it.py")
    project.write("tests/pytest.ini", "[pytest]\n")

    run = project.run("tests", workers=None)

    assert run.code == 4, run.text
    assert "found, but not read: kindinfra.toml; to fix: --rootdir=.\n" in run.text


@pytest.mark.parametrize("name", ["kindinfra.tml", "kind-infra.toml", "Kindinfra.toml"])
def test_a_file_with_nearly_the_name_is_named(project: Project, name: str) -> None:
    project.write(name, "")
    project.tests(TEST)

    run = project.run(workers=None)

    assert run.code == 4, run.text
    assert f"is this meant to be a declaration? {project.folder / name}\n" in run.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.kind-infra]", "[tool.kind-infra] in {}"),
        ("[kindinfra]", "[kindinfra] in {}, which must be [tool.kindinfra]"),
    ],
)
def test_a_table_with_nearly_the_name_is_named(project: Project, text: str, told: str) -> None:
    project.write("pyproject.toml", text)
    project.tests(TEST)

    run = project.run(workers=None)

    assert run.code == 4, run.text
    said = told.format(project.folder / "pyproject.toml")
    assert f"is this meant to be a declaration? {said}\n" in run.text


def test_another_file_that_was_not_read_is_named_beside_the_one_that_was(
    monorepo: Project,
) -> None:
    monorepo.declare("[services.other]\nmanifests = ['packages/api/web.yaml']\n")

    run = monorepo.run("--rootdir=.", "packages/api", workers=None)

    assert run.code == 4, run.text
    read = monorepo.folder / "kindinfra.toml"
    assert f"read: {read}; not read: packages/api/kindinfra.toml\n" in run.text
    assert 'needs "web": no such service (declared: "other")' in run.text


def test_a_bare_cluster_beside_a_declaration_that_is_not_read_is_noted(monorepo: Project) -> None:
    monorepo.tests("def test_bare(kindinfra): ...", "packages/api/tests/test_bare.py")

    run = monorepo.run("--rootdir=.", "packages/api/tests/test_bare.py", PLAN, workers=None)
    elsewhere = monorepo.run("--rootdir=.", "packages/api/tests/test_bare.py", PLAN, workers=None)

    assert run.code == elsewhere.code == 0, run.text
    assert run.lines("kindinfra: note: there is no kindinfra.toml in the rootdir")
