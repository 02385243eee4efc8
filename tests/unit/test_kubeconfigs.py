"""The user's kubeconfig, reduced to the context that a run uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.clusters.existing import current_context, only_current
from pytest_kindinfra.errors import ClusterError

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
