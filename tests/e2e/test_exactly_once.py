"""Once, whatever happens: many workers, kills, two users, lost clusters, a full disk. All real."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.proxy import ENGINE, EngineDoor
from tests.e2e.runs import (
    ROOT,
    Run,
    background_pytest,
    kindinfra,
    left_behind,
    run_of,
    run_pytest,
    state_is_there,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
FOUND_SOON = 30.0
"""Seconds that stand for "within seconds" on a machine that is busy with clusters."""


def subjects(run: Run, kind: str) -> list[str]:
    return sorted(phase["subject"] for phase in run.phases(kind))


# -- workers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 8])
def test_workers_share_one_stack_though_one_of_them_is_killed(small: Path, workers: int) -> None:
    run = run_pytest(small, "-n", str(workers), "mishap_cases.py", "-k", "shared")

    assert re.search("1 failed, 23 passed", run.output), run.output
    assert subjects(run, "build") == ["web"]
    assert subjects(run, "create") == subjects(run, "delete") == ["cluster"]
    assert subjects(run, "deploy") == ["redis", "web"]
    assert len({path.read_text() for path in small.glob("seen-*")}) == 1
    assert left_behind(small) == []


@pytest.mark.parametrize("fail", ["gather", "fast"])
def test_a_failed_build_fails_only_the_tests_that_need_it_or_at_once_all(
    small: Path, fail: str
) -> None:
    dockerfile = small / "svc" / "Dockerfile"
    dockerfile.write_text(f"{dockerfile.read_text()}RUN echo compiling && exit 3\n")

    run = run_pytest(small, "-n", "4", f"--kindinfra-fail={fail}", "--deselect",
                     "cases.py::test_slow", "cases.py")  # fmt: skip

    passed, errors = (2, 1) if fail == "gather" else (1, 2)
    assert run.exit_code == 1
    assert re.search(f"{passed} passed.* {errors} error", run.output), run.output
    assert run.output.count('kindinfra: image "web" failed to build:') == 1
    assert subjects(run, "build") == ["web"]
    assert "exit code: 3" in run.report["outcome"]["failures"]["web"]
    assert left_behind(small) == []


# -- signals -----------------------------------------------------------------------------------

BEGUN = {
    "build": "cluster-name",
    "create": "cluster-name",
    "deploy": "cluster",
    "tests": "service-redis",
}


@pytest.mark.parametrize(
    ("stage", "sent"),
    [
        # Each stage and each signal; all pairs of them are tests/functional/test_killed.py's.
        ("build", [signal.SIGINT]),
        ("create", [signal.SIGTERM]),
        ("create", [signal.SIGINT, signal.SIGINT]),
        ("deploy", [signal.SIGHUP]),
        ("tests", [signal.SIGINT, signal.SIGINT]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(one.name for one in value),
)
def test_a_signal_ends_the_run_and_deletes_the_cluster(
    small: Path, stage: str, sent: list[signal.Signals]
) -> None:
    if stage == "build":
        dockerfile = small / "svc" / "Dockerfile"
        dockerfile.write_text(f"{dockerfile.read_text()}RUN sleep 120\n")
    process = background_pytest(small, "-n", "2", "cases.py")
    until(lambda: state_is_there(small, BEGUN[stage]))
    if stage == "build":
        until(lambda: list(small.glob(".kindinfra/2*/build/web.log")))

    for number in sent:
        process.send_signal(number)
        if len(sent) > 1:  # the second comes while the first is being heeded
            until(lambda: state_is_there(small, "closed"))
    output, _ = process.communicate(timeout=180)

    run = run_of(small, process.returncode, output)
    assert run.exit_code == pytest.ExitCode.INTERRUPTED, output
    assert run.report["outcome"]["state"] == "interrupted"
    assert left_behind(small) == []
    assert programs_of(run) == []


def programs_of(run: Run) -> list[str]:
    """Return the programs that still run for that run: its id is in the words of all of them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
        if run.folder.name in words and words.startswith(("docker", "kind", "/usr")):
            found.append(words)
    return found


# -- two runs, two users -----------------------------------------------------------------------


