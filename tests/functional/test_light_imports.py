"""The plugin is loaded by every pytest process; those that need nothing must not pay for it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

HEAVY = {
    "kubernetes", "docker", "rich", "yaml", "filelock", "asyncio", "concurrent.futures", "urllib3",
    "http.client", "ssl", "multiprocessing", "psutil",
}  # fmt: skip
LOADED = {
    "pytest_kindinfra", "pytest_kindinfra.errors", "pytest_kindinfra.frozen",
    "pytest_kindinfra.hookspecs",
    "pytest_kindinfra.plan", "pytest_kindinfra.plan.options", "pytest_kindinfra.plugin",
    "pytest_kindinfra.session", "pytest_kindinfra.session.given",
    "pytest_kindinfra.session.options", "pytest_kindinfra.session.selection",
    "pytest_kindinfra.session.stash",
}  # fmt: skip
"""All that loading the plugin may import: each process of pytest pays for it."""
NEEDS_NOTHING = LOADED | {
    "pytest_kindinfra.plan.files", "pytest_kindinfra.plan.settings",
    "pytest_kindinfra.session.controller", "pytest_kindinfra.session.neighbours",
    "pytest_kindinfra.state", "pytest_kindinfra.state.runnames", "pytest_kindinfra.system",
    "pytest_kindinfra.system.files",
}  # fmt: skip
"""What a whole run may import in which no test needs anything."""
QUIET = ("-k", "free", "-W", "ignore")  # without the plugin the mark is unknown

NEW_MODULES = """
import json, sys
import pytest
before = set(sys.modules)
import pytest_kindinfra.plugin
print(json.dumps(sorted(set(sys.modules) - before)))
"""

COMPILED = """
import json, sys
import pytest
found = []

def hook(event, arguments):
    if event == "compile" and not str(arguments[1]).endswith(".py"):
        found.append(str(arguments[0]))

sys.addaudithook(hook)
import pytest_kindinfra.plugin
print(json.dumps(found))
"""

TELL_MODULES = """
import json, sys
from story import note

def pytest_unconfigure(config):
    worker = "worker" if hasattr(config, "workerinput") else "main"
    note(worker + " " + json.dumps(sorted(sys.modules)))
"""


def test_loading_the_plugin_imports_a_few_modules_of_its_own_and_no_other() -> None:
    argv = [sys.executable, "-c", NEW_MODULES]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)

    assert set(json.loads(done.stdout)) == LOADED


def test_loading_the_plugin_compiles_no_method_of_a_record() -> None:
    """`dataclass` and `NamedTuple` do it at each import, which takes longer than all else."""
    argv = [sys.executable, "-c", COMPILED]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []


def modules_at_the_end(run: Run) -> dict[str, set[str]]:
    """Return what each process had imported: `main`, and `worker` if there was one."""
    told = (what.split(" ", 1) for what, *_ in run.notes)
    return {process: set(json.loads(names)) for process, names in told}


@pytest.mark.parametrize("workers", [None, 1])
def test_a_run_that_needs_nothing_imports_nothing_heavy(
    project: Project, workers: int | None
) -> None:
    project.service("api")
    project.write("conftest.py", TELL_MODULES)
    project.tests("""
        @pytest.mark.kindinfra("api")
        def test_api(): ...

        def test_free(): ...
    """)

    without = modules_at_the_end(project.run("-p", "no:kindinfra", *QUIET, workers=workers))
    told = modules_at_the_end(project.run(*QUIET, workers=workers, KINDINFRA_SNAPSHOT=""))

    assert set(told) == ({"main", "worker"} if workers else {"main"})
    for process, modules in told.items():
        assert "pytest_kindinfra.plugin" in modules
        assert HEAVY.isdisjoint(modules - without[process])
        own = {name for name in modules if name.startswith("pytest_kindinfra")}
        if process == "worker" or not workers:  # xdist's controller looks what workers ask for
            assert own <= NEEDS_NOTHING
