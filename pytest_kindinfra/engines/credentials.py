"""The credentials that the `docker` command has for a registry, for clusters that pull from it.

`docker login` leaves them in config.json, or with a program `docker-credential-NAME` that is asked
by its protocol: the registry on standard input, a JSON object on standard output
(github.com/docker/docker-credential-helpers). CI services set DOCKER_AUTH_CONFIG, which comes
first, as in the `docker` command. No error shows a password or a token.
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


_VARIABLE = "DOCKER_AUTH_CONFIG"


_HELPER_SECONDS = 30.0


_NOT_THERE = "credentials not found"
"""What a helper prints for a registry that it does not know, with exit code 1."""


_ANSWERS = '"Secret"'
"""In what a helper prints there is a password: its key."""


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
        environ: Has DOCKER_AUTH_CONFIG, or says where the Docker config is.
        deadline: When to give up.

    Raises:
        EngineError: There are no credentials for this registry, or none that a cluster can use.
        CommandError: The credential helper failed.
        ToolMissingError: There is no such helper.
    """
    host = address.partition("/")[0]
    registry = _DOCKER_HUB if host == "docker.io" else host
    source, found = _VARIABLE, _written(_parsed(environ.get(_VARIABLE, "")), registry)
    if not found:
        source, found = _of_config(registry, runner, environ, deadline)
    if found.get("identitytoken") or found.get("registrytoken"):
        raise EngineError(_only_a_token(host, source))
    user, password = _pair(found)
    if not (user and password):
        raise EngineError(_nothing(host, source))
    return Login(registry=registry, user=user, password=password)


def _of_config(
    registry: str, runner: Runner, environ: Mapping[str, str], deadline: Deadline
) -> tuple[str, Mapping[str, Any]]:
    """Return where config.json has its credentials for a registry, and these; maybe none."""
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    file = folder / "config.json"
    config = read_json(file)
    helpers = _table(config, "credHelpers")
    # As in the `docker` command, the file's own credentials do not count if there is a helper.
    if helper := helpers.get(registry) or helpers.get(_host(registry)) or config.get("credsStore"):
        return f"docker-credential-{helper}", _asked(str(helper), registry, runner, deadline)
    return str(file), _written(config, registry)


def _asked(helper: str, registry: str, runner: Runner, deadline: Deadline) -> Mapping[str, Any]:
    """Return what a credential helper answers; nothing if it does not know the registry."""
    argv, limit = [f"docker-credential-{helper}", "get"], deadline.within(_HELPER_SECONDS)
    what = f'asking for the credentials of "{_host(registry)}"'
    try:
        done = runner.run(argv, deadline=limit, what=what, given=registry)
    except CommandError as error:
        if _NOT_THERE in error.output:
            return {}
        raise _without_answer(error, registry) from None
    answer = _parsed(done.stdout)
    if answer.get("Username") == _OF_A_TOKEN:
        return {"identitytoken": answer.get("Secret")}
    return {"username": answer.get("Username"), "password": answer.get("Secret")}


def _without_answer(error: CommandError, registry: str) -> CommandError:
    """Return the failure of a helper with what it said, unless that may be an answer."""
    said = "" if _ANSWERS in error.output else error.output
    return error.about(said).with_remedy(
        f"`echo {registry} | {' '.join(error.argv)}` must print the credentials; or docker login"
        f" {_host(registry)}"
    )


def _written(config: Mapping[str, Any], registry: str) -> Mapping[str, Any]:
    """Return what a config itself has of a registry, which may be called by its URL there."""
    auths = _table(config, "auths")
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


def _parsed(text: str) -> Mapping[str, Any]:
    """Return the object in a text of JSON; an empty one if there is none."""
    with suppress(ValueError):
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return {}


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