@pytest.fixture
def open_small() -> Iterator[Path]:
    """The small project where every user can read it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copytree(Path(__file__).parent / "small", folder / "small")
    (folder / "small" / "pytest.ini").touch()
    (folder / "home").mkdir()
    shutil.chown(folder / "home", NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def packages_for_all(folder: Path) -> str:
    """Return a PYTHONPATH with our package and its dependencies that every user can read."""
    found = []
    for source, name in ((Path(sysconfig.get_path("purelib")), "site"), (ROOT, "project")):
        if all(parent.stat().st_mode & 0o005 == 0o005 for parent in (source, *source.parents)):
            found.append(str(source))
            continue
        ignore = shutil.ignore_patterns(".git", ".venv", ".kindinfra", "__pycache__")
        shutil.copytree(source, folder / name, ignore=ignore)
        found.append(str(folder / name))
    return os.pathsep.join(found)


def as_nobody(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start pytest as a user who may use the engine and nothing else of ours."""
    engine = Path(ENGINE).stat().st_gid
    # The one of the virtual environment may lie in root's home.
    argv = ["/usr/bin/python3", "-m", "pytest", "--color=no", "-p", "no:cacheprovider", *arguments]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "PYTHONPATH": packages_for_all(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "KINDINFRA_SNAPSHOT": "off",  # one of another run on this host would be restored
    }
    return subprocess.Popen(
        argv, cwd=folder / "small", env=env, user=NOBODY, group=NOBODY, extra_groups=[engine],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_two_users_in_one_folder_at_the_same_time_have_clusters_and_ports_of_their_own(
    open_small: Path,
) -> None:
    theirs = open_small / "home" / "artifacts"
    quick = ("-n", "2", "--deselect", "cases.py::test_slow", "cases.py")

    other = as_nobody(open_small, f"--kindinfra-artifacts={theirs}", *quick)
    mine = run_pytest(open_small / "small", *quick)
    output, _ = other.communicate(timeout=300)

    assert (mine.exit_code, other.returncode) == (0, 0), mine.output + output
    report = json.loads((theirs / "latest" / "run.json").read_text())
    creations = [
        mine.phase("create cluster"),
        *(p for p in report["phases"] if p["kind"] == "create"),
    ]
    assert len(creations) == 2
    assert mine.report["plan"]["cluster"] != report["plan"]["cluster"]
    assert not set(mine.report["endpoints"]["web"].values()) & set(
        report["endpoints"]["web"].values()
    )
    assert left_behind(open_small / "small", open_small / "home" / "artifacts") == []


# -- what is lost in mid-run -------------------------------------------------------------------


def test_a_kind_node_that_is_removed_is_what_later_tests_are_told(small: Path) -> None:
    process = background_pytest(small, "-p", "no:xdist", "mishap_cases.py", "-k", "not shared")
    until((small / "happening").exists)
    (cluster,) = left_behind(small)

    subprocess.run(["docker", "rm", "-f", "-v", f"{cluster}-control-plane"], check=True,
                   capture_output=True, timeout=60)  # fmt: skip
    until(lambda: state_is_there(small, "lost"), within=FOUND_SOON)
    (small / "happened").touch()
    output, _ = process.communicate(timeout=120)

    assert process.returncode == 1, output
    assert re.search("1 passed.* 3 errors", output), output
    assert f'kind node "{cluster}-control-plane" of cluster "{cluster}" ended during' in output
    assert output.count("kindinfra: the cluster was lost:") == 1
    assert left_behind(small) == []


@pytest.mark.alone
def test_an_engine_that_stops_is_what_tests_are_told_and_gc_cleans_up_later(small: Path) -> None:
    with EngineDoor(small / "engine.sock") as door:
        env = {"DOCKER_HOST": f"unix://{door.path}"}
        process = background_pytest(small, "-n", "2", "mishap_cases.py", "-k", "later", env=env)
        until(lambda: state_is_there(small, "cluster-name"))
        until(lambda: kind_nodes(small))

        door.close()
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 1, output
    assert re.search("3 errors", output), output
    assert re.search("the engine stopped|[Cc]annot connect to the Docker daemon", output), output
    (name,) = left_behind(small)
    assert f"deleted cluster {name}" in kindinfra("gc")
    assert left_behind(small) == []


def kind_nodes(folder: Path) -> list[str]:
    return [name for name in left_behind(folder) if name]


@pytest.fixture
def tiny_disk(small: Path) -> Iterator[Path]:
    folder = small / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "kindinfra-test", str(folder)]
    subprocess.run(mount, check=True, timeout=30)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def test_a_full_disk_is_named_and_no_state_file_is_half_written(
    small: Path, tiny_disk: Path
) -> None:
    process = background_pytest(
        small, "-n", "2", f"--kindinfra-artifacts={tiny_disk}", "mishap_cases.py", "-k", "later"
    )
    until(lambda: list(tiny_disk.glob("2*/state/cluster-name.json")))

    fill(tiny_disk)
    output, _ = process.communicate(timeout=180)

    assert process.returncode == 1, output
    assert re.search("3 errors", output), output
    assert re.search("[Nn]o space left on device|disk is full", output), output
    for path in tiny_disk.glob("2*/state/*.json"):
        json.loads(path.read_text())
    assert left_behind(small, tiny_disk) == []
