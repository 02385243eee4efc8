"""The credentials that the `docker` command has for a registry, for clusters that pull from it.

`docker login` leaves them in config.json, or with a program `docker-credential-NAME` that is asked
by its protocol: the registry on standard input, a JSON object on standard output
(github.com/docker/docker-credential-helpers). Nothing of them is in an error.
"""

from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines.host import read_json
from pytest_kindinfra.errors import CommandError, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kindinfra.system.runner import Runner
    from pytest_kindinfra.system.timeline import Deadline


_DOCKER_HUB = "https://index.docker.io/v1/"
"""What Docker and the kubelet call the registry of `docker.io/NAME`."""


_HELPER_SECONDS = 30.0


_NOT_THERE = "credentials not found"
"""What a helper prints for a registry that it does not know, with exit code 1."""


_OF_A_TOKEN = "<token>"  # noqa: S105 - the user name that a helper gives for an identity token


_AROUND_HOST = re.compile(r"^https?://|/.*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user of a registry.

    Attributes:
        registry: The registry's name in a Docker config.
        user: The name.
        password: The password or access token.
    """

    registry: str
    user: str
    password: str = field(repr=False)

    @property
    def auth(self) -> str:
        """User and password as a Docker config has them."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def config(self) -> str:
        """The text of a Docker config with this user alone, as nodes of a cluster read it."""
        return json.dumps({"auths": {self.registry: {"auth": self.auth}}})


def find_login(
    address: str, *, runner: Runner, environ: Mapping[str, str], deadline: Deadline
) -> Login:
    """Return the user with whom `docker` pulls from a registry.

    Args:
        address: `HOST[:PORT][/PREFIX]`.
        runner: Starts the credential helper.
        environ: Says where the Docker config is.
        deadline: When to give up.

    Raises:
        EngineError: There are no credentials for this registry, or none that a cluster can use.
        CommandError: The credential helper failed.
        ToolMissingError: There is no such helper.
    """
    host = address.partition("/")[0]
    registry = _DOCKER_HUB if host == "docker.io" else host
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    file = folder / "config.json"
    config = read_json(file)
    helpers = _table(config, "credHelpers")
    helper = helpers.get(registry) or helpers.get(_host(registry)) or config.get("credsStore")
    if helper:
        found = _asked(str(helper), registry, runner, deadline)
        source = f"docker-credential-{helper}"
    else:
        found, source = _written(_table(config, "auths"), registry), str(file)
    if found.get("identitytoken") or found.get("registrytoken"):
        raise EngineError(_only_a_token(host, source))
    user, password = _pair(found)
    if not (user and password):
        raise EngineError(_nothing(host, source))
    return Login(registry=registry, user=user, password=password)


def _asked(helper: str, registry: str, runner: Runner, deadline: Deadline) -> Mapping[str, Any]:
    """Return what a credential helper answers; nothing if it does not know the registry."""
    argv = [f"docker-credential-{helper}", "get"]
    what = f'asking for the credentials of "{registry}"'
    try:
        printed = runner.run(
            argv, deadline=deadline.within(_HELPER_SECONDS), what=what, given=registry
        ).stdout
    except CommandError as error:
        if _NOT_THERE in error.output:
            return {}
        raise
    answer: Any = {}
    with suppress(ValueError):
        answer = json.loads(printed)
    if not isinstance(answer, dict):
        return {}
    if answer.get("Username") == _OF_A_TOKEN:
        return {"identitytoken": answer.get("Secret")}
    return {"username": answer.get("Username"), "password": answer.get("Secret")}


def _written(auths: Mapping[str, Any], registry: str) -> Mapping[str, Any]:
    """Return what the config itself has of a registry, which may be called by its URL there."""
    names = [registry, *(name for name in auths if _host(name) == _host(registry))]
    found = [auths.get(name) for name in names]
    return next((one for one in found if isinstance(one, dict) and one), {})


def _pair(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return user and password, empty where there are none."""
    pair = (str(found.get("username") or ""), str(found.get("password") or ""))
    with suppress(ValueError):  # also of base64 and UTF-8
        user, _, password = base64.b64decode(str(found.get("auth") or "")).decode().partition(":")
        pair = (user or pair[0], password.rstrip("\0") or pair[1])
    return pair


def _host(name: str) -> str:
    return _AROUND_HOST.sub("", name)


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def _nothing(host: str, source: str) -> str:
    return (
        f'{source} has no user and password for "{host}", so no pull secret can be made\n'
        f"To fix: docker login {host}; or remove pull_secret, if nodes pull without credentials"
    )


def _only_a_token(host: str, source: str) -> str:
    return (
        f'{source} has only an identity token for "{host}", which Kubernetes does not accept in a '
        "pull secret\n"
        f"To fix: docker login --username USER {host} with a password or access token; or remove "
        "pull_secret, and give the nodes or the service accounts credentials"
    )
