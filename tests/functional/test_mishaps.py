"""What goes wrong around a run: a bug of ours, a lost cluster, damaged files, a second run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.project import Project, Run

SOON = 10.0
"""Seconds that stand for "at once": a lost wait would be of minutes, a busy machine is slow."""

MARKED = """
@pytest.mark.parametrize("number", range(4))
@pytest.mark.kindinfra("api")
def test_api(number): ...

def test_free(): ...
"""
BUG = """
import sys


def broken(*args, **kwargs):
    raise ZeroDivisionError("a bug of ours")


if any("pytest_kindinfra.provisioner" in word for word in sys.orig_argv):
    import {module}

    {module}.{name} = broken
    {more}
"""
"""A module that each process of Python loads first."""
RUBBISH = '''
import json
from pathlib import Path


def damage(name, text):
    """Damage a state file as somebody with an editor could."""
    (folder,) = [path for path in Path(".kindinfra").glob("2*") if path.is_dir()]
    (folder / "state" / name).write_text(text)


@pytest.mark.kindinfra("api")
def test_a(kindinfra):
    damage("service-api.json", {text!r})


@pytest.mark.kindinfra("api")
def test_b(): ...


@pytest.mark.kindinfra("api")
def test_c(): ...


@pytest.mark.kindinfra("other")
def test_d(): ...
'''


def add_to_conftest(project: Project, text: str) -> None:
    project.write("conftest.py", (project.folder / "conftest.py").read_text() + text)


def settled_at(run: Run, name: str) -> float:
    """Return when a result was written."""
    return (Path(run.folder) / "state" / f"{name}.json").stat().st_mtime


# -- a bug of ours -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "workers"),
    [
        pytest.param("pytest_kindinfra.run.recipe", "bring_up", 2, id="the recipe"),
        pytest.param("pytest_kindinfra.run.recipe", "add_images", None, id="in the recipe"),
        pytest.param("pytest_kindinfra.clusters.restore", "create_cluster", 2, id="a step"),
        pytest.param("pytest_kindinfra.run.serving", "serve", None, id="a service"),
        pytest.param("pytest_kindinfra.run.progress", "running_line", 2, id="the progress lines"),
    ],
)
def test_a_bug_in_the_provisioner_reaches_the_tests_with_its_traceback(
    project: Project, module: str, name: str, workers: int | None
) -> None:
    project.service("api", image=True)
    more = ""
    if name == "running_line":
        more = f"{module}._SILENCE = 0"
        project.behave("create", seconds=3.0)
    project.write("bug/sitecustomize.py", BUG.format(module=module, name=name, more=more))
    project.tests(MARKED)

    run = project.run(workers=workers, PYTHONPATH=str(project.folder / "bug"))

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 4}), run.text
    assert "ZeroDivisionError: a bug of ours" in run.out
    assert "Traceback (most recent call last)" in run.out
    assert run.clusters == []


def test_an_error_while_changes_are_undone_leaves_the_run_what_it_is(project: Project) -> None:
    """Its cluster was deleted as if no test had failed, though it was to be kept."""
    project.service("api", image=True)
    add_to_conftest(
        project,
        """
def broken(*_, **__):
    raise ZeroDivisionError("a bug of ours")

def pytest_sessionstart():
    from pytest_kindinfra.session import undoing
    undoing.undo_left = broken
