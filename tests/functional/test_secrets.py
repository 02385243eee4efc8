"""What nobody must see is looked for in all that a run shows and leaves."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_kubernetes import KEY
from tests.fake_kubernetes import TOKEN as CLUSTER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.functional.project import Project, Run

OF_AN_ARGUMENT = "tok-4f3a9c2e77"
OF_A_VARIABLE = "var-1b8d06aa42"
OF_A_FILE = "file-77c0e1d9b3"
OF_A_FLAG = "flag-e5a2f08c61"
OF_A_PATCH = "cfg-90dd13b7f4"
SECRETS = {
    "a build argument": OF_AN_ARGUMENT,
    "a variable of --secret": OF_A_VARIABLE,
    "a file of --secret": OF_A_FILE,
    "a flag of the build": OF_A_FLAG,
    "the cluster's key": KEY,
    "the cluster's token": CLUSTER_TOKEN,
}
ENVIRONMENT = {"CI_TOKEN": OF_AN_ARGUMENT, "NPM": OF_A_VARIABLE, "CI_VERSION": "1.2.3"}
ALL = "\n".join(f"{name} is {value}." for name, value in SECRETS.items())
ALL_OF_A_BUILD = "\n".join(line for line in ALL.splitlines() if "cluster" not in line)
IMAGE = f"""
build_args = {{ API_TOKEN = "${{CI_TOKEN}}", VERSION = "${{CI_VERSION}}", MODE = "fast" }}
build_options = ["--secret", "id=npm,env=NPM", "--secret=id=rc,src=token.rc",
                 "--build-arg", "FLAG_KEY={OF_A_FLAG}"]
"""
KIND_CONFIG = f"""
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches: ['password = "{OF_A_PATCH}"']
"""
CRASHING = {
    "state": {"terminated": {"exitCode": 3, "reason": "Error"}},
    "ready": False,
    "restartCount": 3,
}
HOOKS = f"""
ALL = {ALL!r}


def pytest_kindinfra_before_build(config, image):
    if image.name == "hooked":
        raise ValueError({ALL_OF_A_BUILD!r})


def pytest_kindinfra_before_deploy(stack, service):
    if service.name == "seeds":
        raise ValueError("in a hook: " + ALL)


def pytest_kindinfra_diagnose(stack, directory):
    raise ValueError("in diagnose: " + ALL)


def pytest_kindinfra_before_teardown(stack, directory):
    raise ValueError("in teardown: " + ALL)
"""
STEP = f"""
def plant(stack):
    raise RuntimeError({ALL!r})
"""
TESTS = """
@pytest.mark.kindinfra("api")
def test_api(): ...

@pytest.mark.kindinfra("hooked")
def test_hooked(): ...

@pytest.mark.kindinfra("crasher")
def test_crasher(): ...

@pytest.mark.kindinfra("seeds")
def test_seeds(): ...

@pytest.mark.kindinfra("step")
def test_step(): ...

@pytest.mark.kindinfra("fine")
def test_fine(kindinfra):
    assert kindinfra.url("fine")
