"""Which build is to go first: the one with the longest path behind it.

A path is the build, then the longest of what waits for it: images that start from it, services
that run it, services that need those. With more builds than slots that order ends soonest, as far
as seconds are known. Pure; it must not know where they are known from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_kindinfra.model import Plan

_Node = tuple[str, str]
"""`image` or `service`, and its name."""

_KINDS = {"image": ("build",), "service": ("deploy", "wait", "run")}


def build_ranks(plan: Plan, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return, for each image of the plan, the seconds of its longest remaining path.

    Args:
        plan: Images and services, each after what it needs.
        seconds: Phase to the seconds that it took in an earlier run. An image or a service
            without any counts as the mean of the others, so that unknown ones are equal.
    """
    needs = _needs(plan)
    own = {
        **_filled({node: _known(node, seconds) for node in needs if node[0] == "image"}),
        **_filled({node: _known(node, seconds) for node in needs if node[0] == "service"}),
    }
    paths = dict(own)
    for node in reversed(needs):  # whoever waits for it was there before it
        for need in needs[node]:
            paths[need] = max(paths[need], own[need] + paths[node])
    return {image.name: paths["image", image.name] for image in plan.images}


def _needs(plan: Plan) -> dict[_Node, list[_Node]]:
    """Return what each image and service waits for; each stands after that."""
    images: dict[_Node, list[_Node]] = {
        ("image", image.name): [("image", name) for name in image.needs] for image in plan.images
    }
    services: dict[_Node, list[_Node]] = {
        ("service", service.name): [
            *(("image", name) for name in service.images),
            *(("service", need.name) for need in service.needs),
        ]
        for service in plan.services
    }
    return {**images, **services}


def _known(node: _Node, seconds: Mapping[str, float]) -> float | None:
    kind, name = node
    known = [seconds[phase] for verb in _KINDS[kind] if (phase := f"{verb} {name}") in seconds]
    return sum(known) if known else None


def _filled(seconds: Mapping[_Node, float | None]) -> dict[_Node, float]:
    usual = _mean(value for value in seconds.values() if value is not None)
    return {node: usual if value is None else value for node, value in seconds.items()}


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 1.0
