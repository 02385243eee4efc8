"""Options: the nearest wins, each knows where it came from, all mistakes come at once."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from pytest_kindinfra.model import Load
from pytest_kindinfra.plan.options import OPTIONS, Caller, Option, Settings, find_option, ignored_by
from pytest_kindinfra.plan.settings import read_settings
from pytest_kindinfra.session.options import add_options

SOURCE = "kindinfra.toml"
SECONDS = "a number of seconds above 0"
LINES = 'one of "auto", "plain", "off"; did you mean "plain"?'
WHOLE = "a whole number, 1 or more"
TAG = "a tag; it may contain {service} {user} {git} {time} {content} {random}"


@pytest.fixture(autouse=True)
def _no_options_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("KINDINFRA_", "IMAGE_TAG")):
            monkeypatch.delenv(name)


def read(
    file: dict[str, Any] | None = None, **given: str | None
) -> tuple[Settings, tuple[str, ...]]:
    """Read settings from a command line, the environment and a file."""
    options = {f"kindinfra_{key}": text for key, text in given.items()}
    return read_settings(options.get, (file or {}).items(), source=SOURCE)


class TestPrecedence:
    def test_without_anything_there_are_defaults(self) -> None:
        settings, problems = read()

        assert problems == ()
        assert settings == Settings(build_jobs=min(4, os.cpu_count() or 1))
        assert settings.sources == {}

    def test_the_file_wins_over_the_default(self) -> None:
        settings, _ = read({"keep": "always"})

        assert settings.keep == "always"
        assert settings.sources == {"keep": "kindinfra.toml [options]"}

    def test_the_environment_wins_over_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KINDINFRA_KEEP", "on-failure")

        settings, _ = read({"keep": "always"})

        assert settings.keep == "on-failure"
        assert settings.sources == {"keep": "environment KINDINFRA_KEEP"}

    def test_the_command_line_wins_over_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KINDINFRA_KEEP", "on-failure")

        settings, _ = read({"keep": "always"}, keep="never")

        assert settings.keep == "never"
        assert settings.sources == {"keep": "--kindinfra-keep"}

    def test_a_tag_from_outside_wins_over_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever calls the tests decides; scripts that know nothing of this plugin say it so."""
        monkeypatch.setenv("KINDINFRA_TAG", "{service}")
        monkeypatch.setenv("IMAGE_TAG", "ci-1f-7")

        settings, problems = read({"tag": "{time}"}, tag="{user}")

        assert (settings.tag, problems) == ("ci-1f-7", ())
        assert settings.sources == {"tag": "environment IMAGE_TAG"}

    def test_an_empty_variable_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """CI systems cannot unset a variable."""
        monkeypatch.setenv("KINDINFRA_BUILD_JOBS", "")

        assert read({"build_jobs": 3})[0].build_jobs == 3

    def test_each_option_goes_its_own_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KINDINFRA_TIMEOUT", "90")

        settings, _ = read({"build_jobs": 2}, order="collected")

        assert (settings.build_jobs, settings.timeout, settings.order) == (2, 90.0, "collected")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("keep", "on-failure", "on-failure"),
        ("cluster_name", "mine", "mine"),
        ("node_image", "kindest/node:v1.34.0", "kindest/node:v1.34.0"),
        ("kind_config", "kind.yaml", Path("kind.yaml")),
        ("build_jobs", "3", 3),
        ("tag", "{service}-{user}-{git}-{time}", "{service}-{user}-{git}-{time}"),
        ("timeout", "90", 90.0),
        ("timeout", "0.5", 0.5),
        ("artifacts", "out", Path("out")),
        ("plan", "true", True),
        ("plan", "No", False),
        ("progress", "plain", "plain"),
        ("order", "collected", "collected"),
    ],
)
class TestValues:
    def test_a_text_becomes_a_value(self, key: str, text: str, value: object) -> None:
        settings, problems = read(None, **{key: text})

        assert problems == ()
        assert getattr(settings, key) == value
        assert type(getattr(settings, key)) is type(value)

    def test_a_value_in_the_file_means_the_same(self, key: str, text: str, value: object) -> None:
        native = value if isinstance(value, int | float) else text

        assert getattr(read({key: native})[0], key) == value


