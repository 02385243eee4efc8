"""Fixtures of the suite that have our names: only what leads to our `kindinfra` needs a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

NEEDS_NOTHING = {
    "its own kubeconfig": """
        @pytest.fixture
        def kubeconfig(tmp_path): return tmp_path
        def test_it(kubeconfig): ...
    """,
    "its own kind_cluster, by another fixture": """
        @pytest.fixture
        def kind_cluster(): return {"kind": "bare metal"}
        @pytest.fixture
        def nodes(kind_cluster): return kind_cluster
        def test_it(nodes): ...
    """,
    "a fake of kindinfra": """
        class Fake: kubeconfig = "nowhere"
        @pytest.fixture(scope="session")
        def kindinfra(): return Fake()
        def test_it(kindinfra, kubeconfig): assert kubeconfig == "nowhere"
    """,
    "a parameter of that name": """
        @pytest.mark.parametrize("kubeconfig", ["a", "b"])
        def test_it(kubeconfig): ...
    """,
    "its own kubeconfig, by usefixtures": """
        @pytest.fixture
        def kubeconfig(): ...
        @pytest.mark.usefixtures("kubeconfig")
        class TestIt:
            def test_it(self): ...
    """,
    "a chain of its own": """
        @pytest.fixture
        def base(): return 1
        @pytest.fixture
        def kubeconfig(base): return base
        @pytest.fixture
        def kind_cluster(kubeconfig): return kubeconfig
        @pytest.fixture(autouse=True)
        def always(kind_cluster): ...
        def test_it(): ...
    """,
}
NEEDS_THE_CLUSTER = {
    "one that extends ours": """
        @pytest.fixture
        def kubeconfig(kubeconfig): return str(kubeconfig)
        def test_it(kubeconfig): ...
    """,
    "its own kubeconfig that asks for kindinfra": """
        @pytest.fixture
        def kubeconfig(kindinfra): return kindinfra.kubeconfig
        def test_it(kubeconfig): ...
    """,
    "one that leads to ours by another fixture": """
        @pytest.fixture
        def client(kubeconfig): return kubeconfig
        def test_it(client): ...
        class TestOverride:
            @pytest.fixture
            def kubeconfig(self, client_of_ours): return client_of_ours
            @pytest.fixture
            def client_of_ours(self, kubeconfig): return kubeconfig
            def test_in_class(self, client): ...
    """,
    "ours beside its own of another name": """
        @pytest.fixture
        def kubeconfig(): ...
        def test_it(kubeconfig, kind_cluster): ...
    """,
    "an indirect parameter": """
        @pytest.fixture
        def target(request, kindinfra): return request.param
        @pytest.mark.parametrize("target", [1], indirect=True)
        def test_it(target): ...
    """,
}


@pytest.mark.parametrize("source", NEEDS_NOTHING.values(), ids=NEEDS_NOTHING)
def test_a_fixture_that_only_has_the_name_needs_no_cluster(project: Project, source: str) -> None:
    project.tests(source)
    project.remove("docker")
    project.remove("kind")

    run = project.run(workers=None)

    assert run.code == 0, run.text
    assert "kindinfra:" not in run.text
    assert not (project.folder / ".kindinfra").exists()


@pytest.mark.parametrize("source", NEEDS_THE_CLUSTER.values(), ids=NEEDS_THE_CLUSTER)
def test_a_fixture_that_leads_to_ours_needs_the_cluster(project: Project, source: str) -> None:
    project.tests(source)

    run = project.run(workers=None)

    assert run.code == 0, run.text
    assert len(run.calls("create")) == 1


def test_an_own_fixture_in_one_package_counts_there_only(project: Project) -> None:
    project.write("unit/conftest.py", """
        import pytest
        @pytest.fixture
        def kubeconfig(): return "own"
    """)  # fmt: skip
    project.tests("def test_own(kubeconfig): assert kubeconfig == 'own'", "unit/test_unit.py")
    project.tests("def test_ours(kubeconfig): assert kubeconfig.is_file()", "e2e/test_e2e.py")

    unit, both = project.run("unit", workers=None), project.run(workers=2)

    assert (unit.code, unit.all_calls) == (0, []), unit.text
    assert (both.code, both.outcomes) == (0, {"passed": 2}), both.text
    assert both.lines("kindinfra: 1 test needs 0 services")
