"""What a declaration points to is read, and what is not there is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.kube.objects import place_of
from pytest_kindinfra.model import ClusterSpec, Declaration, Image, Service
from pytest_kindinfra.plan.files import check_files, load_kind_config, load_tables
from pytest_kindinfra.plan.sources import render


def config_map(name: str) -> str:
    return f"---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


class TestTables:
    def test_without_a_declaration_there_are_none(self, tmp_path: Path) -> None:
        write(tmp_path, {"pyproject.toml": "[tool.other]"})

        assert load_tables(tmp_path) is None

    def test_the_declaration_has_a_file_of_its_own(self, tmp_path: Path) -> None:
        write(tmp_path, {"kindinfra.toml": "[cluster]", "pyproject.toml": "[project]"})

        assert load_tables(tmp_path) == ({"cluster": {}}, "kindinfra.toml")

    def test_an_empty_file_is_a_declaration(self, tmp_path: Path) -> None:
        write(tmp_path, {"kindinfra.toml": ""})

        assert load_tables(tmp_path) == ({}, "kindinfra.toml")

    def test_the_declaration_may_be_in_the_projects_file(self, tmp_path: Path) -> None:
        write(tmp_path, {"pyproject.toml": "[tool.kindinfra.cluster]"})

        assert load_tables(tmp_path) == ({"cluster": {}}, "pyproject.toml")

    @pytest.mark.parametrize(
        ("files", "problem"),
        [
            pytest.param(
                {"kindinfra.toml": "", "pyproject.toml": "[tool.kindinfra]"},
                "kindinfra.toml and [tool.kindinfra] in pyproject.toml: keep one of them",
                id="both",
            ),
            pytest.param(
                {"kindinfra.toml": "[cluster]\nconfig = kind"},
                "kindinfra.toml: Invalid value (at line 2, column 10)",
                id="no TOML",
            ),
            pytest.param(
                {"pyproject.toml": "[tool]\nkindinfra = 3"},
                "pyproject.toml: tool.kindinfra must be a table, not 3",
                id="no table",
            ),
        ],
    )
    def test_a_declaration_that_cannot_be_read_is_an_error(
        self, tmp_path: Path, files: dict[str, str], problem: str
    ) -> None:
        write(tmp_path, files)

        with pytest.raises(DeclarationError) as caught:
            load_tables(tmp_path)

        assert caught.value.problems == (problem,)

    @pytest.mark.parametrize("name", ["kindinfra.toml", "pyproject.toml"])
    def test_a_folder_in_its_place_is_an_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).mkdir()

        with pytest.raises(DeclarationError) as caught:
            load_tables(tmp_path)

        assert caught.value.problems == (f"{name}: Is a directory",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows_are_read_as_any(tmp_path: Path, encoding: str) -> None:
    for name, text in {
        "kindinfra.toml": "[services.a]\r\nmanifests = ['a.yaml', 'b.json']\r\n",
        "kind.yaml": "kind: Cluster\r\napiVersion: kind.x-k8s.io/v1alpha4\r\n",
        "a.yaml": config_map("a"),
        "b.json": '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}',
    }.items():
        (tmp_path / name).write_bytes(text.encode(encoding))

    tables, _ = load_tables(tmp_path) or ({}, "")
    service = Service(name="a", manifests=tuple(tables["services"]["a"]["manifests"]))
    rendered = render([service], folder=tmp_path)

    assert load_kind_config(tmp_path / "kind.yaml")["kind"] == "Cluster"
    assert rendered.problems == ()
    assert [obj["metadata"]["name"] for obj in rendered.objects["a"]] == ["a", "b"]


class TestManifests:
    def names(self, folder: Path, *patterns: str) -> list[str]:
        service = Service(name="api", manifests=patterns)
        rendered = render([service], folder=folder)
        assert rendered.problems == ()
        return [obj["metadata"]["name"] for obj in rendered.objects["api"]]

    def problems(self, folder: Path, *patterns: str) -> list[str]:
        service = Service(name="api", manifests=patterns)
        rendered = render([service], folder=folder)
        assert rendered.objects == {}
        return list(rendered.problems)

    def test_files_matched_by_a_pattern_are_read_in_order(self, tmp_path: Path) -> None:
        write(tmp_path, {f"m/{name}.yaml": config_map(name) for name in "cab"})

        assert self.names(tmp_path, "m/*.yaml") == ["a", "b", "c"]

    def test_patterns_keep_their_own_order_and_no_file_is_read_twice(self, tmp_path: Path) -> None:
        write(tmp_path, {f"m/{name}.yaml": config_map(name) for name in "cab"})

        assert self.names(tmp_path, "m/c.yaml", "m/*.yaml") == ["c", "a", "b"]

    def test_two_stars_reach_into_folders(self, tmp_path: Path) -> None:
        write(tmp_path, {"m/a.yaml": config_map("a"), "m/x/y/b.yaml": config_map("b")})

        assert self.names(tmp_path, "m/**/*.yaml") == ["a", "b"]

    def test_absolute_paths_and_paths_outside_are_read(self, tmp_path: Path) -> None:
        write(tmp_path, {"a.yaml": config_map("a"), "b.yaml": config_map("b"), "in/x": ""})

        patterns = ("../a.yaml", str(tmp_path / "b.*"))
        assert self.names(tmp_path / "in", *patterns) == ["a", "b"]

    def test_a_tilde_is_the_home_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        write(tmp_path, {"home/m/a.yaml": config_map("a"), "home/m/b.yaml": config_map("b")})

        assert self.names(tmp_path, "~/m/a.yaml", "~/m/*.yaml") == ["a", "b"]
        assert self.problems(tmp_path, "~/m") == [
            '[services.api] manifests "~/m": that is a folder; write "~/m/*.yaml"'
        ]

    def test_each_object_knows_its_file_and_document(self, tmp_path: Path) -> None:
        write(tmp_path, {"m/a.yaml": config_map("a") + config_map("b")})

        rendered = render([Service(name="api", manifests=("m/*.yaml",))], folder=tmp_path)

        assert [place_of(obj) for obj in rendered.objects["api"]] == [
            "m/a.yaml, document 1",
            "m/a.yaml, document 2",
        ]

    def test_objects_are_in_applying_order_across_files(self, tmp_path: Path) -> None:
        namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: n}}"
        write(tmp_path, {"a.yaml": config_map("a"), "b.yaml": namespace})

        assert self.names(tmp_path, "*.yaml") == ["n", "a"]

    def test_a_service_without_manifests_has_no_objects(self, tmp_path: Path) -> None:
        assert self.names(tmp_path) == []

    @pytest.mark.parametrize(
        ("pattern", "problem"),
        [
            pytest.param("x.yaml", '"x.yaml": no such file', id="file"),
            pytest.param("*.yaml", '"*.yaml": matches no file', id="pattern"),
            pytest.param("m", '"m": that is a folder; write "m/*.yaml"', id="folder"),
            pytest.param(
                "https://example.org/x.yaml",
                '"https://example.org/x.yaml": manifests are files; download it next to the others,'
                " or fetch it in a Python step with run",
                id="URL",
            ),
        ],
    )
    def test_what_matches_nothing_is_a_problem(
        self, tmp_path: Path, pattern: str, problem: str
    ) -> None:
        (tmp_path / "m").mkdir()

        assert self.problems(tmp_path, pattern) == [f"[services.api] manifests {problem}"]

    def test_a_problem_in_a_manifest_names_service_and_file(self, tmp_path: Path) -> None:
        write(tmp_path, {"m/a.yaml": "kind: Job", "m/b.yaml": "a: @"})
        (tmp_path / "m/c.yaml").write_bytes(b"\xff")

        found = self.problems(tmp_path, "m/*.yaml")

        assert [problem.partition(": ")[0] for problem in found] == [
            "[services.api] m/a.yaml",
            "[services.api] m/b.yaml",
            "[services.api] m/c.yaml",
        ]

    def test_one_services_problem_does_not_hide_another_service(self, tmp_path: Path) -> None:
        write(tmp_path, {"a.yaml": config_map("a")})
        services = [Service(name="a", manifests=("a.yaml",)), Service(name="b", manifests=("b",))]

        rendered = render(services, folder=tmp_path)

        assert list(rendered.objects) == ["a"]
        assert len(rendered.problems) == 1


class TestFiles:
    def test_everything_there_is_no_problem(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            {
                "Dockerfile": "",
                "b/Dev": "",
                "c.tar": "",
                "kind.yaml": "",
                "in.json": "",
                "layout/index.json": "",
            },
        )
        declaration = Declaration(
            folder=tmp_path,
            cluster=ClusterSpec(config=Path("kind.yaml")),
            images=(
                Image(name="a"),
                Image(name="b", context=Path("b"), dockerfile=Path("b/Dev")),
                Image(name="c", archive=Path("c.tar")),
                Image(name="d", prebuilt="d:1"),
                Image(name="e", archive=Path("layout")),
            ),
            services=(Service(name="s", run="m:f", inputs=("*.json",)),),
        )

        assert check_files(declaration) == []

    def test_a_folder_that_is_no_image_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "layout").mkdir()
        declaration = Declaration(
            folder=tmp_path, images=(Image(name="e", archive=Path("layout")),)
        )

        assert check_files(declaration) == [
            '[images.e] archive "layout": a folder without index.json is no OCI layout'
        ]

    def test_everything_missing_is_named(self, tmp_path: Path) -> None:
        declaration = Declaration(
            folder=tmp_path,
            cluster=ClusterSpec(config=Path("kind.yaml")),
            images=(
                Image(name="a"),
                Image(name="b", context=Path("b")),
                Image(name="c", archive=Path("c.tar")),
                Image(name="d", dockerfile=Path("d/Dockerfile")),
            ),
            services=(Service(name="s", run="m:f", inputs=("*.json",)),),
        )

        assert check_files(declaration) == [
            '[cluster] config "kind.yaml": no such file',
            '[images.a] dockerfile "Dockerfile": no such file',
            '[images.b] context "b": no such folder',
            '[images.c] archive "c.tar": no such file',
            '[images.d] dockerfile "d/Dockerfile": no such file',
            '[services.s] inputs "*.json": matches no file',
        ]


class TestWhatMayNotBeSeen:
    """Python up to 3.13 raised out of the plan, later ones say that it is not there."""

    def test_files_are_told_with_the_systems_reason(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        declaration = Declaration(
            folder=tmp_path,
            cluster=ClusterSpec(config=Path("loop")),
            images=(Image(name="a", context=Path("loop/a")),),
            services=(Service(name="s", manifests=("loop/s.yaml",), inputs=("loop/x",)),),
        )

        problems = check_files(declaration)
        rendered = render(declaration.services, folder=tmp_path)

        assert problems == [
            '[cluster] config "loop": Too many levels of symbolic links',
            '[images.a] context "loop/a": Too many levels of symbolic links',
            '[services.s] inputs "loop/x": Too many levels of symbolic links',
        ]
        assert rendered.problems == (
            '[services.s] manifests "loop/s.yaml": Too many levels of symbolic links',
        )

    def test_a_declaration_is_not_taken_for_none(self, tmp_path: Path) -> None:
        (tmp_path / "kindinfra.toml").symlink_to("kindinfra.toml")

        with pytest.raises(DeclarationError, match="Too many levels of symbolic links"):
            load_tables(tmp_path)


class TestKindConfig:
    @pytest.mark.parametrize(
        ("text", "config"),
        [("", {}), ("# nothing", {}), ("kind: Cluster", {"kind": "Cluster"})],
    )
    def test_it_is_one_table(self, tmp_path: Path, text: str, config: dict[str, str]) -> None:
        write(tmp_path, {"kind.yaml": text})

        assert load_kind_config(tmp_path / "kind.yaml") == config

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("a: @", "kind.yaml: line 1: found character that cannot start any token"),
            ("a: 1\n---\nb: 2", "kind.yaml: a kind config is one document with keys"),
            ("- a", "kind.yaml: a kind config is one document with keys"),
        ],
        ids=["no YAML", "two documents", "list"],
    )
    def test_anything_else_is_an_error(self, tmp_path: Path, text: str, problem: str) -> None:
        write(tmp_path, {"kind.yaml": text})

        with pytest.raises(DeclarationError) as caught:
            load_kind_config(tmp_path / "kind.yaml")

        assert caught.value.problems == (problem,)

    def test_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DeclarationError, match=r"kind\.yaml: No such file"):
            load_kind_config(tmp_path / "kind.yaml")