""",
    )
    project.tests("@pytest.mark.kindinfra('api')\ndef test_it(): assert False\n")

    run = project.run("--kindinfra-keep=on-failure", workers=None)

    assert "ZeroDivisionError: a bug of ours" in run.text
    assert len(run.clusters) == 1, run.text
    assert run.report["outcome"]["state"] == "failed"
    assert run.report["outcome"]["kept"] is True


# -- failures ----------------------------------------------------------------------------------


def two_broken_images(project: Project) -> Run:
    for name in ("first", "second"):
        project.image(name)
        project.manifest(name, image=name)
    project.declare("[services.api]\nmanifests = ['first.yaml', 'second.yaml']\n")
    project.behave("build first", exit=1, says="no compiler for first", seconds=1)
    project.behave("build second", exit=1, says="no compiler for second")
    project.tests(MARKED)
    return project.run("--kindinfra-build-jobs=2", workers=4)


@pytest.fixture
def broken(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(two_broken_images)


def test_all_images_that_failed_are_named_once_in_full(broken: Run) -> None:
    """Only the first one of a service was, so the second came in the next run."""
    for name in ("first", "second"):
        assert broken.out.count(f'kindinfra: image "{name}" failed to build:') == 1, broken.out
        assert len(broken.lines(f"no compiler for {name}")) >= 1
    assert broken.built == ["first", "second"]


def test_tests_that_wait_are_told_as_soon_as_it_is_known(broken: Run) -> None:
    known = settled_at(broken, "service-api")
    told = [when for what, when, _ in broken.notes if what.startswith("error")]

    assert len(told) == 4
    assert max(told) - known < SOON


# -- a cluster that is lost --------------------------------------------------------------------


def remove_nodes(project: Project) -> None:
    for cluster in (project.fakes / "clusters").iterdir():
        shutil.rmtree(cluster)


@pytest.mark.parametrize("workers", [None, 2])
def test_a_kind_node_that_is_removed_in_mid_run_is_everybodys_cause(
    project: Project, workers: int | None
) -> None:
    project.service("api")
    project.service("slow", needs=("api",))
    project.behave("ready slow", until="never")
    project.tests("""
        @pytest.mark.kindinfra("api")
        def test_api(): note("in the test"); await_gate("removed"); note("on")

        @pytest.mark.parametrize("number", range(3))
        @pytest.mark.kindinfra("slow")
        def test_slow(number): ...

        @pytest.mark.kindinfra("api")
        def test_later(): ...
    """)

    running = project.start(workers=workers)
    running.until_at("in the test")
    remove_nodes(project)
    running.until(lambda: list(project.folder.glob(".kindinfra/2*/state/lost.json")))
    project.open("removed")
    run = running.finish()

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 4}), run.text
    assert run.out.count("kindinfra: the cluster was lost:") == 1
    assert re.search(r'kind node "kindinfra-\S+-control-plane" of cluster .* ended', run.out)
    assert 'service "slow" failed to start: the cluster was lost' in run.out
    assert run.report["outcome"]["state"] == "failed"


def test_an_engine_that_stops_in_mid_run_is_everybodys_cause(project: Project) -> None:
    project.service("api")
    project.behave("ready api", until="never")
    project.tests(MARKED)

    running = project.start(workers=2)
    running.until_at("apply Deployment/api")
    for what in ("inspect", "docker version"):
        project.behave(what, exit=1, complains="Cannot connect to the Docker daemon")
    run = running.finish()

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 4}), run.text
    assert "the engine stopped, and with it cluster" in run.out
    assert "Cannot connect to the Docker daemon" in run.out


# -- damaged, foreign and unwritable files -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param('{"format": 1, "va', "cannot be read", id="damaged"),
        pytest.param(
            '{"format": 9, "value": {"state": "ready", "endpoints": []}}',
            "has format 9",
            id="another version",
        ),
        pytest.param(
            '{"format": 2, "value": {"state": "ready", "endpoints": "none"}}',
            "is not what this version of pytest-kindinfra writes: endpoints must be list",
            id="another content",
        ),
    ],
)
def test_a_state_file_that_cannot_be_believed_is_named_and_set_aside(
    project: Project, text: str, why: str
) -> None:
    project.service("api")
    project.service("other")
    project.tests(RUBBISH.format(text=text))

    run = project.run(workers=None)

    assert (run.code, run.outcomes) == (1, {"passed": 2, "errors": 2}), run.text
    assert f'service-api.json" {why}' in run.out
    assert (Path(run.folder) / "state" / "service-api.aside").read_text() == text
    assert run.clusters == []


@pytest.mark.parametrize("workers", [None, 2])
def test_a_run_directory_that_cannot_be_written_is_a_usage_error(
    project: Project, workers: int | None
) -> None:
    project.service("api", image=True)
    project.tests(MARKED)

    run = project.run("--kindinfra-artifacts=pytest.ini/below-a-file", workers=workers)

    assert run.code == 4, run.text
    assert "below-a-file" in run.text
    assert "cannot be written: Not a directory" in run.text
    assert "To fix: make it writable, or --kindinfra-artifacts=DIR" in run.text
    assert "INTERNALERROR" not in run.text
    assert run.all_calls == []


def test_a_path_with_a_colon_is_a_usage_error_before_anything_is_built(project: Project) -> None:
    """Docker said `invalid spec: ...: too many colons`, after the images were built."""
    project.service("api", image=True)
    project.tests(MARKED)
    project.write("kind.yaml", "nodes: [{extraMounts: [{hostPath: 'c:d', containerPath: /d}]}]\n")

    run = project.run(
        "--kindinfra-artifacts=a:b", "--kindinfra-kind-config=kind.yaml", workers=None
    )

    assert run.code == 4, run.text
    assert (
        f'the artifacts folder "{project.folder}/a:b" has ":" in its path, which Docker and podman '
        "cannot mount into kind nodes; to fix: --kindinfra-artifacts=DIR"
    ) in run.text
    assert f'hostPath "{project.folder}/c:d" has ":" in its path' in run.text
    assert run.calls("build") + run.calls("create") == []


def test_it_does_not_matter_if_nothing_is_needed(project: Project) -> None:
    project.tests(MARKED)

    run = project.run("--kindinfra-artifacts=pytest.ini/x", "-k", "free", workers=2)

    assert (run.code, run.outcomes["passed"]) == (0, 1), run.text


def test_what_earlier_runs_left_is_not_believed(project: Project) -> None:
    """A `.kindinfra` restored by a CI cache held results of another machine."""
    stale = project.folder / ".kindinfra" / "20200101-000000-abcdef"
    (stale / "state").mkdir(parents=True)
    (stale / "lock").touch()
    for name in ("cluster", "service-api", "closed"):
        (stale / "state" / f"{name}.json").write_text('{"state": "failed", "short": "stale"}')
    (project.folder / ".kindinfra" / "latest").symlink_to(stale.name)
    project.service("api", image=True)
    project.tests(MARKED)

    run = project.run(workers=2)

    assert (run.code, run.outcomes) == (0, {"passed": 5}), run.text
    assert run.built == ["api"]
    assert run.folder != str(stale)
    assert json.loads((stale / "state" / "cluster.json").read_text())["short"] == "stale"


# -- two runs at the same time -----------------------------------------------------------------


def test_two_runs_in_one_folder_have_clusters_ports_and_artifacts_of_their_own(
    project: Project,
) -> None:
    project.service("api", image=True)
    project.tests("""
        @pytest.mark.kindinfra("api")
        def test_api(kindinfra):
            note(f"has {kindinfra.cluster} {kindinfra.url('api')}")
            await_gate("both")
    """)

    one, other = project.start(workers=2), project.start(workers=2)
    for running in (one, other):
        running.until(lambda: len(project.told_in_order("has")) == 2)
    assert len(project.standing()) == 2
    project.open("both")
    runs = [one.finish(), other.finish()]

    assert [run.code for run in runs] == [0, 0], runs[0].text + runs[1].text
    has = [what.split()[1:] for what in project.told_in_order("has")]
    assert len({cluster for cluster, _ in has}) == len({url for _, url in has}) == 2
    creations = [call for call in project.calls() if call.what == "create"]
    assert len(creations) == 2
    assert not creations[0].overlaps(creations[1])
    reports = list(project.folder.glob(".kindinfra/2*/run.json"))
    assert len(reports) == 2
    assert project.standing() == []


def test_another_host_port_is_chosen_if_one_was_taken_meanwhile(project: Project) -> None:
    project.service("api")
    project.behave(
        "create", exit=1, times=1, says="failed to bind host port: address already in use"
    )
    project.tests(MARKED)

    run = project.run(workers=2)

    assert (run.code, run.outcomes) == (0, {"passed": 5}), run.text
    assert len(run.calls("create")) == 2
    assert run.clusters == []
