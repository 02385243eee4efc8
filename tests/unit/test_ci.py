"""What CI services get: folded sections, annotations with places, a summary in Markdown."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.run.ci import RootCause, SourceLine, error_commands, folded, summary
from pytest_kindinfra.run.places import place_of

if TYPE_CHECKING:
    from pathlib import Path

GITHUB = {"GITHUB_ACTIONS": "true"}
GITLAB = {"GITLAB_CI": "true"}


class TestFoldedSections:
    def test_github_has_groups(self) -> None:
        assert folded("all phases", ["a", "b"], environ=GITHUB, at=0) == [
            "::group::all phases",
            "a",
            "b",
            "::endgroup::",
        ]

    def test_gitlab_has_sections(self) -> None:
        assert folded("kindinfra: all", ["a"], environ=GITLAB, at=1700000000.4) == [
            "\x1b[0Ksection_start:1700000000:kindinfra_all[collapsed=true]\r\x1b[0Kkindinfra: all",
            "a",
            "\x1b[0Ksection_end:1700000000:kindinfra_all\r\x1b[0K",
        ]

    def test_elsewhere_and_without_lines_nothing_is_added(self) -> None:
        assert folded("x", ["a"], environ={"CI": "true"}, at=0) == ["a"]
        assert folded("x", [], environ=GITHUB, at=0) == []


class TestAnnotations:
    def test_file_line_and_text_are_escaped(self) -> None:
        cause = RootCause('image "a,b" failed', "100%\nof it", SourceLine("a/Dockerfile", 3))

        assert list(error_commands([cause])) == [
            (
                '::error file=a/Dockerfile,line=3,title=kindinfra%3A image "a%2Cb" failed'
                "::100%25%0Aof it"
            )
        ]

    def test_without_a_place_and_not_more_than_ten(self) -> None:
        lines = list(error_commands([RootCause("x", "y")] * 12))

        assert lines == ["::error title=kindinfra%3A x::y"] * 10


DECLARATION = """
[images.api]
context = "api"

[services.web]
manifests = ["k8s/*.yaml"]
"""

MANIFEST = """kind: Deployment
metadata:
  name: web
spec:
  containers:
    - name: main
      image: quay.io/web:1
"""


class TestPlaces:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "kindinfra.toml").write_text(DECLARATION)
        (tmp_path / "k8s").mkdir()
        (tmp_path / "k8s" / "web.yaml").write_text(MANIFEST)
        return tmp_path

    @pytest.mark.parametrize(
        ("root", "text", "place"),
        [
            (
                'image "api"',
                'building image "api"\napi/Dockerfile:4: RUN make\n',
                ("api/Dockerfile", 4),
            ),
            ('image "api"', "no space left on device", ("kindinfra.toml", 2)),
            ('service "web"', 'image "quay.io/web:1": ErrImagePull', ("k8s/web.yaml", 7)),
            ('service "web"', 'container "main" crashed', ("k8s/web.yaml", 6)),
            ('service "web"', "not ready after 5 s", ("k8s/web.yaml", 3)),
            ('service "other"', "not ready after 5 s", ("kindinfra.toml", 1)),
            ("the cluster", "kind create failed", ("", 0)),
        ],
    )
    def test_a_line_where_it_can_be_mended(
        self, folder: Path, root: str, text: str, place: tuple[str, int]
    ) -> None:
        declaration = parse_declaration(
            tomllib.loads(DECLARATION), folder=folder, source="kindinfra.toml"
        )

        assert place_of(root, text, declaration) == place


def test_the_place_of_a_manifest_outside_of_the_folder_is_its_path(tmp_path: Path) -> None:
    """Its absolute path was a NotImplementedError of pathlib."""
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "web.yaml").write_text(MANIFEST)
    tables = {"services": {"web": {"manifests": [f"{tmp_path}/k8s/*.yaml"]}}}
    declaration = parse_declaration(tables, folder=tmp_path / "p", source="kindinfra.toml")

    found = place_of('service "web"', "not ready after 5 s", declaration)

    assert found == (f"{tmp_path}/k8s/web.yaml", 3)


def test_the_summary_has_causes_phases_and_the_folder() -> None:
    def phase(
        kind: str, subject: str, start: float, end: float, *, ok: bool = True
    ) -> dict[str, Any]:
        return {"kind": kind, "subject": subject, "start": start, "end": end, "ok": ok}

    report = {
        "plan": {"services": [{"name": "web", "needs": {}, "images": ["web"]}]},
        "phases": [phase("build", "web", 100, 103), phase("wait", "web|x", 103, 105, ok=False)],
        "images": {"web": {"reference": "localhost/web:1", "cached": True}},
        "outcome": {"state": "failed"},
    }
    cause = RootCause('service "web" failed', "it said:\n```\nno\n```", SourceLine("web.yaml", 7))

    test = RootCause("test t.py::test_a", "assert 0", evidence="attempts/t.py-test_a-1/2")

    assert summary(report, [cause, test], folder=".kindinfra/1").splitlines() == [
        "### kindinfra: failed",
        "",
        (
            "1 service, 1 image (1 unchanged). total: 5.0 s; critical path: build web 3.0, "
            "wait web\\|x 2.0 (seconds)"
        ),
        "",
        '<details open><summary>service "web" failed (`web.yaml:7`)</summary>',
        "",
        "````",
        "it said:",
        "```",
        "no",
        "```",
        "````",
        "",
        "</details>",
        "",
        "<details open><summary>test t.py::test_a</summary>",
        "",
        "```",
        "assert 0",
        "```",
        "",
        "Logs, events and failure: `.kindinfra/1/attempts/t.py-test_a-1/2/`",
        "",
        "</details>",
        "",
        "| phase | what | start | seconds | |",
        "| --- | --- | ---: | ---: | --- |",
        "| build | web | 0.0 | 3.0 |  |",
        "| wait | web\\|x | 3.0 | 2.0 | failed |",
        "",
        (
            "Artifacts: `.kindinfra/1` (`timeline.html`, `run.json`, `events.txt`, `pods/`, "
            "`build/`, `kind/`)"
        ),
        "",
    ]
