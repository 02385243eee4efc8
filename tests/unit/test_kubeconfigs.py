"""The user's kubeconfig, reduced to the context that a run uses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.clusters.kubeconfigs import all_files, merged, only_context, read_context
from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.plan.options import SERVICE_ACCOUNT
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


def own(given: Any, wanted: str | None = None) -> dict[str, Any]:
    return only_context(merged({FOLDER / "config": given}), wanted)


def test_only_the_current_context_stays_and_its_files_are_found_from_anywhere() -> None:
    assert own(config()) == {
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

    assert own(config(users=users))["users"] == users


FIX = "To fix: kubectl config use-context NAME, or use another kubeconfig"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("text", "it is no kubeconfig: it has no contexts"),
        ({}, "it is no kubeconfig: it has no contexts"),
        (
            config(**{"current-context": ""}),
            f"it has no current-context; its contexts: first, second\n{FIX}",
        ),
        (config(contexts=[{"name": "first"}]), f'it has no cluster "None"\n{FIX}'),
        (config(**{"current-context": "third"}), f'it has no context "third"\n{FIX}'),
        (config(clusters=[]), f'it has no cluster "one"\n{FIX}'),
        (config(users=[]), f'it has no user "me"\n{FIX}'),
    ],
)
def test_what_is_missing_is_named(given: Any, says: str) -> None:
    with pytest.raises(ClusterError) as caught:
        own(given)

    assert str(caught.value) == says


def test_another_context_than_the_current_one_can_be_asked_for() -> None:
    found = own(config(), "second")

    assert found["current-context"] == "second"
    assert found["clusters"] == [{"name": "two", "cluster": {"server": "https://two"}}]
    assert [one["name"] for one in found["users"]] == ["other"]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("secnd", 'it has no context "secnd"; did you mean "second"? (it has: first, second)'),
        ("prod", 'it has no context "prod"; it has: first, second'),
    ],
)
def test_a_context_that_is_not_in_the_file_is_named_with_those_that_are(
    wanted: str, says: str
) -> None:
    with pytest.raises(ClusterError) as caught:
        own(config(), wanted)

    assert str(caught.value) == says


def written(path: Path, **config: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return path


def context(name: str, *, user: str) -> dict[str, Any]:
    return {"name": name, "context": {"cluster": "one", "user": user}}


def several(*files: Path) -> Path:
    return Path(os.pathsep.join(map(str, files)))


class TestSeveralFiles:
    """As in KUBECONFIG; expected values are those of `kubectl config view --flatten=false`."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        first = written(
            tmp_path / "a" / "config",
            contexts=[context("dev", user="me")],
            users=[{"name": "me", "user": {"client-certificate": "me.crt"}}],
        )
        second = written(
            tmp_path / "b" / "config",
            clusters=[
                {"name": "one", "cluster": {"server": "https://b", "certificate-authority": "ca"}}
            ],
            contexts=[context("dev", user="other"), context("prod", user="me")],
            users=[{"name": "me", "user": {"token": "t", "tokenFile": "x"}}],
            **{"current-context": "prod"},
        )
        third = written(tmp_path / "c" / "config", **{"current-context": "dev"})
        return several(tmp_path / "missing", first, second, third)

    def test_the_first_that_has_a_name_wins_and_paths_start_at_their_own_file(
        self, files: Path, tmp_path: Path
    ) -> None:
        found = read_context(files)

        assert found["current-context"] == "prod"
        assert found["contexts"] == [context("prod", user="me")]
        assert found["users"] == [
            {"name": "me", "user": {"client-certificate": f"{tmp_path}/a/me.crt"}}
        ]
        assert found["clusters"] == [
            {
                "name": "one",
                "cluster": {
                    "server": "https://b",
                    "certificate-authority": f"{tmp_path}/b/ca",
                },
            }
        ]

    def test_a_context_is_looked_for_in_all_of_them(self, files: Path) -> None:
        assert read_context(files, "dev")["contexts"] == [context("dev", user="me")]

        with pytest.raises(ClusterError) as caught:
            read_context(files, "prd")

        assert str(caught.value) == (
            'it has no context "prd"; did you mean "prod"? (it has: dev, prod)'
        )

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("a: [", "it cannot be read: line 2: "),
            ("[]", "it is no kubeconfig: it has no contexts"),
            ("contexts: none", "it is no kubeconfig: it has no contexts"),
        ],
    )
    def test_one_that_is_no_kubeconfig_is_named(
        self, files: Path, tmp_path: Path, text: str, why: str
    ) -> None:
        (tmp_path / "broken").write_text(text)

        with pytest.raises(ClusterError) as caught:
            read_context(several(files, tmp_path / "broken"))

        assert str(caught.value).startswith(f"{tmp_path / 'broken'}: {why}")

    def test_none_that_exists_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ClusterError) as caught:
            read_context(several(tmp_path / "a", tmp_path / "b"))

        assert str(caught.value) == "none of these files exists"

    def test_relative_paths_start_at_the_rootdir_and_a_tilde_at_home(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", "/home/me")

        found = all_files(Path("one:~/two:/three"), tmp_path)

        assert found == Path(f"{tmp_path}/one:/home/me/two:/three")

    def test_a_file_with_a_colon_in_its_name_is_one_file(self, tmp_path: Path) -> None:
        written(tmp_path / "a:b", contexts=[context("dev", user="me")])

        assert all_files(Path("a:b"), tmp_path) == tmp_path / "a:b"


class TestOptions:
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBECONFIG", "/a::/b")

    def file_of(self, *arguments: str) -> tuple[Path | None, str | None]:
        given = dict(one.split("=") for one in arguments)
        settings, problems = read_settings(given.get, (), source=None)
        assert problems == ()
        return settings.kubeconfig, settings.sources.get("kubeconfig")

    def test_a_context_alone_is_looked_for_in_the_files_of_kubectl(self) -> None:
        assert self.file_of("kindinfra_context=two") == (Path("/a:/b"), "--kindinfra-context")

    def test_without_kubeconfig_that_is_the_file_in_the_home_folder(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("KUBECONFIG")
        monkeypatch.setenv("HOME", "/home/me")

        assert self.file_of("kindinfra_context=two")[0] == FOLDER / "config"

    def test_a_given_kubeconfig_goes_first(self) -> None:
        given = self.file_of("kindinfra_context=two", "kindinfra_kubeconfig=mine")

        assert given == (Path("mine"), "--kindinfra-kubeconfig")

    def test_the_pods_own_credentials_have_a_name_of_their_own(self) -> None:
        assert self.file_of("kindinfra_context=in-cluster")[0] == SERVICE_ACCOUNT

    def test_without_a_context_there_is_no_existing_cluster(self) -> None:
        assert self.file_of() == (None, None)


FIX_OF_POD = (
    "To fix: run in a pod with a service account (automountServiceAccountToken), or name a "
    "kubeconfig that has this context by --kindinfra-kubeconfig"
)


class TestInPod:
    @pytest.fixture
    def account(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Return a folder as the kubelet mounts it."""
        for name, text in {"token": "t", "ca.crt": "c", "namespace": "team\n"}.items():
            (tmp_path / name).write_text(text)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        return tmp_path

    def test_token_and_certificate_stay_where_the_kubelet_renews_them(self, account: Path) -> None:
        assert read_context(account, "in-cluster") == {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "in-cluster",
                    "cluster": {
                        "server": "https://10.0.0.1:443",
                        "certificate-authority": f"{account}/ca.crt",
                    },
                }
            ],
            "users": [{"name": "in-cluster", "user": {"tokenFile": f"{account}/token"}}],
            "contexts": [
                {
                    "name": "in-cluster",
                    "context": {
                        "cluster": "in-cluster",
                        "user": "in-cluster",
                        "namespace": "team",
                    },
                }
            ],
            "current-context": "in-cluster",
        }

    def test_an_ipv6_address_gets_brackets(
        self, account: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")

        (cluster,) = read_context(account)["clusters"]

        assert cluster["cluster"]["server"] == "https://[fd00::1]:443"

    def test_outside_of_a_pod_it_says_what_is_missing(
        self, account: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nowhere = account / "nowhere"
        (account / "token").unlink()
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        said = []
        for folder in (nowhere, account):
            with pytest.raises(ClusterError) as caught:
                read_context(folder, "in-cluster")
            said.append(str(caught.value))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
        with pytest.raises(ClusterError) as caught:
            read_context(account, "in-cluster")
        said.append(str(caught.value))

        head = "there are no credentials of a pod:"
        assert said == [
            f"{head} {nowhere} does not exist\n{FIX_OF_POD}",
            f"{head} {account} has no token\n{FIX_OF_POD}",
            f"{head} KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set\n{FIX_OF_POD}",
        ]
