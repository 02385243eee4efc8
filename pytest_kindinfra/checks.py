"""Everything that can be wrong with a declaration as a whole, one sentence each.

All declared services are checked, not only those that the selected tests need: a mistake shows
itself whatever is selected. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.envtemplates import words
from pytest_kindinfra.exposing import find_port, selector, target_name
from pytest_kindinfra.graph import cycles
from pytest_kindinfra.imagepaths import leads_somewhere
from pytest_kindinfra.manifests import service_ports
from pytest_kindinfra.ports import written_node_port
from pytest_kindinfra.readywhen import is_meant
from pytest_kindinfra.suggestions import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.facts import Facts
    from pytest_kindinfra.model import EndpointSpec, KubeObject, Service

_TESTS_NAMED = 2


def find_problems(facts: Facts, wanted: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield what is wrong, in the order of the declaration.

    Args:
        facts: The declaration and what follows from it.
        wanted: Service to the ids of the tests that ask for it.
    """
    yield from facts.rendered.problems
    yield from _unknown_wanted(facts, wanted)
    yield from _duplicates(facts)
    yield from _same_releases(facts)
    yield from _unknown_names(facts)
    yield from (f"services need each other: {cycle}" for cycle in cycles(facts.needs))
    yield from (f"images need each other: {cycle}" for cycle in cycles(facts.image_needs))
    yield from _env_problems(facts)
    for service in facts.services.values():
        yield from _image_problems(facts, service)
        yield from _endpoint_problems(facts, service)
        yield from _ready_problems(facts, service)
        yield from _path_problems(facts, service)
    yield from facts.ports[1]


