"""Images have the tag of their content, which pods run, and on request one by a template."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

COMMIT = "0123456789" * 4


@pytest.fixture
def api(project: Project) -> Project:
    project.service("api", image=True)
    project.tests("""
        @pytest.mark.kindinfra("api")
        def test_api(): ...
    """)
    return project


def content_names(project: Project) -> list[str]:
    """Return the names that the engine has, without those by what images were built from."""
    return [name for name in project.images() if ":ctx-" not in name]


def test_a_template_adds_a_tag_and_changes_nothing_else(api: Project) -> None:
    api.git(COMMIT)
    plain = api.run()
    content = plain.report["images"]["api"]["reference"]

    named = api.run("--kindinfra-tag={service}-{user}-{git}-{time}", USER="jordi", LOGNAME="jordi")

    record = named.report["images"]["api"]
    (also,) = record["also"]
    assert also.startswith("localhost/api:api-jordi-0123456-")
    assert (record["reference"], record["cached"]) == (content, True)
    assert named.calls("build") == []
    assert content_names(api) == sorted([content, also])


def test_a_tag_from_the_environment_goes_before_the_template(api: Project) -> None:
    run = api.run("--kindinfra-tag={random}", IMAGE_TAG="ci-1f-7")

    assert run.code == 0
    assert "localhost/api:ci-1f-7" in api.images()


def test_random_tags_are_new_in_each_run(api: Project) -> None:
    for _ in range(2):
        assert api.run("--kindinfra-tag={random}").code == 0

    assert len(content_names(api)) == 3


def test_a_template_with_an_unknown_field_is_a_usage_error(api: Project) -> None:
    run = api.run("--kindinfra-tag={servise}")

    assert run.code == 4
    assert (
        "--kindinfra-tag={servise}: expected a tag; it may contain "
        "{service} {user} {git} {time} {content} {random}"
    ) in run.text
    assert run.all_calls == []


def test_a_tag_from_outside_that_is_none_matters_only_where_something_is_needed(
    api: Project,
) -> None:
    """`IMAGE_TAG` is a common name: it may be there for another program."""
    api.tests("def test_free(): ...", "test_free.py")

    free = api.run("test_free.py", IMAGE_TAG="registry.example/x:1")
    needy = api.run("test_it.py", IMAGE_TAG="registry.example/x:1")

    assert (free.code, needy.code) == (0, 4)
    assert "environment IMAGE_TAG=registry.example/x:1: expected a tag" in needy.text


@pytest.mark.parametrize(("status", "dirty"), [("", False), (" M api/main.go", True)])
def test_the_report_says_whether_the_tree_is_that_of_the_commit(
    api: Project, status: str, *, dirty: bool
) -> None:
    api.git(COMMIT, status=status)

    assert api.run().report["git"] == {"commit": COMMIT, "dirty": dirty}


def test_without_git_the_report_has_none(api: Project) -> None:
    run = api.run()

    assert run.code == 0
    assert run.report["git"] is None
