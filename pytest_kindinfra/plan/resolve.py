"""The plan: what the wanted services take, in order. Pure."""

from __future__ import annotations

import os.path
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.model import Plan
from pytest_kindinfra.plan.checks import find_problems
from pytest_kindinfra.plan.facts import UNKNOWN_CLUSTER, ClusterFacts, Facts
from pytest_kindinfra.plan.graph import in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.kube.objects import Rendered
    from pytest_kindinfra.model import Declaration, Image


_RUN = f"{'[0-9]' * 8}-{'[0-9]' * 6}-{'[0-9a-f]' * 6}"


_WRITTEN = (_RUN, f".latest-{_RUN}", "latest", "reused")
"""What runs write into the artifacts folder, as patterns of an ignore file."""


def resolve(
    declaration: Declaration,
    *,
    wanted: Mapping[str, Sequence[str]],
    rendered: Rendered,
    cluster: ClusterFacts = UNKNOWN_CLUSTER,
) -> Plan:
    """Return what a run has to do for the wanted services.

    Args:
        declaration: What the project declared.
        wanted: Service to the ids of the tests that ask for it.
        rendered: The objects of all declared services.
        cluster: What is known of the cluster.

    Returns:
        The wanted services and all that they need, each after its needs, with the images that
        their manifests use added to those declared; ports for all declared endpoints. Services
        that come before the nodes are Ready are always among them, but for an existing cluster.

    Raises:
        DeclarationError: It cannot work; holds all problems.
    """
    facts = Facts(declaration, rendered, cluster)
    if problems := list(dict.fromkeys(find_problems(facts, wanted))):
        raise DeclarationError(problems)
    names = in_order([*facts.before_nodes(), *wanted], facts.needs)
    images = {image for name in names for image in facts.images_of(name)}
    return Plan(
        declaration=declaration,
        services=tuple(
            replace(facts.services[name], images=facts.images_of(name)) for name in names
        ),
        images=tuple(facts.images[name] for name in in_order(images, facts.image_needs)),
        objects={name: facts.objects[name] for name in names},
        image_uses={name: facts.uses[name].images for name in names},
        external={name: facts.uses[name].external for name in names},
        ports=facts.ports[0],
        releases={name: one for name, one in rendered.releases.items() if name in names},
        shared=facts.shared,
    )


def keep_out(plan: Plan, written: Path) -> Plan:
    """Return the plan with no build context that holds a folder which runs write into.

    Args:
        plan: What was resolved.
        written: The artifacts folder; with it in a context each run would build again. Of one that
            is a context itself only what runs write is left out.
    """
    folder = plan.declaration.folder
    return replace(plan, images=tuple(_without(image, folder, written) for image in plan.images))


def _without(image: Image, folder: Path, written: Path) -> Image:
    way = PurePath(os.path.relpath(folder / written, folder / image.context))
    if way.parts[:1] == ("..",):
        return image
    written_there = (way.as_posix(),) if way.parts else _WRITTEN
    return replace(image, ignore=(*image.ignore, *written_there))
