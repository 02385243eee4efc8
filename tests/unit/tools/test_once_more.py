"""`make test` runs failed tests once more, alone, and says which of them passed then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLUGINS = ["-p", "xdist", "-p", "no:randomly"]

CASES = """
import pathlib
import pytest

def test_steady(): pass

def test_unsteady():
    seen = pathlib.Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError("the first time")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(folder: Path, cases: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_cases.py").write_text(cases)
    return subprocess.run(
        [ROOT / "tools/machine/once-more", sys.executable, "-m", "pytest", *PLUGINS, "-n", "2"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_test_that_passes_alone_is_named_with_its_first_failure(folder: Path) -> None:
    done = run(folder, CASES)

    assert done.returncode == 0
    assert "AssertionError: the first time" in done.stdout
    assert done.stdout.endswith(
        "make: UNSTEADY, failed above and passed when run again:\n  test_cases.py::test_unsteady\n"
    )


def test_a_test_that_fails_twice_has_failed(folder: Path) -> None:
    done = run(folder, CASES + "\ndef test_wrong(): raise AssertionError('each time')\n")

    assert done.returncode == 1
    assert "make: 2 failed; running again, one after another:" in done.stdout
    assert "UNSTEADY" not in done.stdout


def test_many_failures_are_not_run_again(folder: Path) -> None:
    many = "".join(f"\ndef test_{number}(): assert 0\n" for number in range(6))

    done = run(folder, many)

    assert done.returncode == 1
    assert "running again" not in done.stdout


def test_what_is_no_failed_test_keeps_its_exit_code(folder: Path) -> None:
    done = run(folder, "import no_such_module\n")

    assert done.returncode != 0
    assert "running again" not in done.stdout


def test_nothing_is_said_when_all_pass(folder: Path) -> None:
    done = run(folder, "def test_it(): pass\n")

    assert done.returncode == 0
    assert "make:" not in done.stdout
