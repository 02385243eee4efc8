"""Charts and kustomizations are rendered once by their own tools, and all that is wrong is said."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.kube.objects import place_of
from pytest_kindinfra.model import Helm, Service
from pytest_kindinfra.plan.charts import release_content
from pytest_kindinfra.plan.source import RenderOptions, kubernetes_version
from pytest_kindinfra.plan.sources import render
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.runner import Completed
from pytest_kindinfra.system.timeline import Deadline
from tests.fakes import FakeRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.kube.objects import Rendered
    from tests.fakes import Argv

POD = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{image: web}]}}"


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with programs that nobody runs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("helm", "kubectl", "kustomize"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with two charts and a kustomization."""
    for name in ("api", "db"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Chart.yaml").write_text(f"{{apiVersion: v2, name: {name}, version: 1}}")
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "kustomization.yaml").touch()
    return tmp_path


class Helms:
    """A helm that prints one pod, and remembers the values that it was given."""

    def __init__(self, *, prints: str = POD, version: str = "v3.19.2") -> None:
        self.prints = prints
        self.version = version
        self.values: list[Any] = []

    def __call__(self, argv: Argv) -> str:
        if argv[:2] == ("helm", "version"):
            return self.version
        files = [argv[n + 1] for n, word in enumerate(argv) if word == "--values"]
        self.values = [json.loads(Path(file).read_text()) for file in files if ".json" in file]
        return self.prints


def packing(helms: Helms, time: int, text: str) -> Callable[[Argv], str]:
    """Return a helm that packs a dependency at that time."""

    def helm(argv: Argv) -> str:
        if argv[1] == "dependency":
            copy = Path(argv[-1])
            (copy / "charts").mkdir()
            (copy / "Chart.lock").write_text(f"generated: {time}")
            with tarfile.open(copy / "charts" / "lib-1.0.0.tgz", "w:gz") as packed:
                member = tarfile.TarInfo("lib/values.yaml")
                member.mtime, member.size = time, len(text)
                packed.addfile(member, io.BytesIO(text.encode()))
            return ""
        return helms(argv)

    return helm


def rendered(folder: Path, *services: Service, runner: FakeRunner) -> Rendered:
    options = RenderOptions(
        runner=runner,
        namespace="shop",
        kubernetes="1.34.4",
        deadline=Deadline.after(60),
        charts=folder / "cache",
    )
    return render(services, folder=folder, options=options)


def chart(name: str, **given: Any) -> Service:
    return Service(name=name, helm=Helm(chart=Path(name), **given))


def test_a_chart_is_rendered_as_the_node_image_would_have_it(folder: Path) -> None:
    runner = FakeRunner(Helms())

    found = rendered(folder, chart("api"), runner=runner)

    assert found.problems == ()
    release = found.releases["api"]
    assert (release.name, release.namespace, release.version) == ("api", "shop", "3.19.2")
    assert release.objects == found.objects["api"]
    assert [obj["metadata"]["name"] for obj in release.objects] == ["p"]
    assert runner.argvs[1] == (
        *("helm", "template", "api", str(folder / "api"), "--namespace", "shop"),
        *("--include-crds", "--skip-tests", "--kube-version", "1.34.4"),
    )


def test_placeholders_are_stand_ins_that_the_declared_image_is_known_by(folder: Path) -> None:
    (folder / "v.yaml").write_text(
        "image: {name: '${image:api:repository}', tag: '${image:api:tag}'}"
    )
    helms = Helms()

    found = rendered(
        folder,
        chart("api", values=(Path("v.yaml"),), set={"side": ["${image:side}"], "n": 1}),
        runner=FakeRunner(helms),
    )

    assert helms.values == [
        {"image": {"name": "localhost/api", "tag": "kindinfra"}},
        {"side": ["localhost/side:kindinfra"], "n": 1},
    ]
    assert found.releases["api"].mentions == ("api", "side")


