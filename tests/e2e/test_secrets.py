"""Real Docker and a real cluster are full of secrets; what a failed run leaves has none of them."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.e2e.runs import Run, left_behind, run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = Path(__file__).parent / "small"
OF_AN_ARGUMENT = "tok-4f3a9c2e77"
OF_A_VARIABLE = "var-1b8d06aa42"
OF_A_FILE = "file-77c0e1d9b3"
DECLARED = """
[images.leaky]
context = "leaky"
build_args = { API_TOKEN = "${E2E_TOKEN}" }
build_options = ["--secret", "id=npm,env=E2E_NPM", "--secret", "id=rc,src=token.rc"]
[services.leaky]
image = "leaky"
run = "nothing:at_all"
"""
LEAKY = """
FROM busybox
ARG API_TOKEN
RUN --mount=type=secret,id=npm --mount=type=secret,id=rc \\
    echo "with $API_TOKEN" && cat /run/secrets/npm /run/secrets/rc && exit 3
"""
SAYING = f"""\
      - name: web
        image: web
        env: [{{name: TOKEN, value: {OF_AN_ARGUMENT}}}]
        command: [sh, -c, 'echo "with $TOKEN"; exec httpd -f -p 8080 -h /www']
"""
CONFTEST = """
import shutil

def pytest_kindinfra_diagnose(stack, directory):
    shutil.copy(stack.kubeconfig, "kubeconfig-of-the-run")
    shutil.copystat(stack.kubeconfig, "kubeconfig-of-the-run")
"""
CASES = """
import pytest

@pytest.mark.kindinfra("leaky")
def test_leaky(): ...

@pytest.mark.kindinfra("web")
def test_web(): ...
"""


class Left(NamedTuple):
    """A failed run and where it was made."""

    run: Run
    project: Path

    @property
    def files(self) -> Iterator[Path]:
        """All that the run left, but for its credentials."""
        found = (path for path in self.run.folder.rglob("*") if not path.is_symlink())
        yield from (path for path in found if path.is_file() and path.name != "kubeconfig")

    def with_text(self, text: str) -> list[str]:
        """Return the files that hold the text."""
        names = ((str(path.relative_to(self.run.folder)), path.read_bytes()) for path in self.files)
        return sorted(name for name, content in names if text.encode() in content)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    project = tmp_path_factory.mktemp("secrets") / "small"
    shutil.copytree(SMALL, project)
    web = project / "web.yaml"
    web.write_text(re.sub(r"(?m)^ +- \{name: web, image: web,.*\n", SAYING, web.read_text()))
    with (project / "kindinfra.toml").open("a") as file:
        file.write(DECLARED)
    (project / "leaky").mkdir()
    for name, text in {
        "leaky/Dockerfile": f"{LEAKY}# {project}\n",
        "token.rc": f"//registry/:_authToken={OF_A_FILE}\n",
        "conftest.py": CONFTEST,
        "leaky_cases.py": CASES,
        "pytest.ini": "",
    }.items():
        (project / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2E_TOKEN", OF_AN_ARGUMENT)
        patch.setenv("E2E_NPM", OF_A_VARIABLE)
        return Left(run_pytest(project, "-n", "2", "leaky_cases.py"), project)


def test_the_build_and_the_pod_had_them(left: Left) -> None:
    assert re.search("1 passed.* 1 error", left.run.output), left.run.output
    assert "exit code: 3" in left.run.report["outcome"]["failures"]["leaky"]
    log = (left.run.folder / "build" / "leaky.log").read_text()
    assert re.search(r"\d with \*\*\*$", log, re.MULTILINE), log
    assert log.count("***") >= 3
    exported = left.with_text("with ***")
    assert any(name.startswith("pods/") for name in exported), exported
    assert any(name.startswith("kind/") for name in exported), exported
    assert left_behind(left.project) == []


@pytest.mark.parametrize("secret", [OF_AN_ARGUMENT, OF_A_VARIABLE, OF_A_FILE])
def test_no_secret_of_a_build_is_shown_or_left(left: Left, secret: str) -> None:
    assert secret not in left.run.output
    assert left.with_text(secret) == []


def test_the_clusters_key_is_nowhere_but_in_the_kubeconfig(left: Left) -> None:
    kubeconfig = (left.project / "kubeconfig-of-the-run").read_text()
    (key,) = re.findall(r"client-key-data: (\S+)", kubeconfig)

    assert len(key) > 100
    assert key not in left.run.output
    assert left.with_text(key) == []


def test_credentials_are_for_the_owner_only(left: Left) -> None:
    private = [left.project / "kubeconfig-of-the-run"]
    private += [left.run.folder / name for name in ("kind.json", "kind-create.log", "events.txt")]
    private += [*left.run.folder.glob("pods/*"), *left.run.folder.glob("build/*.log")]

    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in private} == {
        path.name: 0o600 for path in private
    }
