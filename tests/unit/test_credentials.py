"""Which user of a registry the `docker` command has, and what is said where it has none."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.engines.credentials import find_login
from pytest_kindinfra.errors import CommandError, EngineError, ToolMissingError
from pytest_kindinfra.system.runner import Completed, Runner
from tests.fakes import FakeRunner

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.engines.credentials import Login
    from pytest_kindinfra.system.timeline import Deadline

HUB = "https://index.docker.io/v1/"
PASSWORD = "tok-4f3a9c2e77"


def auth(text: str = f"ann:{PASSWORD}") -> str:
    return base64.b64encode(text.encode()).decode()


class Machine:
    """A home folder with a Docker config, and credential helpers."""

    def __init__(self, home: Path, deadline: Deadline) -> None:
        self.home, self.deadline = home, deadline
        self.environ = {"HOME": str(home)}
        self.file = home / ".docker" / "config.json"
        self.runner = FakeRunner(lambda argv: Completed("", f"no {argv[0]} here", 1))

    def config(self, **tables: Any) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(tables))

    def helper(self, answer: str | Completed) -> None:
        self.runner = FakeRunner(lambda _: answer)

    def login(self, address: str = "hub.example:5000/team", runner: Runner | None = None) -> Login:
        return find_login(
            address,
            runner=runner or self.runner,
            environ=self.environ,
            deadline=self.deadline,
        )


@pytest.fixture
def machine(tmp_path: Path, soon: Deadline) -> Machine:
    return Machine(tmp_path, soon)


def answer(user: str = "ann", secret: str = PASSWORD) -> str:
    return json.dumps({"ServerURL": "hub.example:5000", "Username": user, "Secret": secret})


class TestTheFile:
    """What `docker login` wrote into config.json."""

    @pytest.mark.parametrize(
        "entry",
        [
            {"auth": auth()},
            {"auth": auth(f"ann:{PASSWORD}\0")},
            {"username": "ann", "password": PASSWORD},
            {"auth": "no base64", "username": "ann", "password": PASSWORD},
        ],
        ids=["auth", "auth with a zero at its end", "two fields", "broken auth"],
    )
    @pytest.mark.parametrize(
        "name", ["hub.example:5000", "https://hub.example:5000", "http://hub.example:5000/v2/"]
    )
    def test_has_a_user_under_the_registrys_name_or_url(
        self, machine: Machine, entry: dict[str, str], name: str
    ) -> None:
        machine.config(auths={"hub.example": {"auth": auth("bob:other")}, name: entry})

        found = machine.login()

        assert (found.user, found.password) == ("ann", PASSWORD)
        assert json.loads(found.config) == {"auths": {"hub.example:5000": {"auth": auth()}}}

    def test_has_docker_hub_under_a_name_of_its_own(self, machine: Machine) -> None:
        machine.config(auths={HUB: {"auth": auth()}})

        found = machine.login("docker.io/team")

        assert json.loads(found.config) == {"auths": {HUB: {"auth": auth()}}}

    def test_keeps_colons_of_a_password(self, machine: Machine) -> None:
        machine.config(auths={"hub.example:5000": {"auth": auth("ann:a:b:c")}})

        assert machine.login().password == "a:b:c"

    def test_is_where_docker_config_says(self, machine: Machine) -> None:
        machine.file = machine.home / "elsewhere" / "config.json"
        machine.environ["DOCKER_CONFIG"] = str(machine.file.parent)
        machine.config(auths={"hub.example:5000": {"auth": auth()}})

        assert machine.login().user == "ann"

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "{",
            "[]",
            '{"auths": []}',
            '{"auths": {"hub.example:5000": {}}}',
            '{"auths": {"hub.example:5000": {"auth": ""}}}',
            json.dumps({"auths": {"hub.example:5000": {"auth": auth("ann:")}}}),
            json.dumps({"auths": {"hub.example:5000": {"auth": "/w=="}}}),
            json.dumps({"auths": {"hub.example": {"auth": auth()}}}),
        ],
        ids=["none", "no JSON", "a list", "no table", "empty entry", "empty auth", "no password",
             "no UTF-8", "another port"],
    )  # fmt: skip
    def test_without_a_user_is_named_with_what_to_do(
        self, machine: Machine, text: str | None
    ) -> None:
        machine.config()
        if text is None:
            machine.file.unlink()
        else:
            machine.file.write_text(text)

        with pytest.raises(EngineError) as caught:
            machine.login()

        assert str(caught.value) == (
            f'{machine.file} has no user and password for "hub.example:5000", so no pull secret can'
            " be made\n"
            "To fix: docker login hub.example:5000; or remove pull_secret, if nodes pull without"
            " credentials"
        )

    def test_with_an_identity_token_alone_is_of_no_use_to_a_cluster(self, machine: Machine) -> None:
        entry = {"auth": auth("ann:"), "identitytoken": PASSWORD}
        machine.config(auths={"hub.example:5000": entry})

        with pytest.raises(EngineError) as caught:
            machine.login()

        assert str(caught.value) == (
            f'{machine.file} has only an identity token for "hub.example:5000", which Kubernetes'
            " does not accept in a pull secret\n"
            "To fix: docker login --username USER hub.example:5000 with a password or access token;"
            " or remove pull_secret, and give the nodes or the service accounts credentials"
        )


class TestTheVariable:
    """DOCKER_AUTH_CONFIG, which CI services set."""

    def test_comes_before_the_file(self, machine: Machine) -> None:
        machine.config(auths={"hub.example:5000": {"auth": auth("bob:other")}})
        machine.environ["DOCKER_AUTH_CONFIG"] = json.dumps(
            {"auths": {"hub.example:5000": {"auth": auth()}}}
        )

        assert machine.login().user == "ann"

    @pytest.mark.parametrize(
        "text", ["", "{", "[1]", '{"auths": {"other.example": {"auth": "YTpi"}}}']
    )
    def test_leaves_other_registries_to_the_file(self, machine: Machine, text: str) -> None:
        machine.config(auths={"hub.example:5000": {"auth": auth()}})
        machine.environ["DOCKER_AUTH_CONFIG"] = text

        assert machine.login().user == "ann"


class TestAHelper:
    """A program `docker-credential-NAME`, which has the credentials in a store of its own."""

    @pytest.mark.parametrize(
        ("tables", "name"),
        [
            ({"credsStore": "pass"}, "pass"),
            ({"credHelpers": {"hub.example:5000": "ecr"}, "credsStore": "pass"}, "ecr"),
            ({"credHelpers": {"other.example": "ecr"}, "credsStore": "pass"}, "pass"),
        ],
        ids=["for all registries", "for this one", "for another one"],
    )
    def test_is_asked_for_the_registry_alone(
        self, machine: Machine, tables: dict[str, Any], name: str
    ) -> None:
        machine.config(auths={"hub.example:5000": {"auth": auth("bob:other")}}, **tables)
        machine.helper(answer())

        found = machine.login()

        assert (found.user, found.password) == ("ann", PASSWORD)
        (call,) = machine.runner.calls
        assert call.argv == (f"docker-credential-{name}", "get")
        assert call.given == "hub.example:5000"

    def test_is_asked_for_docker_hub_by_its_own_name(self, machine: Machine) -> None:
        machine.config(credsStore="pass")
        machine.helper(answer())

        assert machine.login("docker.io/team").registry == HUB
        assert machine.runner.calls[0].given == HUB

    @pytest.mark.parametrize(
        "answered",
        [
            Completed("credentials not found in native keychain\n", "", 1),
            "",
            "[]",
            "no JSON",
            answer(user=""),
            answer(secret=""),
        ],
        ids=["not found", "nothing", "a list", "no JSON", "no user", "no password"],
    )
    def test_that_knows_no_user_is_named_with_what_to_do(
        self, machine: Machine, answered: str | Completed
    ) -> None:
        machine.config(credsStore="pass", auths={"hub.example:5000": {"auth": auth()}})
        machine.helper(answered)

        with pytest.raises(EngineError) as caught:
            machine.login()

        assert str(caught.value) == (
            'docker-credential-pass has no user and password for "hub.example:5000", so no pull'
            " secret can be made\n"
            "To fix: docker login hub.example:5000; or remove pull_secret, if nodes pull without"
            " credentials"
        )

    def test_with_an_identity_token_is_of_no_use_to_a_cluster(self, machine: Machine) -> None:
        machine.config(credsStore="pass")
        machine.helper(answer(user="<token>"))

        with pytest.raises(EngineError, match=r"^docker-credential-pass has only an identity") as e:
            machine.login()

        assert PASSWORD not in str(e.value)

    def test_that_fails_is_named_with_its_exit_code_and_what_it_said(
        self, machine: Machine
    ) -> None:
        machine.config(credsStore="pass")
        machine.helper(Completed("exit status 2: gpg: decryption failed\n", "", 3))

        with pytest.raises(CommandError) as caught:
            machine.login()

        assert str(caught.value) == (
            'asking for the credentials of "hub.example:5000": exit code 3\n'
            "  $ docker-credential-pass get\n"
            "    exit status 2: gpg: decryption failed\n"
            "To fix: `echo hub.example:5000 | docker-credential-pass get` must print the"
            " credentials; or docker login hub.example:5000"
        )

    @pytest.mark.parametrize("said", [answer(), answer()[:-6], f"+ echo '{answer()}'"])
    def test_that_fails_after_its_answer_shows_nothing_of_it(
        self, machine: Machine, said: str
    ) -> None:
        machine.config(credsStore="pass")
        machine.helper(Completed(said, "", 1))

        with pytest.raises(CommandError) as caught:
            machine.login()

        assert str(caught.value).splitlines()[:2] == [
            'asking for the credentials of "hub.example:5000": exit code 1',
            "  $ docker-credential-pass get",
        ]
        assert PASSWORD[:6] not in str(caught.value)
        assert PASSWORD[:6] not in caught.value.output

    def test_that_is_not_installed_is_named(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        machine.config(credsStore="pass")
        monkeypatch.setenv("PATH", str(machine.home))

        with pytest.raises(ToolMissingError, match=r'^"docker-credential-pass" is not on PATH'):
            machine.login(runner=Runner())

    def test_reads_the_registry_from_its_standard_input(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = machine.home / "docker-credential-real"
        program.write_text(
            '#!/bin/sh\nread registry\n[ "$1 $registry" = "get hub.example:5000" ] || exit 5\n'
            f"echo '{answer()}'\n"
        )
        program.chmod(0o755)
        machine.config(credsStore="real")
        monkeypatch.setenv("PATH", str(machine.home), prepend=":")

        assert machine.login(runner=Runner()).user == "ann"


def test_a_login_does_not_show_its_password(machine: Machine) -> None:
    machine.config(auths={"hub.example:5000": {"auth": auth()}})

    shown = repr(machine.login())

    assert PASSWORD not in shown
    assert auth() not in shown