def test_values_without_placeholders_are_given_as_they_are(folder: Path) -> None:
    (folder / "v.yaml").write_text("# a comment\nn: 1\n")
    runner = FakeRunner(Helms())

    rendered(folder, chart("api", values=(Path("v.yaml"),)), runner=runner)

    assert runner.argvs[1][-2:] == ("--values", str(folder / "v.yaml"))


def test_objects_of_another_namespace_are_looked_for_there(folder: Path) -> None:
    text = f"{POD}\n---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}}}"

    found = rendered(folder, chart("api", namespace="other"), runner=FakeRunner(Helms(prints=text)))

    assert [obj["metadata"].get("namespace") for obj in found.objects["api"]] == [None, "other"]


def test_the_hash_is_of_what_a_release_is_made_from_and_not_of_what_it_prints(folder: Path) -> None:
    def content(**given: Any) -> str:
        helms = Helms(prints=POD.replace("name: p", f"name: p{len(seen)}"))
        found = rendered(folder, chart("api", **given), runner=FakeRunner(helms))
        seen.append(found.releases["api"].content)
        return seen[-1]

    seen: list[str] = []
    same = content() == content()
    (folder / "api" / "Chart.lock").touch()
    content()
    content(set={"a": 1})
    (folder / "api" / "values.yaml").touch()
    content()

    assert same
    assert [seen.index(one) for one in seen] == [0, 0, 0, 3, 4]


def test_each_object_knows_the_template_that_made_it(folder: Path) -> None:
    text = (
        f"---\n# Source: api/crds/c.yaml\n{POD}\n---\n{POD}\n"
        f"---\n# Source: api/charts/db/templates/p.yaml\n{POD}\n"
    )

    found = rendered(folder, chart("api", namespace="other"), runner=FakeRunner(Helms(prints=text)))

    assert sorted(place_of(obj) for obj in found.objects["api"]) == [
        'chart "api", charts/db/templates/p.yaml',
        'chart "api", crds/c.yaml',
        'chart "api", crds/c.yaml',
    ]


class TestContent:
    """A release is installed again only if the hash of what it is made from is another one."""

    def test_a_change_behind_a_link_is_one(self, tmp_path: Path) -> None:
        """Helm follows links; a sub-chart of a monorepo's common folder was never noticed."""
        common, chart = tmp_path / "common", tmp_path / "api"
        for path in (common / "templates", chart / "charts"):
            path.mkdir(parents=True)
        (chart / "charts" / "common").symlink_to("../../common")
        (common / "templates" / "x.yaml").write_text("old")
        before = content_of(chart)

        (common / "templates" / "x.yaml").write_text("new")

        assert content_of(chart) != before

    def test_a_link_that_leads_back_is_followed_once(self, tmp_path: Path) -> None:
        (tmp_path / "api" / "charts").mkdir(parents=True)
        (tmp_path / "api" / "Chart.yaml").write_text("name: api")
        (tmp_path / "api" / "charts" / "self").symlink_to("..")

        assert content_of(tmp_path / "api") == content_of(tmp_path / "api")

    def test_a_text_that_a_template_may_read_counts(self, tmp_path: Path) -> None:
        (tmp_path / "notes.md").write_text("old")
        before = content_of(tmp_path)
        (tmp_path / "notes.md").write_text("new")

        assert content_of(tmp_path) != before


def content_of(chart: Path) -> str:
    return release_content(Helm(chart=chart), chart=chart, values=())


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("kindest/node:v1.34.4", "1.34.4"),
        ("localhost:5000/node:v1.33.1@sha256:abc", "1.33.1"),
        ("kindest/node:v1.35.0-rc.1", "1.35.0"),
        ("kindest/node@sha256:abc", None),
        ("node:latest", None),
        (None, None),
    ],
)
def test_the_kubernetes_version_is_that_of_the_node_images_tag(
    image: str | None, version: str | None
) -> None:
    assert kubernetes_version(image) == version