class TestPaths:
    """bash leaves a `~` behind `=` as it is; it became a folder of that name."""

    @pytest.mark.parametrize("key", ["kubeconfig", "artifacts", "kind_config", "images"])
    def test_a_tilde_is_the_home_folder_wherever_the_path_was_given(
        self, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", "/home/me")
        option, file = read(None, **{key: "~/x"}), read({key: "~/x"})
        monkeypatch.setenv(f"KINDINFRA_{key.upper()}", "~/x")

        found = [getattr(settings, key) for settings, _ in (option, file, read())]

        assert found == [Path("/home/me/x")] * 3


class TestProblems:
    @pytest.mark.parametrize(
        ("key", "text", "expected"),
        [
            ("keep", "sometimes", 'one of "never", "always", "on-failure"'),
            ("build_jobs", "0", WHOLE),
            ("build_jobs", "many", WHOLE),
            ("build_jobs", "1.5", WHOLE),
            ("tag", "{servise}", TAG),
            ("tag", "{service", TAG),
            ("tag", "org/api", TAG),
            ("tag", "-{time}", TAG),
            ("tag", "x" * 129, TAG),
            ("timeout", "0", SECONDS),
            ("timeout", "-1", SECONDS),
            ("timeout", "nan", SECONDS),
            ("timeout", "soon", SECONDS),
            ("plan", "perhaps", "yes or no"),
            ("progress", "loud", 'one of "auto", "plain", "off"'),
            ("order", "random", 'one of "needs-last", "collected"'),
            ("load", "pull", 'one of "auto", "archive", "delta", "registry"'),
        ],
    )
    def test_a_value_that_cannot_be_used_is_named(self, key: str, text: str, expected: str) -> None:
        settings, problems = read(None, **{key: text})

        flag = f"--kindinfra-{key.replace('_', '-')}"
        assert problems == (f"{flag}={text}: expected {expected}",)
        assert getattr(settings, key) == getattr(read()[0], key)
        assert settings.sources == {}

    def test_all_come_at_once_each_with_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KINDINFRA_TIMEOUT", "soon")

        _, problems = read({"progress": ["plain"], "kep": "always"}, build_jobs="0")

        assert problems == (
            'kindinfra.toml [options]: no such option "kep"; did you mean "keep"?',
            f"--kindinfra-build-jobs=0: expected {WHOLE}",
            f"environment KINDINFRA_TIMEOUT=soon: expected {SECONDS}",
            f'{SOURCE} [options] progress = the list ["plain"]: expected {LINES}',
        )

    def test_a_near_miss_of_a_choice_gets_a_hint(self) -> None:
        (problem,) = read({"keep": "on_failure"})[1]

        assert problem == (
            'kindinfra.toml [options] keep = "on_failure": expected one of "never", "always", '
            '"on-failure"; did you mean "on-failure"?'
        )

    def test_a_wrong_value_is_no_matter_where_a_nearer_one_is_given(self) -> None:
        assert read({"keep": "sometimes"}, keep="always")[1] == ()

    def test_a_key_like_no_other_gets_the_list(self) -> None:
        (problem,) = read({"zzz": 1})[1]

        known = ", ".join(option.key for option in OPTIONS)
        assert problem == f'kindinfra.toml [options]: no such option "zzz"; known: {known}'


class TestTheTable:
    def test_every_setting_is_an_option(self) -> None:
        settings = [one.name for one in fields(Settings) if one.name != "sources"]

        assert [option.key for option in OPTIONS] == settings

    @pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
    def test_help_is_one_phrase_that_names_every_choice_and_the_default(
        self, option: Option
    ) -> None:
        default = getattr(Settings(), option.key)

        assert option.help[0].isupper() or option.help.startswith(("kind's ", *option.choices))
        assert not option.help.endswith(".")
        assert [choice for choice in option.choices if choice not in option.help] == []
        if default not in {None, False}:
            assert re.search(r" \(default: [^()]+\)$", option.help)
        if option.choices:
            assert option.help.endswith(f" (default: {default})")

    @pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
    def test_pytest_knows_it_with_its_help(self, option: Option) -> None:
        parser = pytest.Parser(_ispytest=True)
        add_options(parser)

        (group,) = [one for one in parser._groups if one.name == "kindinfra"]  # noqa: SLF001
        added = {one.names()[0]: one.attrs() for one in group.options}
        attributes = added[option.flag]
        assert attributes["help"] == option.help
        assert attributes["dest"] == option.dest
        assert attributes["default"] is None
        assert (attributes.get("metavar") or "") == option.metavar

    def test_names_follow_from_the_key(self) -> None:
        option = find_option("build_jobs")

        assert option.flag == "--kindinfra-build-jobs"
        assert option.dest == "kindinfra_build_jobs"
        assert option.variable == "KINDINFRA_BUILD_JOBS"

    def test_choices_are_those_of_the_type(self) -> None:
        assert find_option("load").choices == get_args(Load)
        assert find_option("keep").choices == ("never", "always", "on-failure")
        assert find_option("tag").choices == ()

    @pytest.mark.parametrize(
        ("caller", "ignored"),
        [
            ("pytest", set()),
            ("command", {"capacity", "group", "pause", "plan"}),
            ("functions", {"capacity", "group", "pause", "plan", "reuse"}),
        ],
    )
    def test_commands_and_functions_ignore_what_is_of_pytest(
        self, caller: Caller, ignored: set[str]
    ) -> None:
        assert ignored_by(caller) == ignored
