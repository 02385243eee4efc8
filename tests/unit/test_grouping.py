"""Which runs share a stack: by the option, or by what a CI service says of its jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.model import ClusterSpec, Declaration, Image, Service
from pytest_kindinfra.plan.options import Settings
from pytest_kindinfra.run.grouping import group_note, with_group, with_namespace

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_RUN_ID": "7001",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_REPOSITORY": "acme/shop",
    "GITHUB_WORKSPACE": "/runner/1/shop",
}
SERVICES = {
    "GitHub Actions": GITHUB,
    "GitLab": {"GITLAB_CI": "true", "CI_PIPELINE_ID": "7001", "CI_SERVER_HOST": "git.example"},
    "Jenkins": {"BUILD_TAG": "jenkins-shop-7001"},
    "Buildkite": {
        "BUILDKITE": "true",
        "BUILDKITE_BUILD_ID": "0190-7001",
        "BUILDKITE_RETRY_COUNT": "0",
    },
    "CircleCI": {"CIRCLECI": "true", "CIRCLE_WORKFLOW_ID": "0190-7001"},
}
SETTINGS = Settings(kubeconfig=Path("kube.yaml"), sources={"kubeconfig": "--kindinfra-kubeconfig"})


def declared(folder: str = "/runner/1/shop", **cluster: Any) -> Declaration:
    return Declaration(
        folder=Path(folder),
        cluster=ClusterSpec(**{"namespace": "per-run", **cluster}),
        services=(Service(name="web"),),
        images=(Image(name="web", context=Path(folder) / "svc"),),
    )


def key(
    environ: dict[str, str],
    settings: Settings = SETTINGS,
    declaration: Declaration | None = None,
) -> str | None:
    return with_group(settings, declaration or declared(), environ).group


@pytest.mark.parametrize("environ", SERVICES.values(), ids=SERVICES.keys())
def test_jobs_of_one_pipeline_share_a_stack(environ: dict[str, str]) -> None:
    first = key(environ)

    assert first
    assert "7001" in first
    assert key(environ) == first


@pytest.mark.parametrize("environ", SERVICES.values(), ids=SERVICES.keys())
def test_another_pipeline_or_attempt_has_another_stack(environ: dict[str, str]) -> None:
    changing = [name for name, text in environ.items() if "7001" in text or text in {"0", "2"}]

    assert {key({**environ, name: f"{environ[name]}1"}) == key(environ) for name in changing} == {
        False
    }


def test_nothing_is_shared_outside_of_a_ci_service() -> None:
    assert key({}) is None
    assert key({"CI": "true", "BUILD_TAG": "1.2.3", "CI_PIPELINE_ID": "7"}) is None
    assert key({"GITHUB_ACTIONS": "true"}) is None


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(Settings(), id="a cluster that the run makes"),
        pytest.param(replace(SETTINGS, group="off"), id="switched off"),
        pytest.param(replace(SETTINGS, keep="on-failure"), id="a stack that may be kept"),
        pytest.param(replace(SETTINGS, reuse=True), id="a reused cluster"),
    ],
)
def test_nothing_is_shared_where_that_is_not_possible_or_not_wanted(settings: Settings) -> None:
    assert key(GITHUB, settings) is None


def test_nothing_is_shared_in_a_namespace_that_the_declaration_names() -> None:
    assert key(GITHUB, declaration=declared(namespace="shop")) is None


def test_nothing_is_shared_if_workers_have_services_of_their_own() -> None:
    declaration = replace(declared(), services=(Service(name="web", per="worker"),))

    assert key(GITHUB, declaration=declaration) is None


def test_the_options_key_counts_first() -> None:
    assert key(GITHUB, replace(SETTINGS, group="mine")) == "mine"
    assert key({}, replace(SETTINGS, group="mine"), declared(namespace="shop")) == "mine"


def test_jobs_that_declare_other_things_have_other_stacks() -> None:
    other = replace(declared(), services=(Service(name="web", timeout=9.0),))

    assert key(GITHUB, declaration=other) != key(GITHUB)


def test_machines_that_check_out_elsewhere_share_a_stack() -> None:
    elsewhere = {**GITHUB, "GITHUB_WORKSPACE": "/runner/2/shop"}

    assert key(elsewhere, declaration=declared("/runner/2/shop")) == key(GITHUB)


def test_two_projects_of_a_checkout_have_stacks_of_their_own() -> None:
    one, two = (declared(f"/runner/1/shop/{name}") for name in ("a", "b"))

    assert key(GITHUB, declaration=one) != key(GITHUB, declaration=two)


def test_the_user_is_told_which_variable_made_a_group() -> None:
    by_default = with_group(SETTINGS, declared(), GITHUB)
    sources = {**SETTINGS.sources, "group": "environment KINDINFRA_GROUP"}
    asked_for = replace(SETTINGS, group="mine", sources=sources)

    (note,) = group_note(by_default)
    assert "GITHUB_RUN_ID" in note
    assert "--kindinfra-group=off" in note
    assert [*group_note(asked_for), *group_note(SETTINGS)] == []


def test_a_group_has_one_namespace_and_a_run_without_one_its_own() -> None:
    grouped = with_group(SETTINGS, declared(), GITHUB)

    names = [
        with_namespace(declared(), settings, "20261129_1").cluster.namespace
        for settings in (grouped, SETTINGS)
    ]

    assert names[0].startswith("kindinfra-group-7001-2-acme-shop")
    assert names[1] == "kindinfra-20261129-1"
