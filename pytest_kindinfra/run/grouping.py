"""Which runs share a stack: those with the same key, an option's or the CI service's.

A key of the CI service counts only where each run would have a namespace of its own, and only for
runs of the same declaration: several jobs of one pipeline may test different things.
"""

from __future__ import annotations

import os.path
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.clusters.placement import own_namespace
from pytest_kindinfra.state.runnames import group_id, new_run_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kindinfra.model import Declaration, Plan
    from pytest_kindinfra.plan.options import Settings


OFF = "off"
"""The value of the option with which a run has a stack of its own."""


class _CiService(NamedTuple):
    """Variables that a CI service sets.

    Attributes:
        mark: One that only this service sets, and how its value begins.
        key: Those that have the same values in all jobs of one attempt of a pipeline, and in no
            others; the first one names it.
        folder: The one that has the folder of the checkout.
    """

    mark: tuple[str, str]
    key: tuple[str, ...]
    folder: str


_CI_SERVICES = (
    _CiService(
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_REPOSITORY"),
        "GITHUB_WORKSPACE",
    ),
    _CiService(("GITLAB_CI", "true"), ("CI_PIPELINE_ID", "CI_SERVER_HOST"), "CI_PROJECT_DIR"),
    _CiService(("BUILD_TAG", "jenkins-"), ("BUILD_TAG",), "WORKSPACE"),
    _CiService(
        ("BUILDKITE", "true"),
        ("BUILDKITE_BUILD_ID", "BUILDKITE_RETRY_COUNT"),
        "BUILDKITE_BUILD_CHECKOUT_PATH",
    ),
    _CiService(("CIRCLECI", "true"), ("CIRCLE_WORKFLOW_ID",), "CIRCLE_WORKING_DIRECTORY"),
)


def with_group(
    settings: Settings, declaration: Declaration, environ: Mapping[str, str]
) -> Settings:
    """Return the settings with the key of the run's group: the option's, else the CI service's.

    Args:
        settings: As they were given.
        declaration: What runs of a group have in common.
        environ: The environment.
    """
    if settings.group == OFF:
        return replace(settings, group=None)
    if settings.group is not None or not _may_share(settings, declaration):
        return settings
    for one in _CI_SERVICES:
        if environ.get(one.mark[0], "").startswith(one.mark[1]) and environ.get(one.key[0]):
            words = [environ[name] for name in one.key if environ.get(name)]
            key = "-".join((*words, _digest(declaration, environ.get(one.folder, ""))))
            sources = {**settings.sources, "group": f"environment {one.key[0]}"}
            return replace(settings, group=key, sources=sources)
    return settings


def _may_share(settings: Settings, declaration: Declaration) -> bool:
    """Whether a run that does not ask for a group can be in one."""
    apart = settings.reuse or settings.keep != "never"
    copies = any(one.per == "worker" for one in declaration.services)
    own = declaration.cluster.namespace == "per-run"
    return settings.kubeconfig is not None and own and not apart and not copies


def _digest(declaration: Declaration, checkout: str) -> str:
    """Return a hash of what is declared, whose folder is another one on each machine."""
    folder = str(declaration.folder)
    inside = os.path.relpath(folder, Path(checkout).expanduser()) if checkout else ""
    place = "" if inside.startswith("..") else inside
    text = repr((place, declaration.cluster, declaration.images, declaration.services))
    return sha256(text.replace(folder, "").encode()).hexdigest()[:12]


def group_note(settings: Settings) -> Iterator[str]:
    """Yield a sentence for the user if the CI service's variables have put the run in a group."""
    where = settings.sources.get("group", "")
    if (
        settings.group
        and where.startswith("environment ")
        and where != "environment KINDINFRA_GROUP"
    ):
        yield (
            f"this run shares its stack with all runs of the same {where.split()[1]}; "
            "--kindinfra-group=off gives it one of its own"
        )


def with_namespace(declaration: Declaration, settings: Settings, run_id: str) -> Declaration:
    """Return the declaration with the namespace of the group or run, if it has one of its own.

    Args:
        declaration: What was declared.
        settings: Says which group.
        run_id: The run's; empty for one that is not made.
    """
    if settings.group and settings.kubeconfig:
        name = group_id(settings.group)
    elif declaration.cluster.namespace != "per-run":
        return declaration
    else:
        name = own_namespace(settings, declaration.folder, run_id or new_run_id())
    return replace(declaration, cluster=replace(declaration.cluster, namespace=name))


def problems_of_group(settings: Settings, plan: Plan) -> Iterator[str]:
    """Yield a sentence for each thing that runs which share a stack cannot do."""
    if settings.group is None:
        return
    where = settings.sources.get("group", "--kindinfra-group")
    if settings.kubeconfig is None:
        yield (
            f"{where} shares a stack among runs in an existing cluster, but none is named: add "
            "--kindinfra-kubeconfig or --kindinfra-context, or remove it"
        )
    if settings.keep != "never":
        yield (
            f"{where}: the last run of a group deletes the stack, but {settings.sources['keep']} "
            "keeps it: remove one of the two"
        )
    if settings.reuse:
        yield (
            f"{where}: the last run of a group deletes the stack, but {settings.sources['reuse']} "
            "keeps it: remove one of the two"
        )
    for service in plan.declaration.services:
        if service.per == "worker":
            yield (
                f'{where}: [services.{service.name}] has per = "worker", but workers of several '
                "runs have the same names: remove one of the two"
            )
