"""What is wrong with a declaration as a whole: every problem with its place. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.errors import did_you_mean, listed
from pytest_kindinfra.kube.objects import place_of, service_ports
from pytest_kindinfra.kube.readiness import is_meant
from pytest_kindinfra.kube.rewrite import leads_somewhere
from pytest_kindinfra.kube.targets import find_port, selector, target_name
from pytest_kindinfra.plan.copies import problems_of_copies
from pytest_kindinfra.plan.exposure import problems_of_target
from pytest_kindinfra.plan.facts import may_be_shared, same_last_part
from pytest_kindinfra.plan.graph import cycles, in_order
from pytest_kindinfra.plan.origins import origin_problems
from pytest_kindinfra.plan.ports import written_node_port
from pytest_kindinfra.references import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.model import EndpointSpec, KubeObject, Service
    from pytest_kindinfra.plan.facts import Facts, ObjectOwner


_OF_SERVICES = ("url", "host", "port")


_OF_CLUSTER = ("kubeconfig", "namespace", "cluster")


_WORD = re.compile(r"(?<!\$)\{([A-Za-z]+)(?::([^{}:]+))?(?::([^{}:]+))?\}")


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Word(NamedTuple):
    """What a word in braces says: `{url:api:metrics}`.

    Attributes:
        attribute: Of the service's endpoint or of the cluster: `url`.
        service: The service's name; empty if it is about the cluster.
        endpoint: The endpoint's name; empty means the first one.
    """

    attribute: str
    service: str = ""
    endpoint: str = ""


def words(template: str) -> list[Word]:
    """Return the words of a template, in order."""
    return [_word(found) for found in _WORD.finditer(template)]


def fill_words(template: str, value: Callable[[Word], str]) -> str:
    """Return the template with the value of each word in its place."""
    return _WORD.sub(lambda found: value(_word(found)), template)


def env_problems(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield what is wrong with variables, as far as that can be seen without the services."""
    for name, template in pairs:
        if not _NAME.fullmatch(name):
            yield f'env: "{name}" cannot be a variable\'s name'
        for word in words(template):
            known = (*_OF_SERVICES, *_OF_CLUSTER)
            if word.attribute not in known:
                hint = did_you_mean(word.attribute, known) or f"; known: {listed(known)}"
                yield f"env.{name}: {{{word.attribute}}} stands for nothing{hint}"
            elif (word.attribute in _OF_SERVICES) != bool(word.service):
                says = (
                    "needs a service" if word.attribute in _OF_SERVICES else "is about no service"
                )
                yield f"env.{name}: {{{word.attribute}}} {says}"


def _word(match: re.Match[str]) -> Word:
    return Word(match[1], match[2] or "", match[3] or "")


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
    yield from _same_objects(facts, wanted)
    yield from _unknown_names(facts)
    yield from (f"services need each other: {cycle}" for cycle in cycles(facts.needs))
    yield from (f"images need each other: {cycle}" for cycle in cycles(facts.image_needs))
    yield from _env_problems(facts)
    for service in facts.services.values():
        yield from _image_problems(facts, service)
        yield from _endpoint_problems(facts, service)
        yield from _ready_problems(facts, service)
        yield from _path_problems(facts, service)
        yield from _before_problems(facts, service)
    yield from problems_of_copies(facts)
    yield from origin_problems(facts, wanted)
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


