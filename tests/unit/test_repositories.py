"""A chart of a repository is pulled by helm once, in one version that the declaration names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.model import Helm
from pytest_kindinfra.plan.repositories import (
    RemoteChart,
    problems_of_remote,
    pulled_chart,
    remote_chart,
)
from pytest_kindinfra.plan.source import RenderOptions
from pytest_kindinfra.system.runner import Completed
from pytest_kindinfra.system.timeline import Deadline
from tests.fakes import FakeRunner

if TYPE_CHECKING:
    from tests.fakes import Argv

URL = "https://charts.example.com"
PINNED = RemoteChart("postgresql", "16.2.1", URL)


def problems(**given: Any) -> list[str]:
    return [text.partition("\n")[0] for text in problems_of_remote(Helm(**given))]


def puller(argv: Argv) -> str:
    """Leave a file as `helm pull` does, named after what the chart says of itself."""
    folder = Path(argv[argv.index("--destination") + 1])
    (folder / "postgresql-v16.2.1.tgz").write_text("a chart")
    return ""


def options(folder: Path, runner: FakeRunner) -> RenderOptions:
    return RenderOptions(
        runner=runner,
        namespace="shop",
        kubernetes=None,
        deadline=Deadline.after(60),
        charts=folder / "charts",
    )


def test_a_version_is_pulled_once(tmp_path: Path) -> None:
    runner = FakeRunner(puller)

    first = pulled_chart(PINNED, options(tmp_path, runner))
    second = pulled_chart(PINNED, options(tmp_path, runner))

    assert first == second
    assert (first.name, first.read_text()) == ("postgresql-16.2.1.tgz", "a chart")
    (argv,) = runner.argvs
    assert argv[:7] == ("helm", "pull", "postgresql", "--version", "16.2.1", "--repo", URL)
    assert [one for one in first.parent.iterdir() if one != first] == []


def test_charts_of_one_name_and_two_repositories_are_kept_apart(tmp_path: Path) -> None:
    given = options(tmp_path, FakeRunner(puller))
    other = RemoteChart("postgresql", "16.2.1", "https://other.example.com")

    assert pulled_chart(PINNED, given) != pulled_chart(other, given)


@pytest.mark.parametrize(
    ("chart", "plain"),
    [
        ("oci://localhost:5000/charts/a", True),
        ("oci://127.0.0.1:5000/a", True),
        ("oci://[::1]:5000/a", True),
        ("oci://localhost.example.com/a", False),
        ("oci://registry.example.com/a", False),
    ],
)
def test_only_a_registry_of_this_host_is_asked_without_tls(
    tmp_path: Path, chart: str, *, plain: bool
) -> None:
    runner = FakeRunner(puller)

    pulled_chart(RemoteChart(chart, "1.0.0"), options(tmp_path, runner))

    assert ("--plain-http" in runner.argvs[0]) is plain


def test_a_chart_that_cannot_be_pulled_is_named_with_its_repository(tmp_path: Path) -> None:
    refusing = FakeRunner(lambda _argv: Completed("", "no such host", exit_code=1))

    with pytest.raises(KindInfraError) as caught:
        pulled_chart(PINNED, options(tmp_path, refusing))

    assert "pulling chart postgresql 16.2.1 of https://charts.example.com" in str(caught.value)
    assert "no such host" in str(caught.value)
    assert "To fix: compare repo, chart and version" in str(caught.value)
    assert list((tmp_path / "charts").rglob("*.tgz")) == []


def test_a_folder_of_the_cache_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "charts").write_text("no folder")

    with pytest.raises(KindInfraError, match="cannot be written: Not a directory\nTo fix: "):
        pulled_chart(PINNED, options(tmp_path, FakeRunner(puller)))


def test_charts_of_this_project_are_not_remote() -> None:
    assert remote_chart(Helm(chart=Path("charts/api"))) is None
    assert remote_chart(Helm(chart="a", repo=URL, version="1.0.0")) == RemoteChart(
        "a", "1.0.0", URL
    )
    assert remote_chart(Helm(chart="oci://r/a", version="1.0.0")) == RemoteChart(
        "oci://r/a", "1.0.0"
    )


@pytest.mark.parametrize("version", ["1.2.3", "v1.2.3", "1.2.3-rc.1", "0.1.0+build.5"])
def test_one_version_is_fine(version: str) -> None:
    assert problems(chart="a", repo=URL, version=version) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            {"chart": "a", "repo": URL, "version": "^1.2"},
            'version "^1.2" is not one version, such as "16.2.1"',
            id="a range",
        ),
        pytest.param(
            {"chart": "a", "repo": URL},
            'chart "a" has no version, so a later run could install another version',
            id="no version",
        ),
        pytest.param(
            {"chart": Path("a"), "version": "1.0.0"},
            'version "1.0.0" is only for a chart with repo, or of oci://',
            id="a folder with a version",
        ),
        pytest.param(
            {"chart": "a", "repo": "oci://r.example.com/charts", "version": "1.0.0"},
            'repo "oci://r.example.com/charts" is no URL of a chart repository (https://...);'
            ' for a registry: chart = "oci://r.example.com/charts/a"',
            id="a registry as repo",
        ),
        pytest.param(
            {"chart": "oci://r/a", "repo": URL, "version": "1.0.0"},
            'chart "oci://r/a" is of a registry, which needs no repo: leave it out',
            id="both",
        ),
        pytest.param(
            {"chart": f"{URL}/a-1.0.0.tgz"},
            f"chart \"{URL}/a-1.0.0.tgz\": give the repository's URL as repo, and the chart's name"
            " as chart",
            id="a URL",
        ),
    ],
)
def test_what_names_no_single_version_is_refused(given: dict[str, Any], expected: str) -> None:
    assert problems(**given) == [expected]


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    (told,) = problems(chart="a", repo="https://me:s3cret@charts.example.com", version="1.0.0")

    assert told == "chart or repo holds a user name or a password"
