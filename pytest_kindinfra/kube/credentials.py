"""Credentials that do not stay the same: those of exec plugins, and tokens in files.

They are renewed as client-go does it: https://kubernetes.io/docs/reference/access-authn-authz/
authentication/#client-go-credential-plugins. The `kubernetes` package neither reads the file of a
token again nor ends a plugin that hangs, and goes on without credentials if a plugin fails.
"""

from __future__ import annotations

import base64
import json
import math
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import (
    CommandError,
    KindInfraError,
    ToolMissingError,
    indent,
    last_lines,
)
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.system.files import read_text
from pytest_kindinfra.system.runner import Runner
from pytest_kindinfra.system.secrets import Redactor, looks_secret
from pytest_kindinfra.system.timeline import Deadline, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class CredentialError(KindInfraError):
    """There are no credentials, so that no request makes sense."""


PLUGIN_SECONDS = 60.0
"""For one call of an exec plugin; client-go lets it take as long as it likes."""


_TOKEN_SECONDS = 60.0
"""After which the file of a token is read again, as client-go does."""


_EARLIER = 10.0
"""Seconds before its end at which a credential counts as expired: a request takes a moment."""


_SHOWN_LINES = 20


_TOKEN = re.compile(r'"(?:token|clientKeyData)"\s*:\s*"((?:[^"\\]|\\.)+)"')


@dataclass(frozen=True, slots=True)
class _Credential:
    """What proves who asks: a token, a certificate with its key, or both.

    Attributes:
        token: The bearer token.
        certificate: In PEM.
        key: In PEM.
        expires: When to get another one, in seconds since the epoch.
    """

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires: float = math.inf


