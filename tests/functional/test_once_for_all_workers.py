"""However a run is spread over processes, everything is done once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

TESTS = """
@pytest.mark.parametrize("number", range(6))
@pytest.mark.kindinfra("front", "api")
def test_pair(kindinfra, number):
    import urllib.request
    with urllib.request.urlopen(kindinfra.url("front")) as answer:
        assert answer.read() == b"front-http-kindinfra"
    assert kindinfra.url("api") != kindinfra.url("front")

@pytest.mark.xdist_group("one")
@pytest.mark.kindinfra("api")
def test_api(): ...

def test_free(): ...
"""
NO_XDIST = """
import sys

class Nothing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"xdist", "execnet"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
"""


def run_with(project: Project, *arguments: str, workers: int | None) -> Run:
    project.service("db")
    project.service("api", image=True, needs=("db",))
    project.service("front", image=True, needs=("api",))
    project.tests(TESTS)
    return project.run(*arguments, workers=workers)


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [
        pytest.param((), 4, id="4 workers"),
        pytest.param((), 0, id="-n 0"),
        pytest.param((), None, id="without xdist"),
        pytest.param((), 2, id="2 workers"),
        pytest.param((), 8, id="8 workers"),
        pytest.param(("--dist", "each"), 2, id="each"),
        pytest.param(("-d", "--tx=2*popen"), None, id="--tx popen"),
        pytest.param(("--dist", "loadscope"), 2, id="loadscope"),
        pytest.param(("--dist", "loadfile"), 2, id="loadfile"),
        pytest.param(("--dist", "loadgroup"), 2, id="loadgroup"),
        pytest.param(("--dist", "worksteal"), 2, id="worksteal"),
    ],
)
def test_each_thing_is_done_once(
    project: Project, arguments: tuple[str, ...], workers: int | None
) -> None:
    run = run_with(project, *arguments, workers=workers)

    passed = 16 if "each" in arguments else 8
    assert (run.code, run.outcomes) == (0, {"passed": passed}), run.text
    assert run.built == ["api", "front"]
    assert len(run.calls("create")) == 1
    assert run.deployed == ["api", "db", "front"]
    assert len(run.calls("delete")) == 1
    assert run.clusters == []
    last = max(when for what, when, _ in run.notes if what.startswith("end"))
    assert run.call("delete").start > last


def test_a_run_inside_a_worker_of_another_run_provisions_for_itself(project: Project) -> None:
    project.tests("def test_it(kindinfra): ...\n")

    run = project.run(workers=None, PYTEST_XDIST_WORKER="gw7", PYTEST_XDIST_TESTRUNUID="other")

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert len(run.calls("create")) == len(run.calls("delete")) == 1


THREE_CORES = f"""
import importlib.machinery, importlib.util, sys

folders = [{str(Path(psutil.__file__).parents[1])!r}]
spec = importlib.machinery.PathFinder.find_spec("psutil", folders)
sys.modules["psutil"] = real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)
real.cpu_count = lambda logical=True: 3 if logical else 2
"""
"""psutil with another count of cores: xdist asks it, and so does this plugin for other things."""


@pytest.mark.parametrize(
    ("module", "count", "most", "workers"),
    [
        pytest.param(THREE_CORES, "logical", 4, "3 workers", id="three logical cores"),
        pytest.param(THREE_CORES, "auto", 4, "2 workers", id="two cores"),
        pytest.param("", "logical", 2, "[12] workers?", id="the logical cores of this machine"),
        pytest.param("", "auto", 2, "[12] workers?", id="the cores of this machine"),
    ],
)
def test_each_thing_is_done_once_with_a_worker_for_each_core(
    project: Project, module: str, count: str, most: int, workers: str
) -> None:
    if module:
        project.write("psutil.py", module)

    run = run_with(project, "-n", count, f"--maxprocesses={most}", workers=0)

    assert (run.code, run.outcomes) == (0, {"passed": 8}), run.text
    assert re.search(rf"^{workers} \[8 items\]", run.out, re.MULTILINE), run.out
    assert (run.built, run.deployed) == (["api", "front"], ["api", "db", "front"])
    assert len(run.calls("create")) == len(run.calls("delete")) == 1


def test_xdist_need_not_be_installed(project: Project) -> None:
    project.write("nothing/sitecustomize.py", NO_XDIST)
    project.service("api", image=True)
    project.tests("""
        @pytest.mark.kindinfra("api")
        def test_api(kindinfra):
            assert kindinfra.url("api")
            for name in ("xdist", "execnet"):
                with pytest.raises(ModuleNotFoundError):
                    __import__(name)
    """)

    run = project.run(
        *("-p", "kindinfra"),
        workers=None,
        PYTHONPATH=str(project.folder / "nothing"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert (run.built, run.deployed) == (["api"], ["api"])
    assert len(run.calls("create")) == len(run.calls("delete")) == 1
