"""What cannot work ends the run with exit code 4, all problems said at once, nothing begun."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

TESTS = """
@pytest.mark.kindinfra("datastorage")
def test_marked(): ...

def test_free(): ...
"""
NOTE_THE_END = """
def pytest_sessionfinish():
    note("end of a process")
"""
RAISING = """
def pytest_kindinfra_services(config):
    raise ValueError("no catalogue")
"""
RETURNING = """
def pytest_kindinfra_services(config):
    return {}
"""


def assert_refused(run: Run, *problems: str) -> None:
    assert run.code == 4, run.text
    for problem in problems:
        assert run.text.count(problem) == 1, (problem, run.text)
    assert "INTERNALERROR" not in run.text
    assert run.notes == []
    # With less than 50 GB free, how large an image is decides whether a run has room.
    assert [call for call in run.all_calls if call.what != "image inspect"] == []


def test_one_manifest_of_two_services_is_refused(project: Project) -> None:
    """The pods of the first were replaced while its tests ran."""
    project.service("api")
    project.service("web", needs=("api",))
    project.declare(
        "[services.orders]\nmanifests = ['common.yaml']\n"
        "[services.bills]\nmanifests = ['common.yaml']\nneeds = ['orders']\n"
    )
    project.write("common.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: cache}}")
    project.tests("@pytest.mark.kindinfra('bills')\ndef test_bills(): ...")

    assert_refused(
        project.run(),
        'services "orders", "bills" have the same objects and would apply them twice:',
        'ConfigMap "cache": "orders" by common.yaml, document 1 and "bills" by common.yaml, doc',
    )


@pytest.mark.parametrize("workers", [None, 4])
def test_all_problems_come_in_one_message(project: Project, workers: int | None) -> None:
    project.service("datastorage", image=True)
    project.service("first", needs=("second",))
    project.service("second", needs=("first",))
    project.service("lost")
    project.manifest("lost", image="datastorge")
    project.declare("[services.nowhere]\nmanifests = ['gone.yaml']\n")
    project.tests(TESTS)
    project.tests(
        """
        @pytest.mark.kindinfra("datastore")
        def test_typo(): ...

        @pytest.mark.kindinfra(3, wait=True)
        def test_odd(): ...
    """,
        "test_odd.py",
    )

    run = project.run(workers=workers)

    assert_refused(
        run,
        'test_odd.py::test_typo needs "datastore": no such service; did you mean "datastorage"?',
        "services need each other: first needs second needs first",
        'image "datastorge": no such image; did you mean "datastorage"?',
        '"gone.yaml": no such file',
        'the mark has no argument wait=; did you mean "weight"?',
        "the mark takes names of services, not 3",
        "problems in the declaration",
    )  # fmt: skip


@pytest.mark.parametrize("workers", [None, 4])
def test_values_that_no_option_has_are_said_at_once_with_their_places(
    project: Project, workers: int | None
) -> None:
    project.tests(TESTS)

    run = project.run("--kindinfra-keep=sometimes", workers=workers, KINDINFRA_BUILD_JOBS="many")

    assert_refused(
        run,
        '--kindinfra-keep=sometimes: expected one of "never", "always", "on-failure"',
        "environment KINDINFRA_BUILD_JOBS=many: expected a whole number, 1 or more",
    )


@pytest.mark.parametrize("workers", [None, 2])
def test_broken_toml_is_said_with_its_place(project: Project, workers: int | None) -> None:
    project.declare("[cluster]\nnamespace = oops")
    project.tests(TESTS)

    assert_refused(project.run(workers=workers), "kindinfra.toml: Invalid value (at line 2")


def test_unknown_keys_and_wrong_types_are_said_at_once(project: Project) -> None:
    project.declare("""
        [cluster]
        namespce = "x"
        [services.datastorage]
        manifests = 3
        [options]
        keeep = "always"
    """)
    project.tests(TESTS)

    run = project.run(workers=None)

    assert run.code == 4, run.text
    assert 'did you mean "namespace"?' in run.text
    assert "[services.datastorage]" in run.text
    assert run.all_calls == []


def test_an_unknown_option_in_the_file_is_said(project: Project) -> None:
    project.service("datastorage")
    project.declare("[options]\nkeeep = 'always'\n")
    project.tests(TESTS)

    assert_refused(project.run(workers=None), 'no such option "keeep"; did you mean "keep"?')


def test_a_fixed_host_port_that_is_busy_is_said_before_anything_is_built(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        fixed = f"endpoints.fixed = {{ port = 8080, host_port = {port} }}"
        project.service("datastorage", image=True, toml=fixed)
        project.tests(TESTS)

        run = project.run(workers=None)

    assert run.code == 4, run.text
    assert f"host port {port} is busy, held by process" in run.text
    assert (run.built, run.calls("create")) == ([], [])


def test_what_is_wrong_does_not_matter_if_nothing_is_needed(project: Project) -> None:
    project.declare("this is no TOML")
    project.tests(TESTS)

    run = project.run("-k", "free", workers=None)

    assert (run.code, run.outcomes) == (0, {"passed": 1, "deselected": 1}), run.text


@pytest.mark.parametrize(
    "words",
    [
        ("--tx=ssh=user@example.invalid//python=python3",),
        ("--tx=2*ssh=user@example.invalid",),
        ("--tx=popen", "--tx=socket=192.0.2.1:8888"),
        ("--px=id=far//ssh=user@example.invalid", "--tx=2*popen//via=far"),
    ],
    ids=["ssh", "2*ssh", "socket", "through a proxy"],
)
def test_remote_workers_are_refused(project: Project, words: tuple[str, ...]) -> None:
    project.tests(TESTS)

    run = project.run("-d", *words)

    remote = next(word for word in words if "ssh=" in word or "socket=" in word)
    assert run.code == 4, run.text
    assert f"kindinfra: {remote.replace('=', ' ', 1)}: workers must run on this machine" in run.text
    assert "To fix: use -n, or -p no:kindinfra" in run.text
    assert run.all_calls == []


@pytest.mark.parametrize("workers", [None, 2])
def test_a_refused_run_leaves_no_folder(project: Project, workers: int | None) -> None:
    project.tests("""
        @pytest.mark.kindinfra("unknown")
        def test_marked(): ...
    """)

    run = project.run(workers=workers)

    assert run.code == 4, run.text
    assert not [path for path in (project.folder / ".kindinfra").glob("2*") if path.is_dir()]


@pytest.mark.parametrize(
    "how", [("-n", "logical", "--maxprocesses=2"), ("--dist=each", "-n2")], ids=["logical", "each"]
)
def test_a_broken_declaration_is_said_once_however_tests_are_spread(
    project: Project, how: tuple[str, ...]
) -> None:
    project.service("first", needs=("second",))
    project.service("second", needs=("first",))
    project.tests(TESTS)

    assert_refused(
        project.run(*how),
        'needs "datastorage": no such service',
        "services need each other: first needs second needs first",
    )


def test_workers_of_a_refused_run_end_by_themselves(project: Project) -> None:
    """Else xdist kills them, ten seconds later."""
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", f"{conftest}\n{NOTE_THE_END}")
    project.tests(TESTS)

    run = project.run(workers=4)

    assert run.code == 4, run.text
    assert len(run.notes) == 5  # that of the main process is one
    assert {worker for _, _, worker in run.notes} >= {"gw0", "gw1", "gw2", "gw3"}


@pytest.mark.parametrize("workers", [None, 2])
def test_wrong_values_in_a_hooks_records_are_said_with_its_file(
    project: Project, workers: int | None
) -> None:
    conftest = (project.folder / "conftest.py").read_text()
    records = """[
        Service(name="seed", run="seed", needs=("db:redy",)),
        Service(name="web", manifests="web.yaml", endpoints=("http",)),
        Image(name="app", build_args=("VERSION",)),
        Image(name=3),
    ]"""
    start = "from pytest_kindinfra import Image, Service"
    project.write("conftest.py", f"{start}\n{conftest}\n{RETURNING.format(records)}")
    project.tests(TESTS)

    where = "pytest_kindinfra_services in conftest.py: "
    assert_refused(
        project.run(workers=workers),
        f'{where}[services.seed] run is "seed", but must be "module:function"',
        f'{where}[services.seed] needs "db:redy", but after the colon must be one of "applied", '
        '"started", "ready"; did you mean "ready"?',
        f'{where}[services.web] manifests must be a list of strings, not "web.yaml"',
        f"{where}[services.web] endpoints must be EndpointSpec with a name, not 'http'",
        f"{where}[images.app] build_args must be a table of strings, not the list",
        f"{where}[images] has a name that is no string: 3",
    )


@pytest.mark.parametrize("workers", [None, 4])
def test_a_hook_that_raises_is_said_with_its_file(project: Project, workers: int | None) -> None:
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", f"{conftest}\n{RAISING}")
    project.tests(TESTS)

    assert_refused(
        project.run(workers=workers),
        "pytest_kindinfra_services in conftest.py: ValueError: no catalogue (conftest.py, line ",
    )


def test_a_hook_that_returns_something_else_is_said_with_its_file(project: Project) -> None:
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", f"{conftest}\n{RETURNING.format('3')}")
    project.write("more.py", RETURNING.format("['api', ('db',)]"))
    project.tests(TESTS)

    run = project.run("-p", "more", workers=None)

    where = "pytest_kindinfra_services in (more or conftest.py|conftest.py or more)"
    told = re.findall(f"{where}: expected Service or Image, got (.*)", run.text)
    assert run.code == 4, run.text
    assert sorted(what for _, what in told) == ["'api'", "('db',)", "3"]


def test_a_usage_error_of_a_hook_is_left_as_it_is(project: Project) -> None:
    raising = RAISING.replace("ValueError", "pytest.UsageError")
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", f"{conftest}\n{raising}")
    project.tests(TESTS)

    assert_refused(project.run(workers=None), "ERROR: no catalogue")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("kindinfra.toml", None, "kindinfra.toml: Is a directory"),
        ("pyproject.toml", None, "pyproject.toml: Is a directory"),
        ("kindinfra.toml", b"[services.\xff]\n", "kindinfra.toml: 'utf-8' codec can't decode byte"),
    ],
    ids=["a folder", "another folder", "no UTF-8"],
)
def test_a_declaration_that_cannot_be_read_is_said(
    project: Project, name: str, content: bytes | None, told: str
) -> None:
    path = project.folder / name
    path.mkdir() if content is None else path.write_bytes(content)
    project.tests(TESTS)

    assert_refused(project.run(workers=None), told)


def test_two_declarations_are_refused(project: Project) -> None:
    project.service("datastorage")
    project.write("pyproject.toml", "[tool.kindinfra.services.other]\nmanifests = []\n")
    project.tests(TESTS)

    assert_refused(
        project.run(workers=2),
        "kindinfra.toml and [tool.kindinfra] in pyproject.toml: keep one of them",
    )


@pytest.mark.parametrize("workers", [None, 2])
def test_an_engine_on_another_host_is_said_before_any_work(
    project: Project, workers: int | None
) -> None:
    project.service("datastorage")
    project.tests(TESTS)

    run = project.run(workers=workers, DOCKER_HOST="tcp://docker:2375")

    assert_refused(run, 'DOCKER_HOST: the docker engine at "tcp://docker:2375" is on another host')


def test_a_namespace_and_kinds_that_nothing_brings_are_said_with_their_places(
    project: Project,
) -> None:
    project.service("datastorage")
    more = project.folder / "more.yaml"
    more.write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: defalt}\n---\n"
        "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: b}\n---\n"
        "apiVersion: apps/v1\nkind: Deploymnt\nmetadata: {name: c}\n"
    )
    project.declare("[services.more]\nmanifests = ['more.yaml']\n")
    project.tests(TESTS)

    run = project.run(workers=None)

    assert_refused(
        run,
        '[services.more] more.yaml, document 1, ConfigMap "a" is in namespace "defalt", which',
        '[services.more] more.yaml, document 2, ServiceMonitor "b": no CustomResourceDefinition in',
        '[services.more] more.yaml, document 3, Deploymnt "c": no kind "Deploymnt" in apiVersion',
        'did you mean "Deployment"?',
    )


def test_a_kind_config_without_a_network_needs_a_service_that_brings_it(project: Project) -> None:
    project.service("datastorage")
    (project.folder / "kind.yaml").write_text("networking: {disableDefaultCNI: true}\n")
    project.declare("[cluster]\nconfig = 'kind.yaml'\n")
    project.tests(TESTS)

    assert_refused(
        project.run(workers=None), "kind.yaml: networking.disableDefaultCNI is true", "before ="
    )


def test_mistakes_in_dockerfiles_are_reported_before_anything_is_built(
    project: Project,
) -> None:
    project.service("datastorage", image=True)
    project.image("base")
    project.image("unused", 'needs = ["base"]\nbuild_args = { TOKEN = "${SHOP_TOKEN}" }')
    project.image("other", 'needs = ["base"]\nbuild_options = ["--target", "x"]')
    project.write("other/Dockerfile", "FROM busybox\nRUN uvx --from=base x\n")
    project.write("datastorage/Dockerfile", "FROM\tlocalhost/base:dev\n")
    project.tests(TESTS)

    run = project.run()

    assert_refused(
        run,
        '[images.datastorage] datastorage/Dockerfile uses "localhost/base:dev", which is the'
        ' image "base": add "base" to needs',
        '[images.unused] build_args.TOKEN is "${SHOP_TOKEN}": variable "SHOP_TOKEN" is not set;',
        '[images.other] build_options: "--target x" is not allowed: use the key target',
        '[images.other] needs "base", but no FROM, COPY --from or RUN --mount of other/Dockerfile',
    )