def _same_objects(facts: Facts, wanted: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each set of services that would apply the same objects.

    Of services that are never needed together, such as two variants of one, each may have them.
    """
    needed = in_order([name for name in wanted if name in facts.services], facts.needs)
    together: dict[tuple[str, ...], list[list[ObjectOwner]]] = {}
    for identity, owners in facts.owners(n for n in needed if n in facts.services).items():
        services = tuple(dict.fromkeys(one.service for one in owners))
        releases = {one.release for one in owners}
        if len(owners) == 1 or (len(releases) == 1 and None not in releases):
            continue  # of one release helm, or `_same_releases`, says more
        if len(services) == 1:
            yield _twice_in_one(services[0], owners)
        elif not may_be_shared(identity, owners):
            together.setdefault(services, []).append(owners)
    for services, groups in together.items():
        yield _in_several(services, groups)


def _twice_in_one(service: str, owners: Sequence[ObjectOwner]) -> str:
    return (
        f"[services.{service}] {_named(owners[0].obj)} is declared {len(owners)} times:"
        f" {_places(owners)}\n  To fix: keep one of them"
    )


def _in_several(services: Sequence[str], groups: Iterable[Sequence[ObjectOwner]]) -> str:
    lines = [f"  {_named(owners[0].obj)}: {_places(owners)}" for owners in groups]
    return "\n".join(
        (
            f"services {listed(services)} have the same objects and would apply them twice:",
            *lines,
            "  To fix: move them to a service of their own, which the others need",
        )
    )


def _named(obj: KubeObject) -> str:
    return f'{obj["kind"]} "{obj["metadata"]["name"]}"'


def _places(owners: Iterable[ObjectOwner]) -> str:
    """Return where an object stands: `"api" by a.yaml, document 1 and "web" by ...`."""
    found = (f'"{one.service}" by {place_of(one.obj) or "its manifests"}' for one in owners)
    return " and ".join(dict.fromkeys(found))


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
    for reference, problem in uses.problems.items():
        yield f"{place} {facts.place_of_image(service.name, reference)}{problem}"
    for name in placeholders:
        yield from _placeholder_problems(facts, service, name)
    # With a mistyped reference it is clear why nothing uses the image.
    if service.run or service.name in facts.unread or uses.problems:
        return
    used = {*uses.images.values(), *placeholders}
    for name in service.images:
        if name in facts.images and name not in used:
            found = facts.references[service.name]
            yield (
                f'{place} image "{name}": none of its manifests runs it; they run: {listed(found)}'
                + _names_hint(name, found)
            )


def _placeholder_problems(facts: Facts, service: Service, name: str) -> Iterator[str]:
    place = f"[services.{service.name}] {facts.place_of_image(service.name, name)}placeholder"
    image, colon, part = name.partition(":")
    if colon:
        text = f"${{image:{name}}}"
        yield f'{place} "{text}": "{part}" must be "repository" or "tag", or left out'
    yield from _unknown(f"{place} for image", [image], facts.images, "image")


def _names_hint(name: str, references: Iterable[str]) -> str:
    """Return how to have a reference with a registry or a digest mean the image."""
    if same := same_last_part(references, name):
        repository = split(same[0])[0]
        return f'\n  To fix: set [images.{name}] names = ["{repository}"], if that is this image'
    return ""


def _endpoint_problems(facts: Facts, service: Service) -> Iterator[str]:
    if facts.unread & {service.name, *facts.needed_by(service.name)}:
        return
    for spec in service.endpoints:
        place = f"[services.{service.name}.endpoints.{spec.name}]"
        target = facts.targets[service.name, spec.name]
        if target is not None:
            problems = (
                *_target_problems(spec, target),
                *problems_of_target(
                    spec, target, facts.reachable(service.name), complete=not service.run
                ),
            )
            yield from (f"{place} {problem}" for problem in problems)
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
        has = _described_ports(target)
        yield f'leads to port {port}, but k8s service "{name}"{_in_file(target)} has: {has}'
    elif (
        spec.expose in {None, "node-port", "port-forward"}
        and written_node_port(spec, target) is None
        and not selector(target)
    ):
        yield (
            f'leads to k8s service "{name}"{_in_file(target)}, which selects no pods:'
            " give it a nodePort"
        )


def _in_file(obj: KubeObject) -> str:
    """Return ` (web.yaml, document 2)`, or nothing."""
    return f" ({place_of(obj)})" if place_of(obj) else ""


def _described_ports(k8s_service: KubeObject) -> str:
    """Return `8080 "http", 53 (UDP)`, or `none`."""
    texts = []
    for entry in service_ports(k8s_service):
        name = f' "{entry["name"]}"' if "name" in entry else ""
        protocol = entry.get("protocol", "TCP")
        texts.append(f"{entry.get('port')}{name}" + ("" if protocol == "TCP" else f" ({protocol})"))
    return ", ".join(texts) or "none"


def _before_problems(facts: Facts, service: Service) -> Iterator[str]:
    """Say what a service that comes before the nodes are Ready would wait for in vain."""
    if service.before != "nodes":
        return
    for need in service.needs:
        other = facts.services.get(need.name)
        if other and other.before != "nodes":
            yield (
                f'[services.{service.name}] has before = "nodes", but needs "{need.name}", which '
                f"is deployed when the nodes are Ready: give [services.{need.name}] before = "
                '"nodes" too, or remove the need'
            )