class RenewedUser:
    """The user of a kubeconfig whose credentials change; safe from several threads.

    Args:
        fetch: Gets the credentials; raises CredentialError.
    """

    def __init__(self, fetch: Callable[[], _Credential]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._last: _Credential | None = None

    def entry(self) -> dict[str, str]:
        """Return the user as it is now, as an entry of a kubeconfig.

        Raises:
            CredentialError: There are no credentials.
        """
        found = self._now()
        entry = {"token": found.token} if found.token else {}
        if found.certificate:
            entry["client-certificate-data"] = _in_base64(found.certificate)
            entry["client-key-data"] = _in_base64(found.key)
        return entry

    def renew(self, configuration: Any) -> None:
        """Put the token of now into the client's configuration, which calls this each time.

        Raises:
            CredentialError: There are no credentials any more.
        """
        if token := self._now().token:
            for key in configuration.api_key:  # its name differs between releases of the client
                configuration.api_key[key] = f"Bearer {token}"

    def _now(self) -> _Credential:
        with self._lock:
            if self._last is None or self._last.expires - _EARLIER <= now():
                self._last = self._fetch()
            return self._last


def renewed_user(kubeconfig: Path) -> tuple[dict[str, Any], RenewedUser] | None:
    """Return what a kubeconfig of one context says, and its user if that has to be renewed.

    Args:
        kubeconfig: With one user at most.

    Returns:
        None if the user has fixed credentials, or the file cannot be read.
    """
    try:
        config = next(iter(load_documents(read_text(kubeconfig))), None)
    except (OSError, ValueError):
        return None
    users = config.get("users") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not users or not isinstance(users[0].get("user"), dict):
        return None
    name, user = str(users[0].get("name")), users[0]["user"]
    if isinstance(user.get("exec"), dict) and not user.get("token") and not user.get("tokenFile"):
        cluster = config["clusters"][0].get("cluster") or {}
        return config, _plugin(name, json.dumps(user["exec"]), json.dumps(cluster))
    if file := user.get("tokenFile"):
        return config, _token_file(str(file))
    return None


@cache
def _plugin(name: str, spec: str, cluster: str) -> RenewedUser:
    """Return the user of an exec plugin, one for each process: a call may take seconds."""
    called: dict[str, Any] = json.loads(spec)
    return RenewedUser(lambda: _call(name, called, json.loads(cluster)))


@cache
def _token_file(file: str) -> RenewedUser:
    """Return the user whose token a file has, one for each process."""
    last: list[str] = []

    def read() -> _Credential:
        try:
            token = read_text(Path(file)).strip()
        except (OSError, ValueError) as error:
            token, why = "", getattr(error, "strerror", None) or str(error)
        else:
            why = "it is empty"
        last[:] = [token] if token else last
        if not last:  # else the last one may still be good, while the file is being replaced
            msg = f"the token of a service account cannot be read from {file}: {why}"
            raise CredentialError(msg)
        return _Credential(token=last[0], expires=now() + _TOKEN_SECONDS)

    return RenewedUser(read)


def _call(name: str, spec: Mapping[str, Any], cluster: Mapping[str, Any]) -> _Credential:
    """Call an exec plugin.

    Args:
        name: The user's name.
        spec: The entry `exec` of the user.
        cluster: The entry of the cluster, for plugins that want to know it.

    Raises:
        CredentialError: It failed, or said nothing that can be used.
    """
    argv = [str(spec.get("command") or ""), *map(str, spec.get("args") or ())]
    env = {str(one["name"]): str(one["value"]) for one in spec.get("env") or ()}
    shown = " ".join(Redactor(_secrets_in(env)).words(argv))
    who = f'the exec plugin of user "{name}"'
    try:
        if spec.get("interactiveMode") == "Always":
            msg = f"{who} needs a terminal (interactiveMode: Always), and gets none: {shown}"
            raise CredentialError(msg)
        done = Runner().run(
            argv,
            deadline=Deadline.after(PLUGIN_SECONDS),
            env={**env, "KUBERNETES_EXEC_INFO": json.dumps(_asked(spec, cluster))},
            check=False,
        )
    except ToolMissingError as error:
        hint = str(spec.get("installHint") or "").strip() or f"install {argv[0]}"
        msg = f'the exec plugin of user "{name}" is not on PATH: {argv[0]}\nTo fix: {hint}'
        raise CredentialError(msg) from error
    except CommandError as error:  # without its output, which may have half a token
        msg = (
            f'the exec plugin of user "{name}" did not end within {PLUGIN_SECONDS:g} s: {shown}\n'
            "To fix: log in by hand first, as with kubectl get namespaces; it gets no terminal"
        )
        raise CredentialError(msg) from error
    if done.exit_code:
        redactor = Redactor([*_TOKEN.findall(done.stdout), *_secrets_in(env)])
        said = indent(last_lines(redactor.text(done.stderr), _SHOWN_LINES))
        said = f"\n{said}" if said else ""
        msg = (
            f'the exec plugin of user "{name}" failed: exit code {done.exit_code}\n'
            f"  $ {redactor.text(shown)}{said}\n"
            "To fix: run the command by hand, or log in again"
        )
        raise CredentialError(msg)
    return _credential(done.stdout, f"{who} ({shown})", str(spec.get("apiVersion")))


def _secrets_in(env: Mapping[str, str]) -> list[str]:
    return [value for name, value in env.items() if looks_secret(name)]


def _asked(spec: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a plugin gets in the variable KUBERNETES_EXEC_INFO."""
    asked: dict[str, Any] = {"interactive": False}
    if spec.get("provideClusterInfo"):
        asked["cluster"] = dict(_cluster_info(cluster))
    return {"apiVersion": spec.get("apiVersion"), "kind": "ExecCredential", "spec": asked}


def _cluster_info(cluster: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of `spec.cluster` of an ExecCredential."""
    named = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")
    yield from ((key, cluster[key]) for key in named if cluster.get(key))
    data = cluster.get("certificate-authority-data")
    if not data and (file := cluster.get("certificate-authority")):
        try:
            data = base64.b64encode(Path(str(file)).read_bytes()).decode()
        except OSError as error:
            msg = f"certificate-authority {file} cannot be read: {error.strerror}"
            raise CredentialError(msg) from error
    if data:
        yield "certificate-authority-data", data
    for one in cluster.get("extensions") or ():
        if one.get("name") == "client.authentication.k8s.io/exec":
            yield "config", one.get("extension")


def _credential(output: str, who: str, version: str) -> _Credential:
    """Return the credentials that a plugin printed, which no message may show.

    Raises:
        CredentialError: It printed something else.
    """
    try:
        answer = json.loads(output)
        status = answer["status"]
        said = answer.get("apiVersion")
        token, expiry = status.get("token"), status.get("expirationTimestamp")
        pair = status.get("clientCertificateData"), status.get("clientKeyData")
        expires = datetime.fromisoformat(expiry) if expiry else None
    except (ValueError, TypeError, KeyError, AttributeError):
        msg = f"{who} printed no ExecCredential with a status"
        raise CredentialError(msg) from None  # its text would show what was printed
    if said != version:
        msg = f"{who} answered as {said}, but the kubeconfig says {version}"
        raise CredentialError(msg)
    if not token and not all(pair):
        msg = f"{who} gave neither a token nor a certificate with its key"
        raise CredentialError(msg)
    return _Credential(
        token=str(token or ""),
        certificate=str(pair[0]) if all(pair) else "",
        key=str(pair[1]) if all(pair) else "",
        expires=_seconds(expires) if expires else math.inf,
    )


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
