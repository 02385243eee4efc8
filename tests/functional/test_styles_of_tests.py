"""Tests in other styles than plain functions: the mark, the fixtures and undoing work alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

HEAD = """
import asyncio, unittest

PATH = "/apis/apps/v1/namespaces/default/deployments/api"

def replicas(kindinfra):
    return kindinfra.api.get(PATH)["spec"]["replicas"]
"""

UNITTEST = """
@pytest.mark.kindinfra("api", lock="api")
class TestPlain(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _stack(self, kindinfra):
        self.stack = kindinfra

    def test_1_changes(self):
        self.stack.scale("api", 3)
        self.assertEqual(replicas(self.stack), 3)

    def test_2_finds_it_undone(self):
        self.assertEqual(replicas(self.stack), 1)

    @pytest.mark.kindinfra("db")
    def test_3_needs_more(self):
        self.assertTrue(self.stack.url("db"))


@pytest.fixture(scope="class")
def stack_of_class(request, kindinfra):
    request.cls.stack = kindinfra

@pytest.mark.usefixtures("stack_of_class")
class TestOfClass(unittest.TestCase):
    @pytest.mark.kindinfra("api", lock="api")
    def test_it(self):
        self.assertTrue(self.stack.url("api"))


@pytest.mark.kindinfra("api", lock="api")
class TestAsync(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def _stack(self, kindinfra):
        self.stack = kindinfra

    async def test_1_changes(self):
        await asyncio.to_thread(self.stack.scale, "api", 2)
        self.assertEqual(replicas(self.stack), 2)

    async def test_2_finds_it_undone(self):
        self.assertEqual(replicas(self.stack), 1)
"""

ANYIO = """
import anyio

pytestmark = [pytest.mark.anyio, pytest.mark.kindinfra("api", lock="api")]

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def url(kindinfra):
    return kindinfra.url("api")

async def test_1_changes(kindinfra, url):
    await anyio.to_thread.run_sync(kindinfra.scale, "api", 2)
    assert replicas(kindinfra) == 2

async def test_2_finds_it_undone(kindinfra):
    assert replicas(kindinfra) == 1

async def test_3_tries_again(kindinfra):
    tries = []

    def third():
        tries.append(1)
        assert len(tries) == 3

    await asyncio.to_thread(kindinfra.eventually, third)
    assert len(tries) == 3
"""

ASYNCIO = """
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def url(kindinfra):
    return kindinfra.url("api")

@pytest.mark.kindinfra("api", lock="api")
class TestApi:
    async def test_1_changes(self, kindinfra, url):
        loop = asyncio.get_running_loop()
        ticks = []
        ticking = loop.call_soon(ticks.append, 1)
        await asyncio.to_thread(kindinfra.scale, "api", 2)
        assert (replicas(kindinfra), ticks) == (2, [1])

    async def test_2_finds_it_undone(self, kindinfra):
        assert replicas(kindinfra) == 1

    @pytest.mark.kindinfra("api", fresh=True)
    async def test_3_gets_it_fresh(self, kindinfra):
        assert kindinfra.url("api")
"""

FEATURE = """
Feature: The api

  Scenario: It is scaled
    Given the api
    When there are 3 of it
    Then there are 3

  Scenario: That is undone
    Given the api
    Then there are 1
"""

BDD = """
from pytest_bdd import given, parsers, scenario, then, when

@pytest.mark.kindinfra("api")
@scenario("api.feature", "It is scaled")
def test_1_changes(): ...

@pytest.mark.kindinfra("api")
@scenario("api.feature", "That is undone")
def test_2_finds_it_undone(): ...

@given("the api", target_fixture="url")
def _(kindinfra):
    return kindinfra.url("api")

@when(parsers.parse("there are {count:d} of it"))
def _(kindinfra, count):
    kindinfra.scale("api", count)

@then(parsers.parse("there are {count:d}"))
def _(kindinfra, url, count):
    assert replicas(kindinfra) == count
"""

MARKS = """
pytestmark = pytest.mark.usefixtures("kubeconfig")

def test_by_a_fixture_of_the_module(): ...

@pytest.mark.usefixtures("kindinfra_namespace")
class TestByAFixtureOfTheClass:
    def test_it(self, kindinfra):
        assert kindinfra.kubeconfig.is_file()

@pytest.mark.kindinfra("api", lock="api")
class TestOuter:
    class TestInner:
        @pytest.mark.parametrize("service", [
            "api",
            pytest.param("db", marks=pytest.mark.kindinfra("db", lock="db")),
        ])
        def test_it(self, kindinfra, service):
            assert kindinfra.url(service)
"""

LOOP = "asyncio_default_fixture_loop_scope=function"
"""Without it pytest-asyncio warns."""

STYLES = {
    "unittest": (UNITTEST, (), 6),
    "anyio": (ANYIO, ("-p", "anyio"), 3),
    "pytest-asyncio": (ASYNCIO, ("-p", "asyncio", f"-o{LOOP}"), 3),
    "pytest-bdd": (BDD, ("-p", "pytest-bdd"), 2),
    "marks": (MARKS, (), 4),
}


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("style", STYLES)
def test_tests_of_that_style_get_what_they_need_and_it_is_undone(
    project: Project, style: str, workers: int | None
) -> None:
    source, options, count = STYLES[style]
    project.service("api")
    manifest = project.folder / "api.yaml"
    written = manifest.read_text().replace("spec:\n  sel", "spec:\n  replicas: 1\n  sel", 1)
    manifest.write_text(written)
    project.service("db")
    project.service("other")
    project.write("api.feature", FEATURE)
    project.tests(HEAD + source)
    how = () if workers is None else ("--dist=loadscope",)

    run = project.run(*options, *how, workers=workers)

    assert run.code == 0, run.text
    assert run.outcomes == {"passed": count}, run.text
    assert set(run.deployed) == ({"api", "db"} if '"db"' in source else {"api"})
    assert run.clusters == []
