"""Credentials that are renewed: exec plugins and tokens in files."""

from __future__ import annotations

import base64
import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.kube import credentials
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.kube.credentials import CredentialError, renewed_user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_kubernetes import FakeKubernetes

V1 = "client.authentication.k8s.io/v1"
SECRET = "s3cr3t-t0k3n-0123456789"  # no real one
PLUGIN = """#!{python} -S
import os, sys, json
with open({calls!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("MODE"),
                           json.loads(os.environ["KUBERNETES_EXEC_INFO"])]) + "\\n")
{body}
"""
GIVES = """
print(json.dumps({{"apiVersion": {version!r}, "kind": "ExecCredential", "status": {status!r}}}))
"""


class Login:
    """A kubeconfig whose user is known by an exec plugin, and the plugin."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.server = server
        self.program = folder / "login"

    def plugin(self, body: str) -> None:
        """Have the plugin do that."""
        calls = str(self.folder / "calls")
        text = PLUGIN.format(python=sys.executable, calls=calls, body=body)
        fresh = self.program.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o700)
        fresh.replace(self.program)

    def gives(self, *, version: str = V1, **status: str) -> None:
        """Have the plugin print these credentials."""
        self.plugin(GIVES.format(version=version, status=status))

    def kubeconfig(self, cluster: dict[str, Any] | None = None, **more: Any) -> Path:
        called = {"apiVersion": V1, "command": str(self.program), **more}
        config = {
            "clusters": [{"name": "far", "cluster": {"server": self.server, **(cluster or {})}}],
            "users": [{"name": "me", "user": {"exec": called}}],
            "contexts": [{"name": "far", "context": {"cluster": "far", "user": "me"}}],
            "current-context": "far",
        }
        path = self.folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    @property
    def calls(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def failure(self, **more: Any) -> str:
        """Return what a request says that gets no credentials; it is not tried again."""
        with (
            closing(Kube(self.kubeconfig(**more))) as kube,
            pytest.raises(CredentialError) as error,
        ):
            kube.list_("/api/v1/nodes")
        return str(error.value)


@pytest.fixture
def login(fake: FakeKubernetes, tmp_path: Path) -> Login:
    return Login(tmp_path, fake.url)


@pytest.fixture
def tokens(fake: FakeKubernetes) -> Callable[[], list[str]]:
    """Return what the requests so far had as their token."""
    return lambda: [one.removeprefix("Bearer ") for one in fake.authorizations]


def test_a_plugin_gives_the_token_for_all_clients_of_a_process(
    login: Login, tokens: Callable[[], list[str]]
) -> None:
    login.gives(token=SECRET)
    file = login.kubeconfig(args=["get-token"], env=[{"name": "MODE", "value": "quiet"}])

    for _ in range(2):
        with closing(Kube(file)) as kube:
            kube.list_("/api/v1/nodes")

    assert tokens() == [SECRET, SECRET]
    info = {"apiVersion": V1, "kind": "ExecCredential", "spec": {"interactive": False}}
    assert login.calls == [[["get-token"], "quiet", info]]


def test_a_token_is_fetched_again_when_it_has_expired(
    login: Login, tokens: Callable[[], list[str]]
) -> None:
    login.gives(token="first-token", expirationTimestamp="2020-01-01T00:00:00Z")
    with closing(Kube(login.kubeconfig())) as kube:
        kube.list_("/api/v1/nodes")
        login.gives(token="second-token", expirationTimestamp="2999-01-01T00:00:00Z")
        kube.list_("/api/v1/nodes")
        kube.list_("/api/v1/nodes")

    assert tokens()[-2:] == ["second-token", "second-token"]


def test_a_plugin_that_wants_to_know_the_cluster_is_told_of_it(
    login: Login, tmp_path: Path
) -> None:
    login.gives(token=SECRET)
    (tmp_path / "ca.crt").write_text("CA")
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    cluster = {"certificate-authority": f"{tmp_path}/ca.crt", "extensions": [extension]}

    with closing(Kube(login.kubeconfig(cluster, provideClusterInfo=True))) as kube:
        kube.list_("/api/v1/nodes")

    assert login.calls[0][2]["spec"]["cluster"] == {
        "server": login.server,
        "certificate-authority-data": base64.b64encode(b"CA").decode(),
        "config": {"audience": "x"},
    }


def test_a_certificate_is_passed_on_with_its_key(login: Login) -> None:
    login.gives(clientCertificateData="CERT", clientKeyData="KEY")

    found = renewed_user(login.kubeconfig())

    assert found is not None
    assert found[1].entry() == {
        "client-certificate-data": base64.b64encode(b"CERT").decode(),
        "client-key-data": base64.b64encode(b"KEY").decode(),
    }


class TestFailures:
    def test_a_plugin_that_fails_is_shown_with_its_errors_but_no_token(self, login: Login) -> None:
        login.plugin(
            f"print(json.dumps({{'status': {{'token': {SECRET!r}}}}}))\n"
            f"sys.exit('session expired for {SECRET}')"
        )

        said = login.failure(args=["--client-secret", SECRET, "get"])

        assert said == (
            'the exec plugin of user "me" failed: exit code 1\n'
            f"  $ {login.program} --client-secret *** get\n"
            "    session expired for ***\n"
            "To fix: run the command by hand, or log in again"
        )
        assert len(login.calls) == 1

    def test_a_plugin_that_hangs_is_ended(
        self, login: Login, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(credentials, "PLUGIN_SECONDS", 0.2)
        login.plugin(f"print({SECRET!r}, flush=True); import time; time.sleep(600)")

        assert login.failure() == (
            f'the exec plugin of user "me" did not end within 0.2 s: {login.program}\n'
            "To fix: log in by hand first, as with kubectl get namespaces; it gets no terminal"
        )

    @pytest.mark.parametrize(
        ("hint", "fix"), [({}, "install no-such-login"), ({"installHint": "get it\n"}, "get it")]
    )
    def test_a_plugin_that_is_not_installed_is_named_with_its_hint(
        self, login: Login, hint: dict[str, str], fix: str
    ) -> None:
        assert login.failure(command="no-such-login", **hint) == (
            f'the exec plugin of user "me" is not on PATH: no-such-login\nTo fix: {fix}'
        )

    def test_a_plugin_that_needs_a_terminal_is_not_called(self, login: Login) -> None:
        assert login.failure(interactiveMode="Always") == (
            'the exec plugin of user "me" needs a terminal (interactiveMode: Always), and gets '
            f"none: {login.program}"
        )

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (f"print({SECRET!r})", "printed no ExecCredential with a status"),
            ("print('{}')", "printed no ExecCredential with a status"),
            (
                GIVES.format(version=V1, status={}),
                "gave neither a token nor a certificate with its key",
            ),
            (
                GIVES.format(version=f"{V1}beta1", status={"token": SECRET}),
                f"answered as {V1}beta1, but the kubeconfig says {V1}",
            ),
        ],
    )
    def test_an_answer_that_cannot_be_used_is_described_but_not_shown(
        self, login: Login, body: str, why: str
    ) -> None:
        login.plugin(body)

        said = login.failure()

        assert said == f'the exec plugin of user "me" ({login.program}) {why}'


class TestTokenFiles:
    @pytest.fixture
    def file(self, fake: FakeKubernetes, tmp_path: Path) -> Path:
        config = {
            "clusters": [{"name": "in-cluster", "cluster": {"server": fake.url}}],
            "users": [{"name": "in-cluster", "user": {"tokenFile": str(tmp_path / "token")}}],
            "contexts": [
                {"name": "in-cluster", "context": {"cluster": "in-cluster", "user": "in-cluster"}}
            ],
            "current-context": "in-cluster",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        return tmp_path / "kubeconfig"

    def test_a_token_that_was_rotated_is_read_again(
        self,
        file: Path,
        tmp_path: Path,
        tokens: Callable[[], list[str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(credentials, "_TOKEN_SECONDS", 0.0)  # else a minute
        token = tmp_path / "token"
        token.write_text("first-token\n")
        with closing(Kube(file)) as kube:
            kube.list_("/api/v1/nodes")
            token.write_text("second-token\n")
            kube.list_("/api/v1/nodes")
            token.unlink()  # for a moment, while the kubelet replaces it
            kube.list_("/api/v1/nodes")

        assert tokens() == ["first-token", "second-token", "second-token"]

    def test_it_is_not_read_for_each_request(
        self, file: Path, tmp_path: Path, tokens: Callable[[], list[str]]
    ) -> None:
        (tmp_path / "token").write_text("first-token\n")
        with closing(Kube(file)) as kube:
            kube.list_("/api/v1/nodes")
            (tmp_path / "token").write_text("second-token\n")
            kube.list_("/api/v1/nodes")

        assert tokens() == ["first-token", "first-token"]

    @pytest.mark.parametrize("content", [None, " \n"])
    def test_without_a_token_nothing_is_asked(
        self, fake: FakeKubernetes, file: Path, tmp_path: Path, content: str | None
    ) -> None:
        if content is not None:
            (tmp_path / "token").write_text(content)
        why = "No such file or directory" if content is None else "it is empty"

        with closing(Kube(file)) as kube, pytest.raises(CredentialError) as caught:
            kube.list_("/api/v1/nodes")

        assert str(caught.value) == (
            f"the token of a service account cannot be read from {tmp_path}/token: {why}"
        )
        assert fake.requests == []


def test_fixed_credentials_are_left_to_the_client(fake: FakeKubernetes, tmp_path: Path) -> None:
    assert renewed_user(fake.write_kubeconfig(tmp_path / "kubeconfig")) is None
    assert renewed_user(tmp_path / "missing") is None