class TestDependencies:
    def used(self, folder: Path, runner: FakeRunner) -> Path:
        found = rendered(folder, chart("api"), runner=runner)
        assert found.problems == ()
        return found.releases["api"].chart

    def depends(self, folder: Path, repository: str) -> None:
        entry = f"{{name: lib, version: 1.0.0, repository: '{repository}'}}"
        text = f"{{apiVersion: v2, name: api, version: 1, dependencies: [{entry}]}}"
        (folder / "api" / "Chart.yaml").write_text(text)

    @pytest.mark.parametrize("vendored", ["lib", "lib-1.0.0.tgz"])
    def test_a_chart_that_has_them_is_used_where_it_is(self, folder: Path, vendored: str) -> None:
        self.depends(folder, "https://example.com")
        (folder / "api" / "charts" / vendored).mkdir(parents=True)
        runner = FakeRunner(Helms())

        assert self.used(folder, runner) == folder / "api"
        assert [argv[1] for argv in runner.argvs] == ["version", "template"]

    def test_a_lock_file_says_which_versions_a_copy_gets(self, folder: Path) -> None:
        self.depends(folder, "https://example.com")
        (folder / "api" / "Chart.lock").touch()
        runner = FakeRunner(Helms())

        copy = self.used(folder, runner)

        assert copy.name == "api"
        assert copy != folder / "api"
        assert ("helm", "dependency", "build", str(copy)) in runner.argvs
        assert not (folder / "api" / "charts").exists()

    def test_a_folder_beside_the_chart_is_found_from_the_copy(self, folder: Path) -> None:
        self.depends(folder, "file://../lib")
        runner = FakeRunner(Helms())

        copy = self.used(folder, runner)

        assert ("helm", "dependency", "update", str(copy)) in runner.argvs
        assert f"repository: file://{folder / 'lib'}\n" in (copy / "Chart.yaml").read_text()

    def test_the_hash_is_the_same_however_often_it_is_completed(self, folder: Path) -> None:
        self.depends(folder, "file://../lib")
        seen = []
        for number, text in enumerate(["a: 1", "a: 1", "a: 2"]):
            runner = FakeRunner(packing(Helms(), number, text))
            seen.append(rendered(folder, chart("api"), runner=runner).releases["api"].content)

        assert [seen.index(one) for one in seen] == [0, 0, 2]

    def test_two_services_of_one_chart_complete_it_once(self, folder: Path) -> None:
        self.depends(folder, "https://example.com")
        runner = FakeRunner(Helms())
        one, two = (Service(name=name, helm=Helm(chart=Path("api"))) for name in ("one", "two"))

        found = rendered(folder, one, two, runner=runner)

        assert found.releases["one"].chart == found.releases["two"].chart
        assert [argv[1] for argv in runner.argvs].count("dependency") == 1


class TestKustomizations:
    def test_kubectl_renders_them(self, folder: Path) -> None:
        runner = FakeRunner(lambda _argv: POD)

        found = rendered(folder, Service(name="a", kustomize=Path("k")), runner=runner)

        assert runner.argvs[-1] == ("kubectl", "kustomize", str(folder / "k"))
        assert [obj["kind"] for obj in found.objects["a"]] == ["Pod"]
        assert found.releases == {}

    def test_kustomize_does_where_kubectl_does_not_work(self, folder: Path) -> None:
        """As a version manager's stand-in does not, or a kubectl before 1.14."""

        def broken(argv: tuple[str, ...]) -> Completed | str:
            return (
                Completed("", "No version is set for command kubectl", 126)
                if (argv[0] == "kubectl")
                else POD
            )

        found = rendered(folder, Service(name="a", kustomize=Path("k")), runner=FakeRunner(broken))

        assert [obj["kind"] for obj in found.objects["a"]] == ["Pod"]

    def test_kustomize_does_where_there_is_no_kubectl(self, folder: Path, programs: Path) -> None:
        (programs / "kubectl").unlink()
        runner = FakeRunner(lambda _argv: POD)

        rendered(folder, Service(name="a", kustomize=Path("k")), runner=runner)

        assert runner.argvs == [("kustomize", "build", str(folder / "k"))]


