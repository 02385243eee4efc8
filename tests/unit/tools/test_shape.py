"""The shape of the code, which `make shape` prints, gets no worse: a ratchet.

Whoever makes one of the numbers smaller writes the new one here, so that it stays.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest_kindinfra

ROOT = Path(__file__).parents[3]

MOST_WITH_MANY_NAMES = 48
"""Modules with more than five public functions and classes."""
MOST_WITH_ONE_IMPORTER = 0
"""Modules that only one other imports, and which have no reason in `EXPLAINED`."""

SECOND = "a second implementation"
PURE = "a pure core, tested without what imports it"
PROGRAM = "a program or a command of its own"
DOOR = "only this package may use what it uses"
LAZY = "loaded only by runs that need it"
SIZE = "one idea; with its importer it would be too long"
LAYER = "its importer belongs to a package above, and it does not"

EXPLAINED = {
    "clusters.create": SIZE,
    "clusters.fit": PURE,
    "clusters.kind": SECOND,
    "clusters.reuse": SIZE,
    "commands.arguments": SIZE,
    "commands.dev": PROGRAM,
    "commands.doctor": PROGRAM,
    "commands.folder": PROGRAM,
    "commands.gc": PROGRAM,
    "commands.init.compose": SECOND,
    "commands.init.draw": PURE,
    "commands.init.objects": SECOND,
    "commands.init.skaffold": SECOND,
    "commands.init.write": PROGRAM,
    "commands.inside": PROGRAM,
    "commands.plan": PROGRAM,
    "commands.pull": PROGRAM,
    "commands.reused": PROGRAM,
    "commands.sharing": PROGRAM,
    "commands.up": PROGRAM,
    "deploy.charts": SIZE,
    "deploy.postrenderer": PROGRAM,
    "deploy.release": SIZE,
    "deploy.service": LAYER,
    "engines.credentials": SIZE,
    "engines.builders": SIZE,
    "engines.docker": SECOND,
    "engines.snapshots": DOOR,
    "images.ignore": PURE,
    "intests.objects": SIZE,
    "kube.apis": DOOR,
    "kube.boot": SIZE,
    "kube.credentials": SIZE,
    "kube.diagnosis": PURE,
    "kube.execute": DOOR,
    "kube.follow": DOOR,
    "kube.leases": DOOR,
    "kube.remote": DOOR,
    "kube.rights": LAZY,
    "plan.records": PURE,
    "plan.requests": PURE,
    "plan.resolve": PURE,
    "plan.schema": PROGRAM,
    "run.drawing": LAZY,
    "run.places": PURE,
    "run.remote": LAZY,
    "run.surroundings": SIZE,
    "run.grouping": SIZE,
    "run.shards": LAZY,
    "session.attempts": LAZY,
    "session.freshness": LAZY,
    "session.given": "pytest finds fixtures in it",
    "session.pause": LAZY,
    "session.planning": LAZY,
    "session.preparation": LAZY,
    "session.provisioner": LAZY,
    "state.rotation": SIZE,
    "state.stack": SIZE,
    "state.turns": SIZE,
    "system.screen": DOOR,
}
"""Why a module that only one other imports is no part of that."""


def shape() -> Any:
    spec = importlib.util.spec_from_file_location("shape", ROOT / "tools" / "shape.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    return module


SHAPE = shape()
MODULES = SHAPE.read_modules(Path(pytest_kindinfra.__file__).parent)


def test_no_module_is_too_long() -> None:
    assert SHAPE.long_modules(MODULES) == []


def test_no_more_modules_have_many_public_names() -> None:
    wide = SHAPE.wide_modules(MODULES)

    assert len(wide) <= MOST_WITH_MANY_NAMES, wide


def test_no_more_modules_have_one_importer_and_no_reason_for_it() -> None:
    unexplained = [name for name in SHAPE.lone_modules(MODULES) if name not in EXPLAINED]

    assert len(unexplained) <= MOST_WITH_ONE_IMPORTER, unexplained


def test_what_is_explained_is_there() -> None:
    assert set(SHAPE.lone_modules(MODULES)) >= EXPLAINED.keys()
