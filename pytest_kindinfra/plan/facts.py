"""What follows from a declaration and its objects, computed once for the checks and the plan.

Which image a reference in a manifest means is decided here. Nothing is judged. Pure.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.kube.objects import (
    applying_order,
    custom_cluster_scoped,
    identity_of,
    is_hook,
    is_same_content,
    place_of,
)
from pytest_kindinfra.kube.rewrite import has_placeholder, image_references_at, placeholder_names
from pytest_kindinfra.kube.targets import find_target
from pytest_kindinfra.plan.graph import in_order
from pytest_kindinfra.plan.ports import allot_ports
from pytest_kindinfra.references import (
    has_digest,
    is_bare_or_local,
    is_meant_by,
    is_reference,
    last_part,
    stand_in,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pytest_kindinfra.kube.objects import Identity, Rendered
    from pytest_kindinfra.kube.rewrite import ImagePaths
    from pytest_kindinfra.model import Declaration, Image, KubeObject, PortMapping, Release, Service


_NEAR = 0.8
"""`datastorge` is near `datastorage` (0.95), `postgres` is not near `postgres-init` (0.76): an
error about an image that is meant to be another one would be worse than a missed typo."""


_SHORTEST, _SHORT = 3, 4
"""Letters of names that are near if one edit leads from one to the other: no ratio tells `wbe`,
which is near `web`, from `nats`, which is not near `auth`."""


_WELL_KNOWN = frozenset(
    {
        *("bash", "caddy", "crate", "dart", "flink", "gcc", "ghost", "haxe", "httpd", "julia"),
        *("kong", "mongo", "mysql", "nats", "neo4j", "nginx", "node", "odoo", "perl", "php"),
        *("pypy", "redis", "ros", "ruby", "rust", "solr", "spark", "storm", "swift", "swipl"),
        *("unit", "vault", "xwiki"),
    }
)
"""Images of Docker Hub whose bare names are meant literally, such as `node` next to `code`."""


_PLACEHOLDERS = "${image:NAME}, ${image:NAME:repository} and ${image:NAME:tag}"


@dataclass(frozen=True, slots=True)
class _Uses:
    """What the image references of one service mean.

    Attributes:
        images: Reference as written to the declared image's name.
        external: References as written that no declared image means.
        problems: References that are mistakes, such as nearly a declared image, to what is wrong.
    """

    images: dict[str, str] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)


def match_references(
    references: Iterable[str], images: Iterable[Image], *, in_pods: Collection[str] = ()
) -> _Uses:
    """Sort references into those of declared images, external ones, and likely mistakes.

    Args:
        references: As written.
        images: All declared ones.
        in_pods: Those that a kubelet reads as they are; custom resources may have templates.
    """
    known = tuple(images)
    used: dict[str, str] = {}
    external: list[str] = []
    problems: dict[str, str] = {}
    for reference in references:
        name = _meant(reference, known)
        if name is not None:
            used[reference] = name
        elif reference in in_pods and not is_reference(reference):
            problems[reference] = _form_problem(reference)
        elif near := _near_miss(reference, known):
            problems[reference] = _near_problem(reference, near)
        else:
            external.append(reference)
    return _Uses(used, tuple(external), problems)


def _meant(reference: str, images: tuple[Image, ...]) -> str | None:
    """Return the image whose further names have that reference, or whose name is its last part.

    The last part counts only where no registry and no digest is named: the last words of
    `registry.k8s.io/ingress-nginx/controller` and of a project's own `controller` are the same by
    chance.
    """
    for image in images:
        if any(is_meant_by(reference, name) for name in image.names):
            return image.name
    if not is_bare_or_local(reference) or has_digest(reference):
        return None
    name = last_part(reference)
    return next((image.name for image in images if image.name == name), None)


def _near_miss(reference: str, images: tuple[Image, ...]) -> str | None:
    if not is_bare_or_local(reference) or has_digest(reference):
        return None
    word, names = last_part(reference), [image.name for image in images]
    if word in _WELL_KNOWN and "/" not in reference:
        return None
    near = difflib.get_close_matches(word, names, n=1, cutoff=_NEAR)
    if not near:
        near = [
            name for name in names if _SHORTEST <= len(name) <= _SHORT and _one_edit(word, name)
        ]
    return near[0] if near else None


def _one_edit(word: str, name: str) -> bool:
    """Whether one letter more, less or changed, or two letters exchanged, make one of the other."""
    if len(word) > len(name):
        word, name = name, word
    start = next((n for n, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), len(word))
    rest, wanted = word[start:], name[start:]
    if len(rest) < len(wanted):
        return rest == wanted[1:]
    return rest[1:] == wanted[1:] or (rest[:2] == wanted[1::-1] and rest[2:] == wanted[2:])


def _form_problem(reference: str) -> str:
    hint = ""
    if any(sign in reference for sign in "${}"):
        hint = f"; placeholders are {_PLACEHOLDERS}"
    return f'image "{reference}": that is no image reference{hint}'


def _near_problem(reference: str, near: str) -> str:
    escape = ""
    if "/" not in reference:
        # Not the full form: a missing tag stays missing.
        escape = f' (a registry\'s image: write "docker.io/library/{reference}")'
    return f'image "{reference}": no such image; did you mean "{near}"?{escape}'


_IN_CRDS = re.compile(r"[ /]crds/")


class ObjectOwner(NamedTuple):
    """A service that has an object, and the namespace and name of the release that makes it."""

    service: str
    obj: KubeObject
    release: tuple[str, str] | None


def may_be_shared(identity: Identity, owners: Sequence[ObjectOwner]) -> bool:
    """Whether several services may have an object: one without a namespace, exactly alike.

    Of objects that charts make helm wants one release to be the owner.
    """
    same = all(is_same_content(owners[0].obj, one.obj) for one in owners)
    return same and not identity.namespace and not any(one.release for one in owners)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What is known of the cluster before it is there.

    Attributes:
        kubernetes: Its version as two numbers; None means the default of a current kind.
        only_planned: Nothing makes namespaces and kinds in it but what is planned: it is new, and
            no hook or script of the user's is called on the way.
        existing: Runs did not create it.
    """

    kubernetes: tuple[int, int] | None = None
    only_planned: bool = False
    existing: bool = False