class TestProblems:
    def problems(
        self, folder: Path, *services: Service, runner: FakeRunner | None = None
    ) -> list[str]:
        found = rendered(folder, *services, runner=runner or FakeRunner(Helms()))
        assert found.objects.keys() & {one.name for one in services} == set()
        return list(found.problems)

    def test_all_that_is_missing_is_said_at_once(self, folder: Path) -> None:
        (folder / "empty").mkdir()
        found = self.problems(
            folder,
            chart("a", values=(Path("x.yaml"),)),
            chart("empty"),
            Service(name="c", helm=Helm(chart="oci://example.com/chart")),
            Service(name="d", kustomize=Path("no")),
            Service(name="e", kustomize=Path("empty")),
        )

        assert found == [
            '[services.a.helm] chart "a": no such folder',
            '[services.a.helm] values "x.yaml": no such file',
            '[services.empty.helm] chart "empty": a folder without Chart.yaml is no chart',
            (
                '[services.c.helm] chart "oci://example.com/chart" has no version, so a later run'
                " could install another version\n  To fix: helm show chart CHART --repo URL, or"
                " helm show chart oci://..., prints a version"
            ),
            '[services.d] kustomize "no": no such folder',
            (
                '[services.e] kustomize "empty": a folder without kustomization.yaml is no'
                " kustomization"
            ),
        ]

    def test_missing_programs_are_named_with_who_needs_them(
        self, folder: Path, programs: Path
    ) -> None:
        for path in programs.iterdir():
            path.unlink()

        found = self.problems(
            folder, chart("api"), chart("db"), Service(name="k", kustomize=Path("k"))
        )

        assert found == [
            (
                f'services "api", "db": "helm" is not on PATH ({programs})\n'
                f"    To fix: {how_to_get('helm')}"
            ),
            (
                '[services.k]: "kustomize" needs kubectl or kustomize, and neither is on PATH\n'
                f"    To fix: {how_to_get('kubectl')}"
            ),
        ]

    def test_what_helm_says_is_a_problem_and_others_are_rendered_all_the_same(
        self, folder: Path
    ) -> None:
        def helm(argv: Argv) -> Any:
            from pytest_kindinfra.system.runner import Completed

            bad = argv[:3] == ("helm", "template", "api")
            return Completed("", "Error: bad template\n", 1) if bad else Helms()(argv)

        found = rendered(folder, chart("api"), chart("db"), runner=FakeRunner(helm))

        assert list(found.objects) == ["db"]
        assert found.problems == (
            (
                '[services.api] rendering chart "api": exit code 1\n'
                f"      $ helm template api {folder / 'api'} --namespace shop --include-crds"
                " --skip-tests --kube-version 1.34.4\n"
                "        Error: bad template"
            ),
        )

    def test_a_helm_that_does_not_say_its_version_is_named(self, folder: Path) -> None:
        runner = FakeRunner(Helms(version="dev"))

        found = self.problems(folder, chart("api"), runner=runner)

        assert found == ['[services.api] helm version says "dev", which is no version']

    def test_values_that_are_no_yaml_are_named(self, folder: Path) -> None:
        (folder / "v.yaml").write_text("a: [1")

        found = self.problems(folder, chart("api", values=(Path("v.yaml"),)))

        assert found == [
            "[services.api] values \"v.yaml\": line 2: did not find expected ',' or ']'"
        ]

    def test_an_object_that_is_none_is_named(self, folder: Path) -> None:
        found = self.problems(folder, chart("api"), runner=FakeRunner(Helms(prints="kind: Job")))

        assert found == [
            '[services.api] chart "api": document 1 (Job) has no apiVersion and no metadata.name'
        ]
