"""`kindinfra` without a word: what there is of this folder."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.commands.images import settings_of
from pytest_kindinfra.commands.places import look
from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.prepare import read_declaration
from pytest_kindinfra.run.report import count
from pytest_kindinfra.state.reused import services_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.model import Declaration


_OUTCOMES = {
    "passed": "passed",
    "failed": "failed",
    "skipped": "was skipped",
    "interrupted": "was interrupted",
}


def folder_lines() -> Iterator[str]:
    """Yield lines about the declaration, the reused cluster and the last run; nothing is raised."""
    folder = declaration_folder(Path.cwd())
    try:
        declaration = read_declaration(folder)
        settings = settings_of(declaration, {})
    except DeclarationError as error:
        yield _row("declaration", f"{count(len(error.problems), 'problem')} in {folder}")
        yield _row("", "To fix: kindinfra plan shows them")
        return
    yield from _declaration(declaration, folder)
    if declaration.source is None:
        return
    yield from _cluster()
    yield from _last_run(folder / settings.artifacts)


def _declaration(declaration: Declaration, folder: Path) -> Iterator[str]:
    if declaration.source is None:
        yield _row("declaration", f"none in {folder} or above")
        yield _row("", "To begin: kindinfra init")
        return
    services = count(len(declaration.services), "service")
    images = count(len(declaration.images), "image")
    yield _row("declaration", f"{folder / declaration.source}: {services}, {images}")


def _cluster() -> Iterator[str]:
    try:
        place = look({})
    except KindInfraError as error:
        yield _row("cluster", f"unknown: {str(error).splitlines()[0]}")
        return
    if place.kept:
        services = services_in(place.directory) if place.directory else []
        yield _row("cluster", f"existing, {place.name}: {', '.join(services) or 'no services'}")
    elif place.there is None:
        yield _row("cluster", f"none ({place.name} will be created by kindinfra up)")
    elif not place.there.running:
        yield _row("cluster", f"{place.name}, whose kind nodes do not run")
    else:
        services = services_in(place.directory) if place.directory else []
        yield _row("cluster", f"{place.name}: {', '.join(services) or 'no services'}")
        yield _row("", "kindinfra status shows which services are ready")


def _last_run(artifacts: Path) -> Iterator[str]:
    latest = (artifacts / "latest").resolve()
    with suppress(OSError, ValueError, KeyError, TypeError):
        report: dict[str, Any] = json.loads((latest / "run.json").read_text("utf-8"))
        state = str(report["outcome"]["state"])
        failed = ", ".join(report["outcome"]["failures"])
        why = f" ({failed})" if failed else ""
        yield _row("last run", f"{_OUTCOMES.get(state, state)}{why}: {latest}")


def _row(name: str, text: str) -> str:
    return f"  {name:<12} {text}"
