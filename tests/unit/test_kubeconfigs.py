"""The user's kubeconfig, reduced to the context that a run uses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.clusters.existing import current_context, only_current
from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.plan.settings import read_settings

FOLDER = Path("/home/me/.kube")


def config(**more: Any) -> dict[str, Any]:
    return {
        "clusters": [
            {
                "name": "one",
                "cluster": {"server": "https://one", "certificate-authority": "ca.pem"},
            },
            {"name": "two", "cluster": {"server": "https://two"}},
        ],
        "users": [
            {
                "name": "me",
                "user": {
                    "client-key": "/keys/me",
                    "tokenFile": "token",
                    "exec": {"command": "./login", "args": ["-q"]},
                },
            },
            {"name": "other", "user": {"token": "secret"}},
        ],
        "contexts": [
            {"name": "first", "context": {"cluster": "one", "user": "me", "namespace": "mine"}},
            {"name": "second", "context": {"cluster": "two", "user": "other"}},
        ],
        "current-context": "first",
        **more,
    }


def test_only_the_current_context_stays_and_its_files_are_found_from_anywhere() -> None:
    assert only_current(config(), FOLDER) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "one",
                "cluster": {
                    "server": "https://one",
                    "certificate-authority": "/home/me/.kube/ca.pem",
                },
            }
        ],
        "users": [
            {
                "name": "me",
                "user": {
                    "client-key": "/keys/me",
                    "tokenFile": "/home/me/.kube/token",
                    "exec": {"command": "/home/me/.kube/login", "args": ["-q"]},
                },
            }
        ],
        "contexts": [
            {"name": "first", "context": {"cluster": "one", "user": "me", "namespace": "mine"}}
        ],
        "current-context": "first",
    }


def test_a_program_that_is_looked_for_on_path_stays_a_bare_name() -> None:
    users = [{"name": "me", "user": {"exec": {"command": "aws"}}}]

    assert only_current(config(users=users), FOLDER)["users"] == users


FIX = "To fix: kubectl config use-context NAME, or use another kubeconfig"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("text", "it is no kubeconfig: it has no contexts"),
        ({}, "it is no kubeconfig: it has no contexts"),
        (config(**{"current-context": ""}), f"it has no current-context\n{FIX}"),
        (config(**{"current-context": "third"}), f'it has no context "third"\n{FIX}'),
        (config(clusters=[]), f'it has no cluster "one"\n{FIX}'),
        (config(users=[]), f'it has no user "me"\n{FIX}'),
    ],
)
def test_what_is_missing_is_named(given: Any, says: str) -> None:
    with pytest.raises(ClusterError) as caught:
        only_current(given, FOLDER)

    assert str(caught.value) == says


def test_the_current_contexts_name_is_read() -> None:
    assert current_context(config()) == "first"


def test_another_context_than_the_current_one_can_be_asked_for() -> None:
    own = only_current(config(), FOLDER, "second")

    assert own["current-context"] == "second"
    assert own["clusters"] == [{"name": "two", "cluster": {"server": "https://two"}}]
    assert [one["name"] for one in own["users"]] == ["other"]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("secnd", 'it has no context "secnd"; did you mean "second"?'),
        ("prod", 'it has no context "prod"; it has: first, second'),
    ],
)
def test_a_context_that_is_not_in_the_file_is_named_with_those_that_are(
    wanted: str, says: str
) -> None:
    with pytest.raises(ClusterError) as caught:
        only_current(config(), FOLDER, wanted)

    assert str(caught.value) == says


class TestKubectlsFiles:
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, contexts in {"a": ["one"], "b": ["two", "three"]}.items():
            text = json.dumps({"contexts": [{"name": context} for context in contexts]})
            (tmp_path / name).write_text(text)
        (tmp_path / "broken").write_text("{")
        names = ("missing", "broken", "a", "b")
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(tmp_path / one) for one in names))

    def file_of(self, *arguments: str) -> tuple[Path | None, str | None]:
        given = dict(one.split("=") for one in arguments)
        settings, problems = read_settings(given.get, (), source=None)
        assert problems == ()
        return settings.kubeconfig, settings.sources.get("kubeconfig")

    def test_the_first_file_that_has_the_context_is_used(self, tmp_path: Path) -> None:
        assert self.file_of("kindinfra_context=two") == (tmp_path / "b", "--kindinfra-context")

    def test_the_first_file_is_told_of_if_none_has_it(self, tmp_path: Path) -> None:
        assert self.file_of("kindinfra_context=four")[0] == tmp_path / "missing"

    def test_a_given_kubeconfig_goes_first(self) -> None:
        given = self.file_of("kindinfra_context=two", "kindinfra_kubeconfig=mine")

        assert given == (Path("mine"), "--kindinfra-kubeconfig")

    def test_without_a_context_no_file_is_read(self) -> None:
        assert self.file_of() == (None, None)