"""


def all_said_everywhere(project: Project, *, workers: int | None) -> Run:
    project.write("kind.yaml", KIND_CONFIG)
    project.declare("[cluster]\nconfig = 'kind.yaml'")
    project.image("api", IMAGE)
    project.image("hooked")
    for name in ("api", "hooked"):
        project.manifest(name, image=name)
        project.declare(f"[services.{name}]\nmanifests = ['{name}.yaml']\nimage = '{name}'")
    for name in ("crasher", "seeds", "fine"):
        project.service(name)
    project.declare("[services.step]\nrun = 'steps:plant'")
    crasher = (project.folder / "crasher.yaml").read_text()
    entry = f"          env: [{{name: ALL, value: {json.dumps(ALL)}}}]\n          readinessProbe:"
    project.write("crasher.yaml", crasher.replace("          readinessProbe:", entry))
    project.write("token.rc", f"//registry/:_authToken={OF_A_FILE}\n")
    project.write("steps.py", STEP)
    project.write("conftest.py", (project.folder / "conftest.py").read_text() + HOOKS)
    project.tests(TESTS)
    project.behave("build api", exit=1, says=ALL_OF_A_BUILD, complains=f"ERROR: {ALL_OF_A_BUILD}")
    project.behave("create", says=f"keys: {KEY}", prints=True)
    project.behave("export", journal=f"kubelet: {ALL}\n")
    project.breaks("crasher", CRASHING, log=ALL)
    return project.run(workers=workers, **ENVIRONMENT)


def with_workers(project: Project) -> Run:
    return all_said_everywhere(project, workers=2)


def in_one_process(project: Project) -> Run:
    return all_said_everywhere(project, workers=None)


@pytest.fixture(params=[with_workers, in_one_process], ids=["workers", "one process"])
def said(
    request: pytest.FixtureRequest, run_once: Callable[[Callable[[Project], Run]], Run]
) -> Run:
    return run_once(request.param)


def files_of(run: Run) -> Iterator[tuple[str, Path]]:
    folder = Path(run.folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path


def in_any_notation(value: str) -> tuple[str, str]:
    return value, base64.b64encode(value.encode()).decode().rstrip("=")


def test_all_came_to_where_it_could_be_seen(said: Run) -> None:
    """Or the other tests would look for what is nowhere."""
    assert said.outcomes == {"errors": 5, "passed": 1}, said.text
    states = {
        name: json.loads(path.read_text()) for name, path in files_of(said) if "state" in name
    }
    for name in ("api", "hooked", "crasher", "seeds", "step"):
        assert "***" in states[f"state/service-{name}.json"]["value"]["full"], name
    left = {name: path.read_text() for name, path in files_of(said)}
    for name in ("build/api.log", "kind-create.log", "kind/journal.log", "run.json"):
        assert "***" in left[name], name
    pods = [text for name, text in left.items() if name.startswith("pods/default.crasher")]
    assert len(pods) == 3
    assert all("***" in text for text in pods)
    for words in (
        "evidence failed: ",
        "before teardown failed: ",
        "ERROR: a build argument is ***",
    ):
        assert words in said.out


@pytest.mark.parametrize("what", SECRETS)
def test_it_is_not_shown(said: Run, what: str) -> None:
    for value in in_any_notation(SECRETS[what]):
        assert value not in said.text


@pytest.mark.parametrize("what", SECRETS)
def test_it_is_in_no_file_that_is_left(said: Run, what: str) -> None:
    values = in_any_notation(SECRETS[what])
    found = [
        name
        for name, path in files_of(said)
        if name != "kubeconfig" and any(value in path.read_text() for value in values)
    ]

    assert found == []


def test_docker_is_given_the_argument_where_no_list_of_processes_shows_it(said: Run) -> None:
    call = said.call("build api")

    arguments = [after for word, after in zip(call.argv, call.argv[1:], strict=False)
                 if word == "--build-arg"]  # fmt: skip
    assert arguments == ["API_TOKEN", "MODE=fast", "VERSION", f"FLAG_KEY={OF_A_FLAG}"]
    assert (call.env["API_TOKEN"], call.env["VERSION"]) == (OF_AN_ARGUMENT, "1.2.3")


def test_the_command_that_is_shown_names_it(said: Run) -> None:
    (line,) = {line.strip() for line in said.lines("$ docker buildx build")}

    assert "--build-arg API_TOKEN --build-arg MODE=fast --build-arg VERSION" in line
    assert "--secret id=npm,env=NPM --secret=id=rc,src=token.rc" in line
    assert "--build-arg 'FLAG_KEY=***'" in line


def test_what_is_no_secret_stays_readable(said: Run) -> None:
    log = (Path(said.folder) / "build" / "api.log").read_text()

    assert log.startswith("a build argument is ***.\n")
    assert "ERROR: a build argument is ***.\n" in log


@pytest.mark.parametrize(
    "name",
    ["kubeconfig", "kind.json", "kind-create.log", "build/api.log", "events.txt", "run.json",
     "pods/*", "state/*.json"],
)  # fmt: skip
def test_only_the_owner_may_read(said: Run, name: str) -> None:
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in Path(said.folder).glob(name)}

    assert set(modes.values()) == {0o600}, modes


def test_what_containers_said_is_for_the_owner_only(said: Run) -> None:
    for folder in (Path(said.folder), Path(said.folder) / "kind", Path(said.folder) / "pods"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_a_registrys_password_is_nowhere_but_in_the_private_config(said: Run) -> None:
    found = [name for name, path in files_of(said) if OF_A_PATCH in path.read_text()]

    assert found == ["kind.json"]
    assert OF_A_PATCH not in said.text


def test_a_failing_kubectl_shows_no_token(project: Project) -> None:
    kubectl = project.fakes / "bin" / "kubectl"
    kubectl.write_text("#!/bin/sh\nexit 1\n")
    kubectl.chmod(0o755)
    project.tests("""
        def test_it(kind_cluster):
            kind_cluster.kubectl("get", "pods", "--token", os.environ["MINE"])
    """)

    run = project.run("--showlocals", workers=None, MINE=OF_A_VARIABLE)

    assert run.outcomes == {"failed": 1}, run.text
    assert "'get', 'pods', '--token', '***'" in run.text
    assert OF_A_VARIABLE not in run.text


def test_the_plan_shows_none(project: Project) -> None:
    project.image("api", IMAGE)
    project.manifest("api", image="api")
    project.declare("[services.api]\nmanifests = ['api.yaml']\nimage = 'api'")
    project.write("token.rc", f"{OF_A_FILE}\n")
    project.tests("@pytest.mark.kindinfra('api')\ndef test_api(): ...\n")

    run = project.run("--kindinfra-plan", workers=None, **ENVIRONMENT)

    assert run.code == 0, run.text
    shown: list[Any] = [value for value in SECRETS.values() if value in run.text]
    assert shown == []