UNKNOWN_CLUSTER = ClusterFacts()


@dataclass(frozen=True)
class Facts:
    """A declaration, its rendered objects, and what is derived from the two."""

    declaration: Declaration
    rendered: Rendered
    cluster: ClusterFacts = UNKNOWN_CLUSTER

    @cached_property
    def services(self) -> dict[str, Service]:
        """The declared services by name."""
        return {service.name: service for service in self.declaration.services}

    @cached_property
    def images(self) -> dict[str, Image]:
        """The declared images by name."""
        return {image.name: image for image in self.declaration.images}

    @cached_property
    def needs(self) -> dict[str, list[str]]:
        """Service to the services it needs."""
        return {name: [need.name for need in one.needs] for name, one in self.services.items()}

    @cached_property
    def image_needs(self) -> dict[str, tuple[str, ...]]:
        """Image to the images it starts from."""
        return {name: image.needs for name, image in self.images.items()}

    @cached_property
    def unread(self) -> set[str]:
        """Services whose manifests have a problem: what they lack is not known."""
        missing = self.services.keys() - self.rendered.objects.keys()
        return set(missing) if self.rendered.problems else set()

    @cached_property
    def objects(self) -> dict[str, tuple[KubeObject, ...]]:
        """Service to its objects in applying order."""
        return {name: tuple(applying_order(self._each_once(name))) for name in self.services}

    def _each_once(self, name: str) -> list[KubeObject]:
        """Return a service's objects without exact duplicates."""
        found: list[KubeObject] = []
        there: dict[Identity, list[KubeObject]] = {}
        for obj in self.rendered.objects.get(name, ()):
            charted = id(obj) in self._charted
            alike = () if charted else there.setdefault(self.identity(obj), [])
            if not any(is_same_content(obj, one) for one in alike):
                found.append(obj)
                if isinstance(alike, list):
                    alike.append(obj)
        return found

    @cached_property
    def _charted(self) -> set[int]:
        """The ids of the objects that charts make."""
        return {id(obj) for one in self.rendered.releases.values() for obj in one.objects}

    @cached_property
    def _cluster_scoped(self) -> frozenset[tuple[str, str]]:
        everything = (obj for objects in self.rendered.objects.values() for obj in objects)
        return custom_cluster_scoped(everything)

    def identity(self, obj: KubeObject, release: Release | None = None) -> Identity:
        """Return which object of the cluster `obj` is, if a release makes it or none."""
        namespace = release.namespace if release else self.declaration.cluster.namespace
        return identity_of(obj, namespace=namespace, cluster_scoped=self._cluster_scoped)

    def owners(self, services: Iterable[str]) -> dict[Identity, list[ObjectOwner]]:
        """Return each object to the services that have it, except for what helm manages itself.

        That are hooks, which helm creates again each time, and CRDs in a chart's `crds`, which helm
        leaves alone if they are there.
        """
        found: dict[Identity, list[ObjectOwner]] = {}
        for name in services:
            release = self.rendered.releases.get(name)
            for obj in self.objects[name]:
                made_by = release if id(obj) in self._charted else None
                if made_by and (is_hook(obj) or _IN_CRDS.search(place_of(obj))):
                    continue
                where = (made_by.namespace, made_by.name) if made_by else None
                identity = self.identity(obj, made_by)
                found.setdefault(identity, []).append(ObjectOwner(name, obj, where))
        return found

    @cached_property
    def shared(self) -> tuple[KubeObject, ...]:
        """Objects without a namespace that several services have, exactly alike."""
        groups = self.owners(self.services).items()
        alike = (owners for identity, owners in groups if may_be_shared(identity, owners))
        return tuple(one.obj for owners in alike for one in owners if len(owners) > 1)

    @cached_property
    def references(self) -> dict[str, list[str]]:
        """Service to the image references in its manifests, each once."""
        return {
            name: [
                ref
                for ref in _references(objects, self.services[name].images_at)
                if ref not in self._unknown_stand_ins(name) and not has_placeholder(ref)
            ]
            for name, objects in self.objects.items()
        }

    def _unknown_stand_ins(self, name: str) -> set[str]:
        """Return placeholders of images that are not declared: the placeholder is the mistake."""
        release = self.rendered.releases.get(name)
        mentions = release.mentions if release else ()
        return {stand_in(image) for image in mentions if image not in self.images}

    @cached_property
    def placeholders(self) -> dict[str, list[str]]:
        """Service to the image names in `${image:NAME}` of its objects and values, each once."""
        releases = self.rendered.releases
        mentioned = {name: releases[name].mentions for name in releases}
        return {
            name: list(
                dict.fromkeys(
                    (
                        *mentioned.get(name, ()),
                        *(
                            text
                            for obj in objects
                            for text in placeholder_names(obj, self.services[name].images_at)
                        ),
                    )
                )
            )
            for name, objects in self.objects.items()
        }

    @cached_property
    def uses(self) -> dict[str, _Uses]:
        """Service to what its image references mean."""
        images = self.declaration.images
        return {
            name: match_references(refs, images, in_pods=_references(self.objects[name], ()))
            for name, refs in self.references.items()
        }

    def place_of_image(self, name: str, text: str) -> str:
        """Return `PLACE: ` of the first object of a service that names an image so, or nothing.

        Args:
            name: The service.
            text: A reference, or a placeholder's name.
        """
        paths = self.services[name].images_at
        for obj in self.objects[name]:
            named = (*image_references_at(obj, paths), *placeholder_names(obj, paths))
            if text in named and place_of(obj):
                return f"{place_of(obj)}: "
        return ""

    @cached_property
    def targets(self) -> dict[tuple[str, str], KubeObject | None]:
        """Service and endpoint to the k8s service or workload that it leads to."""
        return {
            (service.name, spec.name): find_target(spec, service.name, self.reachable(service.name))
            for service in self.services.values()
            for spec in service.endpoints
        }

    @cached_property
    def ports(self) -> tuple[tuple[PortMapping, ...], list[str]]:
        """All port mappings, and what is wrong with the ports."""
        services = tuple(self.services.values())
        return allot_ports(services, objects=self.objects, targets=self.targets)

    def before_nodes(self) -> list[str]:
        """Return the services without which no kind node gets Ready, needed by every run."""
        if self.cluster.existing:
            return []
        return [one.name for one in self.declaration.services if one.before == "nodes"]

    def makers_for(self, name: str, planned: Collection[str]) -> list[str]:
        """Return the services that may bring what a service lacks: it waits for none that needs it.

        Args:
            name: The service.
            planned: The services of the run; one that is not among them may have any other.
        """
        others = planned if name in planned else self.services
        return [one for one in others if one == name or name not in self.needed_by(one)]

    def needed_by(self, name: str) -> list[str]:
        """Return the services that a service needs, near ones first, without itself."""
        return [need for need in reversed(in_order([name], self.needs)) if need != name]

    def reachable(self, name: str) -> Iterator[KubeObject]:
        """Yield the objects that an endpoint may lead to: the service's own come first."""
        for service in (name, *self.needed_by(name)):
            yield from self.objects[service]

    def images_of(self, name: str) -> tuple[str, ...]:
        """Return the declared images that a service declares or its manifests use."""
        used = (*self.uses[name].images.values(), *self.placeholders[name])
        named = dict.fromkeys((*self.services[name].images, *used))
        return tuple(image for image in named if image in self.images)


def _references(objects: Iterable[KubeObject], paths: ImagePaths) -> list[str]:
    """Return the image references in objects, each once."""
    return list(dict.fromkeys(ref for obj in objects for ref in image_references_at(obj, paths)))
