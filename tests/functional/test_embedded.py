"""`pytest.main()` called by a program: in a thread, and with an environment that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

TESTS = """
@pytest.mark.kindinfra("api")
def test_api(kindinfra):
    assert os.environ["API_URL"] == kindinfra.url("api")
    assert os.environ["BEFORE"] == kindinfra.cluster
"""
IN_A_THREAD = """
import sys, threading
import pytest

codes = []
thread = threading.Thread(target=lambda: codes.append(pytest.main(sys.argv[1:])))
thread.start()
thread.join()
sys.exit(codes[0])
"""
TWICE = """
import os, sys
import pytest

def environment():
    return {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}

before = environment()
codes = [pytest.main(sys.argv[1:]) for _ in range(2)]
assert environment() == before
sys.exit(max(codes))
"""


@pytest.fixture
def embedded(project: Project) -> Project:
    project.service("api")
    project.declare('[env]\nAPI_URL = "{url:api}"\nBEFORE = "{cluster}"')
    project.tests(TESTS)
    return project


@pytest.mark.parametrize("how", [("-p", "no:xdist"), ("-n", "2")], ids=["one process", "-n 2"])
def test_it_works_in_a_thread(embedded: Project, how: tuple[str, ...]) -> None:
    embedded.write("embed.py", IN_A_THREAD)

    done = embedded.python("embed.py", *how)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert [call.what for call in embedded.calls()].count("delete") == 1
    assert embedded.standing() == []


def test_variables_have_their_old_values_afterwards(embedded: Project) -> None:
    embedded.write("embed.py", TWICE)

    done = embedded.python("embed.py", "-p", "no:xdist", BEFORE="mine")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("1 passed") == 2
