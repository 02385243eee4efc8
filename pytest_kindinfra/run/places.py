"""Where a failure can be mended: a line of a Dockerfile, a manifest or the declaration."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.plan.manifests import matching_files
from pytest_kindinfra.run.ci import SourceLine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import Declaration, Service


_DOCKERFILE = re.compile(r"^(?:\s*)(\S*(?:Dockerfile|Containerfile)\S*?):(\d+): ", re.MULTILINE)


_SUBJECT = re.compile(r'(service|image) "([^"]+)"')


_QUOTED = re.compile(r'"([^"\s]+)"')


def place_of(root: str, text: str, declaration: Declaration) -> SourceLine:
    """Return the line at which a failure can be mended, as well as it can be told.

    Args:
        root: With what it began: `image "api"`, `service "web"`, `the cluster`.
        text: The cause in full.
        declaration: Of the project; the place's file is relative to its folder.
    """
    if found := _DOCKERFILE.search(text):
        return SourceLine(found[1], int(found[2]))
    subject = _SUBJECT.search(root)
    if subject is None or declaration.source is None:
        return SourceLine()
    kind, name = subject[1], subject[2]
    service = next((one for one in declaration.services if one.name == name), None)
    if kind == "service" and service and (place := _in_manifests(service, text, declaration)):
        return place
    return _in_declaration(f"{kind}s", name, declaration)


def _in_manifests(service: Service, text: str, declaration: Declaration) -> SourceLine | None:
    """Return the first line of the service's manifests that names what the text quotes."""
    words = [word for word in _QUOTED.findall(text) if word != service.name]
    files = list(_manifests(service, declaration.folder))
    for word in [*words, service.name]:
        pattern = re.compile(rf"(?:image|name): *[\"']?{re.escape(word)}[\"']?(?:[,}}\s]|$)")
        for path, content in files:
            if found := pattern.search(content):
                return SourceLine(path, content.count("\n", 0, found.start()) + 1)
    return SourceLine(files[0][0], 1) if files else None


def _manifests(service: Service, folder: Path) -> Iterator[tuple[str, str]]:
    for pattern in service.manifests:
        for path in matching_files(pattern, folder):
            with suppress(OSError, UnicodeDecodeError):
                yield path, (folder / path).read_text("utf-8")


def _in_declaration(table: str, name: str, declaration: Declaration) -> SourceLine:
    file = str(declaration.source)
    with suppress(OSError, UnicodeDecodeError):
        lines = (declaration.folder / file).read_text("utf-8").splitlines()
        title = re.compile(rf"^\s*\[(?:tool\.kindinfra\.)?{table}\.[\"']?{re.escape(name)}[\"'.\]]")
        for number, line in enumerate(lines, 1):
            if title.match(line):
                return SourceLine(file, number)
    return SourceLine(file, 1)
