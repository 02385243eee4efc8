"""A release is installed by helm with this run's images; a hook that cannot work ends helm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.deploy.release import Helming, install_release, recorded_objects
from pytest_kindinfra.errors import CancelledError, CommandError, KindInfraError, NotReadyError
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.model import Release
from pytest_kindinfra.system.runner import Completed, Runner
from pytest_kindinfra.system.timeline import Deadline, monotonic
from tests.fakes import FakeRunner

if TYPE_CHECKING:
    from tests.fakes import Argv

HOOK = {"kind": "Job", "metadata": {"name": "h", "annotations": {"helm.sh/hook": "pre-install"}}}
CRDS = "kind: CustomResourceDefinition\n"
POD = {"kind": "Pod", "metadata": {"name": "p"}}


def release(version: str = "3.19.2", **given: Any) -> Release:
    return Release(
        name="api", namespace="shop", chart=Path("/charts/api"), version=version, **given
    )


def helming(folder: Path, runner: Any, *, deadline: Deadline | None = None) -> Helming:
    return Helming(
        runner=runner,
        kubeconfig=Path("/run/kubeconfig"),
        folder=folder / "helm",
        deadline=deadline or Deadline.after(61),
    )


def rules(**given: Any) -> dict[str, Any]:
    return {"images": {}, "placeholders": {}, **given}


def test_it_is_one_call_with_values_and_the_post_renderer_in_files(tmp_path: Path) -> None:
    runner = FakeRunner()
    (tmp_path / "v.yaml").write_text("tag: '${image:web:tag}'")
    one = release(values=(tmp_path / "v.yaml",), set={"n": 1})

    install_release(
        one, rules=rules(placeholders={"web": "localhost/web:1e10"}), how=helming(tmp_path, runner)
    )

    folder = tmp_path / "helm"
    (argv,) = runner.argvs
    assert argv[:-1] == (
        *("helm", "upgrade", "--install", "api", "/charts/api", "--namespace", "shop"),
        *("--create-namespace", "--kubeconfig", "/run/kubeconfig"),
        *("--values", str(folder / "values-0.json"), "--values", str(folder / "set.json")),
        *("--post-renderer", str(folder / "kindinfra" / "post-render"), "--timeout"),
    )
    assert argv[-1] in {"58s", "59s"}
    assert runner.calls[0].env["HELM_KUBECONTEXT"] == ""
    assert json.loads((folder / "values-0.json").read_text()) == {"tag": "1e10"}
    assert json.loads((folder / "set.json").read_text()) == {"n": 1}
    assert {path.stat().st_mode & 0o77 for path in folder.rglob("*")} == {0}


def test_helm_4_is_given_a_plugin_beside_those_of_the_user(tmp_path: Path) -> None:
    def helm(argv: Argv) -> str:
        return "/users/plugins\n" if argv[1] == "env" else ""

    runner = FakeRunner(helm)

    install_release(release("4.0.5"), rules=rules(), how=helming(tmp_path, runner))

    folder = tmp_path / "helm"
    assert runner.argvs[0] == ("helm", "env", "HELM_PLUGINS")
    assert runner.argvs[1][-3] == "kindinfra"
    assert runner.calls[1].env["HELM_PLUGINS"] == f"{folder}:/users/plugins"
    assert "type: postrenderer/v1" in (folder / "kindinfra" / "plugin.yaml").read_text()


def test_the_post_renderer_is_a_program_that_works_anywhere(tmp_path: Path) -> None:
    install_release(
        release(),
        rules=rules(images={"web": "localhost/web:1"}),
        how=helming(tmp_path, FakeRunner()),
    )
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the user')")

    text = "{kind: Pod, apiVersion: v1, metadata: {name: p}, spec: {containers: [{image: web}]}}"
    done = subprocess.run(
        [tmp_path / "helm" / "kindinfra" / "post-render"],
        input=text, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert '"image": "localhost/web:1"' in done.stdout


def test_what_was_made_comes_back_without_hooks(tmp_path: Path) -> None:
    made = tmp_path / "helm" / "made.json"

    def helm(_argv: Argv) -> str:
        made.write_text(json.dumps([HOOK, POD]))
        return ""

    found = install_release(release(), rules=rules(), how=helming(tmp_path, FakeRunner(helm)))

    assert found == (POD,)


def test_a_failure_shows_a_command_that_can_be_pasted(tmp_path: Path) -> None:
    def helm(argv: Argv) -> Completed:
        return Completed(
            "", "" if argv[1] == "env" else "Error: UPGRADE FAILED\n", int(argv[1] != "env")
        )

    with pytest.raises(CommandError) as caught:
        install_release(release("4.0.5"), rules=rules(), how=helming(tmp_path, FakeRunner(helm)))

    folder = tmp_path / "helm"
    first, command, last = str(caught.value).splitlines()
    assert first == 'installing release "api": exit code 1'
    assert command.startswith(f"  $ HELM_PLUGINS={folder} helm upgrade --install api /charts/api")
    assert last == "    Error: UPGRADE FAILED"


@pytest.fixture
def slow_helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "helm").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "bin" / "helm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


@pytest.mark.usefixtures("slow_helm")
def test_what_the_watch_raises_ends_helm(tmp_path: Path) -> None:
    def watch() -> None:
        msg = "the hook's image cannot be pulled"
        raise NotReadyError(msg)

    began = monotonic()
    with pytest.raises(NotReadyError, match="the hook's image cannot be pulled"):
        install_release(release(), rules=rules(), how=helming(tmp_path, Runner()), watch=watch)
    assert monotonic() - began < 50


@pytest.mark.usefixtures("slow_helm")
def test_the_end_of_the_run_ends_helm(tmp_path: Path) -> None:
    deadline = Deadline.after(60)
    with pytest.raises(CancelledError):
        install_release(
            release(),
            rules=rules(),
            how=helming(tmp_path, Runner(), deadline=deadline),
            watch=deadline.cancelled.set,
        )


def test_what_is_recorded_is_read_as_it_was_applied(tmp_path: Path) -> None:
    runner = FakeRunner(lambda _argv: "---\n{kind: Pod, apiVersion: v1, metadata: {name: p}}\n")

    found = recorded_objects(release(), how=helming(tmp_path, runner))

    assert found == ({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}},)
    assert runner.argvs == [
        (
            *("helm", "get", "manifest", "api"),
            *("--namespace", "shop", "--kubeconfig", "/run/kubeconfig"),
        )
    ]


class TestHooksOfHelm3:
    """helm 3 shows hooks to no post-renderer: see `frozencharts.py`."""

    def hook(self, **container: Any) -> dict[str, Any]:
        spec = {"template": {"spec": {"containers": [container]}}}
        return {"apiVersion": "batch/v1", **HOOK, "spec": spec}

    def install(
        self,
        folder: Path,
        hook: dict[str, Any],
        version: str = "3.19.2",
        pull: dict[str, str] | None = None,
        **given: Any,
    ) -> FakeRunner:
        def helm(argv: Argv) -> str:
            if argv[1] == "show":
                return CRDS if argv[2] == "crds" else "{name: api, version: 1.2.3, keywords: [a]}"
            if "--output" in argv:
                return json.dumps({"manifest": json.dumps(POD), "hooks": [{"manifest": text}]})
            return ""

        text = json.dumps(hook)
        runner = FakeRunner(helm)
        one = release(version, objects=(hook,), **given)
        reference = {"web": "localhost/web:1"}
        images = {"web": reference["web"], "localhost/web:kindinfra": reference["web"]}
        install_release(
            one,
            rules=rules(images=images, placeholders=reference, pin=["redis"], pull=pull or {}),
            how=helming(folder, runner),
        )
        return runner

    @pytest.mark.parametrize(
        "container",
        [
            pytest.param({"image": "web"}, id="an image of ours"),
            pytest.param({"image": "redis"}, id="one that is loaded"),
            pytest.param({"image": "x:1", "args": ["${image:web}"]}, id="a placeholder"),
            pytest.param(
                {"image": "localhost/web:kindinfra", "imagePullPolicy": "Always"}, id="pulled"
            ),
        ],
    )
    def test_a_chart_of_what_it_renders_is_installed(
        self, tmp_path: Path, container: dict[str, Any]
    ) -> None:
        runner = self.install(tmp_path, self.hook(**container), mentions=("web",))

        chart = tmp_path / "helm" / "api"
        assert [argv[1:3] for argv in runner.argvs] == [
            ("show", "chart"),
            ("show", "crds"),
            ("upgrade", "--install"),
            ("upgrade", "--install"),
        ]
        assert runner.argvs[2][-3:] == ("--dry-run=server", "--output", "json")
        assert runner.argvs[3][4] == str(chart)
        assert "--post-renderer" not in runner.argvs[3]
        assert json.loads((chart / "Chart.yaml").read_text()) == {"name": "api", "version": "1.2.3"}
        assert (chart / "crds" / "all.yaml").read_text() == CRDS
        (pod, job) = load_documents((chart / "templates" / "all.yaml").read_text())
        assert pod["kind"] == "Pod"
        (made,) = job["spec"]["template"]["spec"]["containers"]
        assert made != container

    @pytest.mark.parametrize("image", ["localhost/web:kindinfra", "localhost/other:1"])
    def test_a_hook_of_a_private_registry_names_the_secret_for_it(
        self, tmp_path: Path, image: str
    ) -> None:
        pull = {"name": "kindinfra-pull-1", "registry": "localhost"}

        self.install(tmp_path, self.hook(image=image), mentions=("web",), pull=pull)

        text = (tmp_path / "helm" / "api" / "templates" / "all.yaml").read_text()
        (_, job) = load_documents(text)
        assert job["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": pull["name"]}]

    @pytest.mark.parametrize(
        ("version", "container"),
        [
            pytest.param("4.0.5", {"image": "web"}, id="helm 4 shows hooks"),
            pytest.param("3.19.2", {"image": "x:1"}, id="an image of a registry"),
            pytest.param("3.19.2", {"image": "localhost/web:kindinfra"}, id="by a value"),
        ],
    )
    def test_else_the_chart_itself_is(
        self, tmp_path: Path, version: str, container: dict[str, Any]
    ) -> None:
        runner = self.install(tmp_path, self.hook(**container), version, mentions=("web",))

        assert runner.argvs[-1][4] == "/charts/api"
        assert "--post-renderer" in runner.argvs[-1]

    def test_what_looks_like_a_template_stays_text(self, tmp_path: Path) -> None:
        hook = self.hook(image="web", args=["{{ .Values.x }}", "{{{{"])

        self.install(tmp_path, hook)

        text = (tmp_path / "helm" / "api" / "templates" / "all.yaml").read_text()
        assert "{{" not in text
        (_, job) = load_documents(text)
        (made,) = job["spec"]["template"]["spec"]["containers"]
        assert made["args"] == ["{{ .Values.x }}", "{{{{"]

    def test_an_answer_that_is_none_is_said(self, tmp_path: Path) -> None:
        runner = FakeRunner(lambda argv: "{name: api}" if argv[1] == "show" else "no JSON")
        one = release(objects=(self.hook(image="web"),))

        with pytest.raises(KindInfraError) as caught:
            install_release(
                one, rules=rules(images={"web": "localhost/web:1"}), how=helming(tmp_path, runner)
            )

        assert str(caught.value) == (
            "helm's answer to --dry-run=server --output json cannot be read:"
            " JSONDecodeError('Expecting value: line 1 column 1 (char 0)')"
        )
