"""A declaration in the making, and its text. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftImage:
    """An image: keys as in the declaration, and notes for what could not be told."""

    name: str
    keys: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftService:
    """A service.

    Attributes:
        name: Its name.
        keys: As in the declaration, without `needs` and `endpoints`.
        needs: Name to level; `ready` is the plain one.
        endpoints: Name to keys.
        notes: What could not be told, or was guessed.
    """

    name: str
    keys: Mapping[str, Any]
    needs: Mapping[str, str] = field(default_factory=dict)
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A whole declaration.

    Attributes:
        sources: The files that it was made from.
        images: In any order.
        services: In any order.
        notes: What is about no image or service.
        files: Path to text of files that it needs in addition to the declaration.
        off: Title of a table that is commented out, `images.web`, to why.
    """

    sources: tuple[str, ...] = ()
    images: tuple[DraftImage, ...] = ()
    services: tuple[DraftService, ...] = ()
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    off: Mapping[str, str] = field(default_factory=dict)

    @property
    def live(self) -> list[DraftService]:
        """The services that are not commented out, each after those that it needs."""
        there = {one.name: one for one in self.services if f"services.{one.name}" not in self.off}
        ordered: dict[str, DraftService] = {}

        def add(name: str) -> None:
            if name in there and name not in ordered:
                for need in there[name].needs:
                    add(need)
                ordered[name] = there[name]

        for name in there:
            add(name)
        return list(ordered.values())

    def without(self, title: str, why: str) -> Draft:
        """Return it with a table commented out, and with those that need what it declares."""
        if title in self.off:
            return self
        made, name = replace(self, off={**self.off, title: why}), title.partition(".")[2]
        for other, needed in self._needing(title):
            made = made.without(other, f'{needed} "{name}" is commented out')
        return made

    def _needing(self, title: str) -> Iterator[tuple[str, str]]:
        kind, _, name = title.partition(".")
        for image in self.images if kind == "images" else ():
            if name in image.keys.get("needs", ()):
                yield f"images.{image.name}", "its base image"
        for service in self.services:
            used = [service.keys.get("image"), *service.keys.get("images", ())]
            if kind == "images" and name in used:
                yield f"services.{service.name}", "its image"
            if kind == "services" and name in service.needs:
                yield f"services.{service.name}", "its need"


def without_cycles(services: Iterable[DraftService]) -> tuple[DraftService, ...]:
    """Return services without guessed needs on themselves, on missing services, or in a circle."""
    there = {one.name: one for one in services}
    needs: dict[str, dict[str, str]] = {}
    for name, service in there.items():
        needs[name] = {}
        for need, level in service.needs.items():
            if need in there and not _reaches(need, name, needs):
                needs[name][need] = level
    return tuple(replace(one, needs=needs[name]) for name, one in there.items())


def _reaches(start: str, end: str, needs: Mapping[str, Mapping[str, str]]) -> bool:
    return start == end or any(_reaches(need, end, needs) for need in needs.get(start, ()))


def draft_text(draft: Draft) -> str:
    """Return the text of kindinfra.toml."""
    lines = ["# Written by `kindinfra init`", *_sources(draft.sources)]
    lines += ["# All keys: `kindinfra schema`. What a run would do: `kindinfra plan`.", ""]
    lines += ["[cluster]", 'namespace = "default"', '# node_image = "kindest/node:v1.34.0"', ""]
    lines += [f"# {note}" for note in draft.notes]
    lines += [""] if draft.notes else []
    for image in draft.images:
        lines += [*_image(image, draft.off), ""]
    for service in draft.services:
        lines += [*_service(service, draft.off), ""]
    if not draft.services:
        lines += _EXAMPLE
    return "\n".join(lines).rstrip() + "\n"


_EXAMPLE = [
    "# No service was found. One looks like this:",
    "#",
    "# [images.web]",
    '# context = "web"',
    "#",
    "# [services.web]",
    '# image = "web"',
    '# manifests = ["manifests/web.yaml"]',
    '# endpoints.http = { port = 8080, path = "/health" }',
]


def _sources(sources: tuple[str, ...]) -> list[str]:
    return [f"# from: {', '.join(sources)}"] if sources else []


def _image(image: DraftImage, off: Mapping[str, str]) -> list[str]:
    title = f"images.{image.name}"
    rows = [f"[{_dotted('images', image.name)}]"]
    rows += [f"{key} = {_toml(value)}" for key, value in image.keys.items()]
    return _table(rows, image.notes, off.get(title))


def _service(service: DraftService, off: Mapping[str, str]) -> list[str]:
    title = f"services.{service.name}"
    rows = [f"[{_dotted('services', service.name)}]"]
    rows += [f"{key} = {_toml(value)}" for key, value in service.keys.items()]
    if service.needs:
        needs = [name if level == "ready" else f"{name}:{level}"
                 for name, level in service.needs.items()]  # fmt: skip
        rows.append(f"needs = {_toml(needs)}")
    for name, keys in service.endpoints.items():
        rows.append(f"endpoints.{name} = {_toml(keys)}")
    return _table(rows, service.notes, off.get(title))


def _table(rows: list[str], notes: tuple[str, ...], off: str | None) -> list[str]:
    comments = [f"# {note}" for note in notes]
    if off is None:
        return [*comments, *rows]
    reason = [f"# commented out: {line}" for line in off.splitlines()]
    return [*comments, *reason, *(f"# {row}" for row in rows)]


def _dotted(*names: str) -> str:
    return ".".join(_key(name) for name in names)


def _key(name: str) -> str:
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isalnum() and plain.isascii() else json.dumps(name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_toml(one)}' for key, one in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
