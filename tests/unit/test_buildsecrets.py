"""Which values a build must not show: what comes from outside and is called a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kindinfra.images.secrets import build_secrets, unshown_arguments
from pytest_kindinfra.model import Image

TOKEN = "tok-4f3a9c2e77"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CI_TOKEN", TOKEN)
    monkeypatch.setenv("PLAIN", "plain-value")
    monkeypatch.setenv("OTHER", "other-value")
    for name in ("GONE_TOKEN", "file.txt"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("of-the-file\n")
    (tmp_path / "a,b").write_text("of-a-comma")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long").write_text("x" * 100_000)


def found(**image: object) -> set[str]:
    declared = Image(name="api", **image)  # type: ignore[arg-type]
    return set(build_secrets(declared, folder=Path.cwd())) - {""}


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        pytest.param("API_TOKEN", "${PLAIN}", {"plain-value"}, id="by its own name"),
        pytest.param("VERSION", "${CI_TOKEN}", {TOKEN}, id="by the variable's name"),
        pytest.param("URL", "http://a/$CI_TOKEN?v=$PLAIN", {TOKEN}, id="within a text"),
        pytest.param("A_KEY", "x-${PLAIN}", {"x-plain-value"}, id="with what is around it"),
        pytest.param("VERSION", "${PLAIN}", set(), id="no secret name"),
        pytest.param("API_TOKEN", "written-down", set(), id="not from the environment"),
        pytest.param("API_TOKEN", "${GONE_TOKEN:-written-down}", set(), id="the default"),
    ],
)
def test_a_build_argument_is_secret(name: str, text: str, values: set[str]) -> None:
    assert found(build_args=((name, text),)) == values


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (("--secret", "id=x,env=OTHER"), {"other-value"}),
        (("--secret=id=x,env=OTHER",), {"other-value"}),
        (("--secret", "type=env,id=x,src=OTHER"), {"other-value"}),
        (("--secret", "id=OTHER"), {"other-value"}),
        (("--secret", "id=x,src=file.txt"), {"of-the-file\n"}),
        (("--secret", "id=x,source=file.txt"), {"of-the-file\n"}),
        (("--secret", "id=file.txt"), {"of-the-file\n"}),
        (("--secret", 'id=x,"src=a,b"'), {"of-a-comma"}),
        (("--secret", "id=x,src=binary"), set()),
        (("--secret", "id=x,src=long"), set()),
        (("--secret", "id=x,src=gone"), set()),
        (("--secret", "id=x,src=."), set()),
        (("--secret", "\r\n,\r"), set()),
        (("--secret",), set()),
        (("--build-arg", "NPM_TOKEN=written-down"), {"written-down"}),
        (("--build-arg=NPM_TOKEN=a=b",), {"a=b"}),
        (("--build-arg", "CI_TOKEN"), {TOKEN}),
        (("--build-arg", "PLAIN"), set()),
        (("--build-arg", "VERSION=1"), set()),
        (("--label", "x=y", "--pull"), set()),
    ],
)
def test_a_flag_names_a_secret(options: tuple[str, ...], values: set[str]) -> None:
    assert found(build_options=options) == values


def test_values_from_outside_and_with_secret_names_belong_into_no_command() -> None:
    arguments = (("A", "$PLAIN"), ("B", "1"), ("C_TOKEN", "1"), ("D", "${X:-1}"))

    assert unshown_arguments(Image(name="api", build_args=arguments)) == {"A", "C_TOKEN", "D"}


def test_files_are_looked_for_where_the_build_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An IDE starts pytest in the folder of the test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path / "tests")

    for path in ("file.txt", "./file.txt", "~/file.txt"):
        image = Image(name="api", build_options=("--secret", f"id=x,src={path}"))
        assert list(build_secrets(image, folder=tmp_path)) == ["of-the-file\n"]


def test_a_default_within_a_default_is_known() -> None:
    image = Image(name="api", build_args=(("V", "${GONE_TOKEN:-${CI_TOKEN}}"),))

    assert list(build_secrets(image, folder=Path.cwd())) == [TOKEN]
    assert unshown_arguments(image) == {"V"}