def _unknown_wanted(facts: Facts, wanted: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, tests in wanted.items():
        if not facts.services and facts.declaration.source is None:
            yield f'{_who_asks(tests)} "{name}", but no service is declared'
        elif name not in facts.services:
            hint = did_you_mean(name, facts.services)
            declared = f"(declared: {listed(facts.services)})"
            yield f'{_who_asks(tests)} "{name}": no such service{hint} {declared}'


def _who_asks(tests: Sequence[str]) -> str:
    """Return `TEST needs`, or `TEST, TEST and 3 more need`."""
    named, more = list(tests[:_TESTS_NAMED]), len(tests) - _TESTS_NAMED
    if more > 0:
        return f"{', '.join(named)} and {more} more need"
    return " and ".join(named) + (" need" if len(named) > 1 else " needs")


def _duplicates(facts: Facts) -> Iterator[str]:
    declaration = facts.declaration
    yield from _twice("service", [service.name for service in declaration.services])
    yield from _twice("image", [image.name for image in declaration.images])
    further = [name for image in declaration.images for name in {*image.names}]
    yield from _twice("further image name", further)


def _same_releases(facts: Facts) -> Iterator[str]:
    """Yield a sentence for each release that two services would take from each other."""
    owners: dict[tuple[str, str], list[str]] = {}
    for service, release in facts.rendered.releases.items():
        owners.setdefault((release.namespace, release.name), []).append(service)
    for (namespace, name), services in owners.items():
        if len(services) > 1:
            yield (
                f'services {listed(services)} are one release "{name}" in namespace "{namespace}":'
                " give each a release of its own"
            )


def _twice(noun: str, names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f'{noun} "{name}" is declared more than once'
        seen.add(name)


def _unknown_names(facts: Facts) -> Iterator[str]:
    # Over the lists, not the tables by name: of two alike one would hide the other's mistake.
    for service in facts.declaration.services:
        place = f"[services.{service.name}]"
        needs = [need.name for need in service.needs]
        yield from _unknown(f"{place} needs", needs, facts.services, "service")
        yield from _unknown(f"{place} image", service.images, facts.images, "image")
    for image in facts.declaration.images:
        yield from _unknown(f"[images.{image.name}] needs", image.needs, facts.images, "image")


def _unknown(
    place: str, names: Iterable[str], known: Mapping[str, object], noun: str
) -> Iterator[str]:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"; declared: {listed(known)}"
            yield f'{place} "{name}": no such {noun}{hint}'


def _image_problems(facts: Facts, service: Service) -> Iterator[str]:
    place = f"[services.{service.name}]"
    uses, placeholders = facts.uses[service.name], facts.placeholders[service.name]
    yield from (f"{place} {problem}" for problem in uses.problems)
    texts = [name for name in placeholders if name not in facts.images]
    yield from _unknown(f"{place} placeholder for image", texts, facts.images, "image")
    # With a mistyped reference it is clear why nothing uses the image.
    if service.run or service.name in facts.unread or uses.problems:
        return
    used = {*uses.images.values(), *placeholders}
    for name in service.images:
        if name in facts.images and name not in used:
            found = listed(facts.references[service.name])
            yield f'{place} image "{name}": none of its manifests runs it; they run: {found}'


def _endpoint_problems(facts: Facts, service: Service) -> Iterator[str]:
    if facts.unread & {service.name, *facts.needed_by(service.name)}:
        return
    for spec in service.endpoints:
        place = f"[services.{service.name}.endpoints.{spec.name}]"
        target = facts.targets[service.name, spec.name]
        if target is not None:
            yield from (f"{place} {problem}" for problem in _target_problems(spec, target))
        elif not service.run:  # what a Python step applies is not known yet
            yield f"{place} {_missing_target(facts, service, spec)}"


def _env_problems(facts: Facts) -> Iterator[str]:
    for name, template in facts.declaration.env:
        for word in words(template):
            service = facts.services.get(word.service)
            if word.service and service is None:
                yield from _unknown(f"env.{name}:", [word.service], facts.services, "service")
            elif service:
                known = {spec.name: spec for spec in service.endpoints}
                named = [word.endpoint] if word.endpoint else []
                yield from _unknown(f"env.{name}:", named, known, f'endpoint of "{service.name}"')
                if not known:
                    yield f'env.{name}: service "{service.name}" has no endpoint'


def _ready_problems(facts: Facts, service: Service) -> Iterator[str]:
    for kind, _ in service.ready:
        yield from _kind_problems(facts, service, f"ready.{kind}", kind)


def _path_problems(facts: Facts, service: Service) -> Iterator[str]:
    for kind, path in service.images_at:
        yield from _kind_problems(facts, service, f"images_at.{kind}", kind)
        objects = [obj for obj in facts.objects[service.name] if is_meant(kind, obj)]
        if objects and not any(leads_somewhere(obj, path) for obj in objects):
            yield (
                f'[services.{service.name}] images_at.{kind}: "{path}" leads to no image, '
                "container or pod template in its manifests"
            )


def _kind_problems(facts: Facts, service: Service, key: str, kind: str) -> Iterator[str]:
    """Say that no object is of a kind that a key names."""
    if service.run or service.name in facts.unread:  # what a Python step applies is not known yet
        return
    objects = facts.objects[service.name]
    kinds = sorted({obj["kind"] for obj in objects})
    if not any(is_meant(kind, obj) for obj in objects):
        hint = did_you_mean(kind, kinds) or f"; they have: {listed(kinds)}"
        yield f"[services.{service.name}] {key}: none of its manifests has one{hint}"


def _missing_target(facts: Facts, service: Service, spec: EndpointSpec) -> str:
    kind, name = target_name(spec, service.name)
    noun = "k8s service" if kind == "Service" else kind
    names = [
        obj["metadata"]["name"] for obj in facts.reachable(service.name) if obj["kind"] == kind
    ]
    names = list(dict.fromkeys(names))
    hint = did_you_mean(name, names)
    where = "neither its manifests nor those of its needs have it"
    return f'leads to {noun} "{name}", but {where}{hint or f"; they have: {listed(names)}"}'


def _target_problems(spec: EndpointSpec, target: KubeObject) -> Iterator[str]:
    name = target["metadata"]["name"]
    if spec.workload is None and find_port(target, spec.port) is None:
        port = f'"{spec.port}"' if isinstance(spec.port, str) else spec.port
        yield f'leads to port {port}, but k8s service "{name}" has: {_described_ports(target)}'
    elif written_node_port(spec, target) is None and not selector(target):
        yield f'leads to k8s service "{name}", which selects no pods: give it a nodePort'


def _described_ports(k8s_service: KubeObject) -> str:
    """Return `8080 "http", 53 (UDP)`, or `none`."""
    texts = []
    for entry in service_ports(k8s_service):
        name = f' "{entry["name"]}"' if "name" in entry else ""
        protocol = entry.get("protocol", "TCP")
        texts.append(f"{entry.get('port')}{name}" + ("" if protocol == "TCP" else f" ({protocol})"))
    return ", ".join(texts) or "none"
