"""What is asked of `docker`, and what is made of its answers."""

from __future__ import annotations

import json
import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.errors import (
    CommandError,
    EngineError,
    KindInfraError,
    NothingHereError,
    ToolMissingError,
)
from pytest_kindinfra.protocols import BuildRequest, OwnImage
from pytest_kindinfra.system.runner import Completed
from tests.fakes import FakeRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.system.timeline import Deadline


def inspected(*images: dict[str, Any], exit_code: int = 0) -> Completed:
    """Return what `docker image inspect --format '{{json .}}'` prints."""
    lines = "\n".join(json.dumps(image) for image in images)
    return Completed(f"{lines}\n\n", "Error: No such image: x" if exit_code else "", exit_code)


REDIS: dict[str, Any] = {
    "Id": "sha256:1",
    "RepoTags": ["redis:latest", "redis:7"],
    "RepoDigests": ["redis@sha256:aa"],
}
API: dict[str, Any] = {"Id": "sha256:2", "RepoTags": ["localhost/api:1f"], "RepoDigests": None}
ORG: dict[str, Any] = {"Id": "sha256:3", "RepoTags": ["org/app:1"], "RepoDigests": []}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="k") as folder:
        yield Path(folder)


class TestCheck:
    def test_the_servers_version_comes_back(self, soon: Deadline) -> None:
        assert Docker(FakeRunner(lambda _: "29.0.1\n")).check(soon) == "29.0.1"

    def test_an_engine_that_does_not_answer_is_named_with_what_to_do(self, soon: Deadline) -> None:
        runner = FakeRunner(lambda _: Completed("", "Cannot connect to the Docker daemon\n", 1))

        with pytest.raises(EngineError) as caught:
            Docker(runner).check(soon)

        assert str(caught.value) == (
            "the Docker engine does not answer: a command failed: exit code 1\n"
            "  $ docker version --format '{{.Server.Version}}'\n"
            "    Cannot connect to the Docker daemon\n"
            "To fix: install Docker with buildx and start it (`docker version` must show a server)"
        )

    @pytest.mark.parametrize(
        "says",
        [
            "Cannot connect to the Docker daemon at unix://{}. Is the docker daemon running?",
            (
                "failed to connect to the docker API at unix://{}; check if the daemon is running: "
                "dial unix {}: connect: no such file or directory"
            ),
        ],
        ids=["28", "29"],
    )
    @pytest.mark.parametrize("left", [True, False], ids=["a socket nobody listens on", "no socket"])
    def test_without_a_daemon_there_is_no_engine_here(
        self, says: str, soon: Deadline, short: Path, *, left: bool
    ) -> None:
        path = short / "docker.sock"
        if left:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))

        with pytest.raises(NothingHereError):
            Docker(FakeRunner(lambda _: Completed("", says.format(path, path), 1))).check(soon)

    def test_a_daemon_that_is_there_and_does_not_answer_is_not_absent(
        self, soon: Deadline, short: Path
    ) -> None:
        """Else all tests would be skipped, and the run be green."""
        says = "Cannot connect to the Docker daemon at unix://{}. Is the docker daemon running?"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(short / "docker.sock"))
            server.listen()

            with pytest.raises(EngineError):
                Docker(
                    FakeRunner(lambda _: Completed("", says.format(short / "docker.sock"), 1))
                ).check(soon)

    @pytest.mark.parametrize(
        "says",
        [
            "Cannot connect to the Docker daemon at tcp://192.0.2.1:2375.",
            "setpriv: unrecognized option '--pdeathsig'",
            "The command 'docker' could not be found in this WSL 2 distro.",
            "error during connect: context deadline exceeded",
        ],
    )
    def test_a_call_that_failed_is_no_proof_that_there_is_no_engine(
        self, says: str, soon: Deadline
    ) -> None:
        with pytest.raises(EngineError):
            Docker(FakeRunner(lambda _: Completed("", says, 1))).check(soon)

    def test_a_socket_that_may_not_be_opened_is_no_proof_that_there_is_no_engine(
        self, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def deny(_self: socket.socket, _address: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(socket.socket, "connect", deny)  # root may open any
        says = (
            "permission denied while trying to connect to the Docker daemon socket at "
            "unix:///var/run/docker.sock: Get ...: connect: permission denied"
        )

        with pytest.raises(EngineError):
            Docker(FakeRunner(lambda _: Completed("", says, 1))).check(soon)

    def test_a_program_that_is_not_on_path_is_absent(self, soon: Deadline) -> None:
        def missing(_: object) -> str:
            msg = '"docker" is not on PATH'
            raise ToolMissingError(msg)

        with pytest.raises(NothingHereError, match='"docker" is not on PATH'):
            Docker(FakeRunner(missing)).check(soon)

    @pytest.mark.parametrize("version", ["4.9.4", "5.7.0-dev"])
    def test_podman_under_the_name_docker_is_told(self, version: str, soon: Deadline) -> None:
        with pytest.raises(EngineError) as caught:
            Docker(FakeRunner(lambda _: f"{version}\n")).check(soon)

        assert str(caught.value) == (
            f'"docker" on PATH is podman {version}, which needs other commands to build and load\n'
            "To fix: --kindinfra-engine=podman, or put Docker's own program on PATH"
        )

    @pytest.mark.parametrize("version", ["19.03.5", "20.10.24+dfsg1", "0.0.0-20250101", "dev"])
    def test_versions_of_docker_are_taken(self, version: str, soon: Deadline) -> None:
        assert Docker(FakeRunner(lambda _: f"{version}\n")).check(soon) == version


class TestImageIds:
    @pytest.mark.parametrize(
        ("reference", "image_id"),
        [
            ("redis", "sha256:1"),
            ("redis:7", "sha256:1"),
            ("docker.io/library/redis:7", "sha256:1"),
            ("redis@sha256:aa", "sha256:1"),
            ("redis:7@sha256:aa", "sha256:1"),
            ("redis:of-another-tag@sha256:aa", "sha256:1"),
            ("index.docker.io/library/redis:7@sha256:aa", "sha256:1"),
            ("localhost/api:1f", "sha256:2"),
            ("docker.io/org/app:1", "sha256:3"),
        ],
    )
    def test_an_image_is_found_however_its_name_is_written(
        self, reference: str, image_id: str, soon: Deadline
    ) -> None:
        engine = Docker(FakeRunner(lambda _: inspected(REDIS, API, ORG)))

        assert engine.image_ids([reference], soon) == {reference: image_id}

    def test_of_tag_and_digest_the_digest_is_asked_for(self, soon: Deadline) -> None:
        runner = FakeRunner(lambda _: inspected(REDIS))
        Docker(runner).image_ids(["docker.io/library/redis:7@sha256:aa"], soon)

        assert runner.argvs[0][-1] == "redis@sha256:aa"

    def test_what_is_not_there_is_left_out(self, soon: Deadline) -> None:
        engine = Docker(FakeRunner(lambda _: inspected(API, exit_code=1)))

        assert engine.image_ids(["gone:1", "localhost/api:1f"], soon) == {
            "localhost/api:1f": "sha256:2"
        }

    def test_all_are_asked_for_in_one_call_and_each_once(self, soon: Deadline) -> None:
        runner = FakeRunner(lambda _: inspected())
        Docker(runner).image_ids(["b", "a", "b"], soon)

        assert runner.argvs == [
            ("docker", "image", "inspect", "--format", "{{json .}}", "b", "a"),
        ]

    def test_nothing_is_asked_for_nothing(self, soon: Deadline) -> None:
        runner = FakeRunner()

        assert Docker(runner).image_ids([], soon) == {}
        assert runner.argvs == []


OWN = ("default", "docker")
CI = ("ci", "docker-container")
PYTHON: dict[str, Any] = {
    "Id": "sha256:4",
    "RepoTags": ["python:3.12"],
    "RepoDigests": ["python@sha256:bb"],
}
MINE: dict[str, Any] = {"Id": "sha256:5", "RepoTags": ["mine:1"], "RepoDigests": []}


def with_builders(
    builders: dict[str, tuple[str, str]], *images: dict[str, Any], context: str = "default"
) -> FakeRunner:
    """Return a runner with the builder in use under an empty name, and images of the engine."""

    def answer(argv: tuple[str, ...]) -> str | Completed:
        if argv[:3] == ("docker", "buildx", "inspect"):
            name = argv[3] if len(argv) > 3 else ""
            found = builders.get(name)
            text = "Name:   {}\nDriver: {}\n\nNodes:\nName:     node0\n"
            return text.format(*found) if found else Completed("", f'no builder "{name}" found', 1)
        if argv[1] == "context":
            return f"{context}\n"
        return inspected(*images) if argv[1] == "image" else ""

    return FakeRunner(answer)


def late(*argv: str) -> CommandError:
    """Return the error about a command that was ended at its deadline."""
    what = f'asking buildx for the builder "{argv[3]}"' if len(argv) > 3 else "asking buildx"
    return CommandError(argv, exit_code=None, output="", what=what, limit=" within 30 s")


class TestTheBuilder:
    """A builder of another driver than docker sees no image that only the engine has."""

    def build(self, runner: FakeRunner, deadline: Deadline, **changes: Any) -> tuple[str, ...]:
        return TestBuild().build(runner, deadline, **changes)[12:-1]

    def test_the_engines_own_in_use_needs_no_flag(self, soon: Deadline) -> None:
        runner = with_builders({"": OWN}, PYTHON)

        assert self.build(runner, soon, bases=("python:3.12",)) == ()

    def test_in_another_context_its_own_has_that_contexts_name(self, soon: Deadline) -> None:
        """`docker context use rootless`; `default` would be the builder of another context."""
        needs = {"base": "localhost/base:1"}
        flags = ("--build-context", "base=docker-image://localhost/base:1")
        own = with_builders({"": ("rootless", "docker")}, context="rootless")
        other = with_builders({"": CI}, context="rootless")

        assert self.build(own, soon, contexts=needs) == flags
        assert self.build(other, soon, contexts=needs) == (*flags, "--builder", "rootless")

    def test_an_image_with_needs_is_built_by_the_engines_own(self, soon: Deadline) -> None:
        """`docker buildx use`, BUILDX_BUILDER, docker/setup-buildx-action."""
        argv = self.build(with_builders({"": CI}), soon, contexts={"base": "localhost/base:1"})

        assert argv[-2:] == ("--builder", "default")

    @pytest.mark.parametrize("base", [MINE, PYTHON])
    def test_so_is_one_whose_base_the_engine_has(
        self, base: dict[str, Any], soon: Deadline
    ) -> None:
        """The tag counts the engine's `python:3.12`; a registry may have a newer one."""
        argv = self.build(with_builders({"": CI}, base), soon, bases=(base["RepoTags"][0],))

        assert argv == ("--builder", "default")

    def test_so_is_every_other_one(self, soon: Deadline) -> None:
        assert self.build(with_builders({"": CI}), soon) == ("--builder", "default")

    def test_one_that_the_options_name_is_taken(self, soon: Deadline) -> None:
        runner = with_builders({"": OWN, "ci": CI}, PYTHON)

        assert self.build(runner, soon, bases=("python:3.12",), options=("--builder", "ci")) == (
            *("--builder", "ci"),
            *("--build-context", "python:3.12=docker-image://python@sha256:bb"),
        )

    def test_one_with_a_cache_of_the_one_in_use_gets_the_engines_base_by_its_digest(
        self, soon: Deadline
    ) -> None:
        argv = self.build(
            with_builders({"": CI}, PYTHON),
            soon,
            bases=("python:3.12",),
            options=("--cache-to", "type=gha"),
        )

        assert argv == (
            *("--cache-to", "type=gha"),
            *("--build-context", "python:3.12=docker-image://python@sha256:bb"),
        )

    def test_the_builder_of_another_context_is_never_taken(self, soon: Deadline) -> None:
        """Its images would end in another engine."""
        assert self.build(with_builders({"": ("remote", "docker")}), soon) == (
            *("--builder", "default"),
        )

    @pytest.mark.parametrize("flag", [("--builder", "ci"), ("--builder=ci",)])
    def test_one_in_the_options_that_cannot_see_a_base_is_named(
        self, flag: tuple[str, ...], soon: Deadline
    ) -> None:
        runner = with_builders({"": OWN, "ci": CI}, MINE)

        with pytest.raises(KindInfraError) as caught:
            self.build(runner, soon, bases=("mine:1",), options=flag)

        assert str(caught.value) == (
            'image "api": the builder "ci" (docker-container) cannot see images that'
            ' only the engine has: "mine:1"\n'
            "To fix: remove --builder from build_options, or --kindinfra-builder, and the engine's"
            " own builder is used"
        )

    def test_one_that_buildx_does_not_know_is_the_builds_to_tell(self, soon: Deadline) -> None:
        assert self.build(with_builders({}), soon) == ()
        assert self.build(with_builders({}), soon, contexts={"base": "localhost/base:1"})[-2:] == (
            *("--builder", "default"),
        )

    def test_one_elsewhere_pulls_a_base_that_a_registry_has(self, soon: Deadline) -> None:
        argv = self.build(
            with_builders({"": OWN, "ci": CI}),
            soon,
            contexts={"base": "hub.example/base@sha256:bb"},
            options=("--builder", "ci"),
        )

        assert argv == (
            *("--build-context", "base=docker-image://hub.example/base@sha256:bb"),
            *("--builder", "ci"),
        )

    def test_only_the_engines_own_shares_its_images(self, soon: Deadline) -> None:
        engine = Docker(with_builders({"default": OWN, "ci": CI}))

        assert engine.shares_images("default", soon)
        assert not engine.shares_images("ci", soon)

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("farn", '; did you mean "farm"?'),
            ("other", '; known: "farm", "default"'),
        ],
    )
    def test_one_that_does_not_exist_is_named_with_those_that_do(
        self, name: str, hint: str, soon: Deadline
    ) -> None:
        listing = (
            "NAME/NODE     DRIVER/ENDPOINT    STATUS\n"
            "farm          remote\n \\_ farm0      \\_ tcp://farm:1234   running\n"
            "default*      docker\n  default     default            running\n"
        )
        runner = FakeRunner(
            lambda argv: listing if argv[2] == "ls" else Completed("", "no builder", 1)
        )

        with pytest.raises(KindInfraError) as caught:
            Docker(runner).shares_images(name, soon)

        assert str(caught.value) == f'`docker buildx inspect` knows no builder "{name}"{hint}'

    def test_one_that_is_not_described_in_time_is_not_called_unknown(self, soon: Deadline) -> None:
        answers: Iterator[CommandError | str] = iter(
            [late("docker", "buildx", "inspect", "farm"), "Name: farm\nDriver: remote\n"]
        )

        def answer(argv: tuple[str, ...]) -> str:
            found = next(answers) if argv[2] == "inspect" and argv[1] == "buildx" else "default"
            if isinstance(found, CommandError):
                raise found
            return found

        engine = Docker(FakeRunner(answer))
        with pytest.raises(CommandError) as caught:
            engine.shares_images("farm", soon)

        assert str(caught.value) == (
            'asking buildx for the builder "farm": stopped, since it did not end within 30 s\n'
            "  $ docker buildx inspect farm"
        )
        assert not engine.shares_images("farm", soon)  # it is asked again

    def test_a_build_does_not_wait_for_what_buildx_is_slow_to_say(self, soon: Deadline) -> None:
        def answer(argv: tuple[str, ...]) -> str:
            if argv[1:3] == ("buildx", "inspect"):
                raise late(*argv)
            return "default\n"

        runner = FakeRunner(answer)
        engine = Docker(runner)
        for _ in range(3):
            engine.build(REQUEST, deadline=soon, log=Path("/out/api.log"))

        assert runner.argvs.count(("docker", "buildx", "inspect")) == 1
        assert [argv[:3] for argv in runner.argvs].count(("docker", "buildx", "build")) == 3

    def test_each_is_asked_for_once(self, soon: Deadline) -> None:
        runner = with_builders({"": CI})
        engine = Docker(runner)
        for _ in range(3):
            engine.build(REQUEST, deadline=soon, log=Path("/out/api.log"))

        assert runner.argvs.count(("docker", "buildx", "inspect")) == 1


class TestAFailedBuild:
    OUTPUT = """\
#0 building with "default" instance using docker driver

#5 [2/3] RUN echo hello;   exit 3
#5 0.894 hello
#5 0.894 oops
#5 ERROR: process "/bin/sh -c echo hello" failed: exit code: 3
------
 > [2/3] RUN echo hello;   exit 3:
0.894 hello
0.894 oops
------
Dockerfile:2
--------------------
   1 |     FROM busybox
   2 | >>> RUN echo hello; \\
   3 | >>>   exit 3
   4 |     RUN true
--------------------
ERROR: failed to solve: process "/bin/sh -c echo hello" failed: exit code: 3
"""

    def failure(self, output: str, deadline: Deadline) -> str:
        runner = FakeRunner(lambda argv: Completed(output, "", 1) if "build" in argv else "")
        with pytest.raises(CommandError) as caught:
            TestBuild().build(
                runner, deadline, folder=Path("/src"), source=Path("/src/app/Dockerfile")
            )
        return "\n".join(str(caught.value).splitlines()[2:])

    def test_it_shows_the_instruction_and_what_that_printed(self, soon: Deadline) -> None:
        assert self.failure(self.OUTPUT, soon) == (
            "    app/Dockerfile:2: RUN echo hello; \\\n"
            "      exit 3\n"
            "      | hello\n"
            "      | oops\n"
            '    process "/bin/sh -c echo hello" failed: exit code: 3'
        )

    def test_a_base_that_cannot_be_pulled_comes_with_what_to_do(self, soon: Deadline) -> None:
        output = (
            "#2 [internal] load metadata for docker.io/library/nosuch:1\n"
            "#2 ERROR: failed to do request: no such host\n"
            "------\n > [internal] load metadata for docker.io/library/nosuch:1:\n------\n"
            "Dockerfile:1\n--------------------\n   1 | >>> FROM nosuch:1\n--------------------\n"
            "ERROR: failed to solve: nosuch:1: failed to resolve source metadata for"
            " docker.io/library/nosuch:1: no such host\n"
        )

        assert self.failure(output, soon).splitlines() == [
            "    app/Dockerfile:1: FROM nosuch:1",
            (
                "    nosuch:1: failed to resolve source metadata for docker.io/library/nosuch:1:"
                " no such host"
            ),
            (
                "    To fix: check that the engine can reach the registry (network, DNS, firewall);"
                " without a network, load the image beforehand: docker load -i FILE"
            ),
        ]

    def test_what_is_not_known_is_shown_as_it_is(self, soon: Deadline) -> None:
        assert self.failure("ERROR: no space left\n", soon) == "    ERROR: no space left"


REQUEST = BuildRequest(
    name="api",
    reference="localhost/api:1f",
    context=Path("/src"),
    dockerfile=Path("/out/api/Dockerfile"),
    target=None,
    build_args={},
    unshown=frozenset(),
    contexts={},
    options=(),
)


class TestBuild:
    def build(self, runner: FakeRunner, deadline: Deadline, **changes: Any) -> tuple[str, ...]:
        fields: dict[str, Any] = {
            "name": "api",
            "reference": "localhost/api:1f",
            "context": Path("/src"),
            "dockerfile": Path("/out/api/Dockerfile"),
            "target": None,
            "build_args": {},
            "unshown": frozenset(),
            "contexts": {},
            "options": (),
        }
        request = BuildRequest(**{**fields, **changes})
        Docker(runner).build(request, deadline=deadline, log=Path("/out/api.log"))
        return runner.argvs[-1]

    def test_buildkit_builds_and_leaves_the_image_in_the_engine(self, soon: Deadline) -> None:
        runner = FakeRunner()

        assert self.build(runner, soon) == (
            *("docker", "buildx", "build", "--load", "--provenance=false", "--sbom=false"),
            *("--tag", "localhost/api:1f", "--file", "/out/api/Dockerfile"),
            *("--label", "dev.kindinfra.image=api"),
            "/src",
        )
        call = runner.calls[-1]
        assert call.what == 'building image "api"'
        assert call.env == {"BUILDKIT_PROGRESS": "plain"}
        assert call.log == Path("/out/api.log")

    def test_it_runs_in_the_projects_folder(self, soon: Deadline) -> None:
        """Paths in build_options are relative to it, wherever pytest was started."""
        runner = FakeRunner()

        self.build(runner, soon, folder=Path("/src"))

        assert runner.calls[-1].cwd == Path("/src")

    def test_what_was_declared_becomes_flags_before_the_context(self, soon: Deadline) -> None:
        argv = self.build(
            with_builders({"": OWN}),
            soon,
            target="runtime",
            build_args={"B": "two words", "A": "1"},
            contexts={"base": "localhost/base:2e"},
            options=("--secret", "id=ca,src=ca.pem"),
        )

        assert argv[12:] == (
            *("--target", "runtime", "--build-arg", "A=1", "--build-arg", "B=two words"),
            *("--build-context", "base=docker-image://localhost/base:2e"),
            *("--secret", "id=ca,src=ca.pem", "/src"),
        )

    @pytest.mark.parametrize(
        "name", ["TOKEN", "GITHUB_TOKEN", "GOOGLE_API_KEY", "SSH_PRIVATE_KEY", "DOCKER_PASSWORD"]
    )
    def test_a_value_that_not_all_may_read_comes_by_the_environment(
        self, name: str, soon: Deadline
    ) -> None:
        runner = FakeRunner()
        argv = self.build(
            runner,
            soon,
            build_args={name: "tok-4f3a9c2e77", "VERSION": "1"},
            unshown=frozenset({name}),
        )

        assert argv[12:] == ("--build-arg", name, "--build-arg", "VERSION=1", "/src")
        assert runner.calls[-1].env == {"BUILDKIT_PROGRESS": "plain", name: "tok-4f3a9c2e77"}

    @pytest.mark.parametrize("name", ["PATH", "https_proxy", "DOCKER_HOST", "BUILDX_BUILDER"])
    def test_a_value_never_becomes_what_docker_reads_for_itself(
        self, name: str, soon: Deadline
    ) -> None:
        runner = FakeRunner()
        argv = self.build(runner, soon, build_args={name: "other"}, unshown=frozenset({name}))

        assert argv[12:] == ("--build-arg", f"{name}=other", "/src")
        assert runner.calls[-1].env == {"BUILDKIT_PROGRESS": "plain"}

    def test_what_docker_would_read_anyway_may_come_by_the_environment(
        self, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://me:pw@proxy")
        argv = self.build(
            FakeRunner(),
            soon,
            build_args={"HTTPS_PROXY": "http://me:pw@proxy"},
            unshown=frozenset({"HTTPS_PROXY"}),
        )

        assert argv[12:] == ("--build-arg", "HTTPS_PROXY", "/src")

    def test_a_failed_build_says_what_was_built(self, soon: Deadline) -> None:
        runner = FakeRunner(lambda _: Completed("ERROR: exit code 2\n", "", 1))

        with pytest.raises(CommandError, match=r'^building image "api": exit code 1\n'):
            self.build(runner, soon)


class TestOwnImages:
    ID = "sha256:" + "1f" * 32

    def test_images_with_our_label_come_with_all_names_and_their_newest_time(
        self, soon: Deadline
    ) -> None:
        image = {
            "Id": self.ID,
            "RepoTags": ["localhost/api:1f", "registry.example/api:prod"],
            "Created": "2026-11-20T10:00:00.123456789Z",
            "Metadata": {"LastTagTime": "2026-11-21T10:00:00Z"},
            "Config": {"Labels": {"dev.kindinfra.image": "api"}},
        }
        runner = FakeRunner(
            lambda argv: f"{self.ID}\n{self.ID}\n" if "ls" in argv else inspected(image)
        )

        (own,) = Docker(runner).own_images(soon)

        assert own == OwnImage(
            name="api",
            references=("localhost/api:1f", "registry.example/api:prod"),
            since=datetime(2026, 11, 21, 10, tzinfo=UTC).timestamp(),
        )
        assert runner.argvs == [
            (
                *("docker", "image", "ls", "--quiet", "--no-trunc"),
                *("--filter", "label=dev.kindinfra.image"),
            ),
            ("docker", "image", "inspect", "--format", "{{json .}}", self.ID),
        ]

    @pytest.mark.parametrize("metadata", [{}, {"LastTagTime": "0001-01-01T00:00:00Z"}])
    def test_one_that_was_never_named_anew_is_as_old_as_it_was_made(
        self, metadata: dict[str, str], soon: Deadline
    ) -> None:
        image = {
            "Id": self.ID,
            "RepoTags": None,
            "Created": "2026-11-20T10:00:00Z",
            "Metadata": metadata,
            "Config": {"Labels": {"dev.kindinfra.image": "api"}},
        }
        runner = FakeRunner(lambda argv: self.ID if "ls" in argv else inspected(image))

        assert Docker(runner).own_images(soon) == [
            OwnImage(
                name="api",
                references=(),
                since=datetime(2026, 11, 20, 10, tzinfo=UTC).timestamp(),
            )
        ]

    def test_without_any_nothing_more_is_asked(self, soon: Deadline) -> None:
        runner = FakeRunner()

        assert Docker(runner).own_images(soon) == []
        assert len(runner.argvs) == 1

    def test_a_name_is_taken_without_force(self, soon: Deadline) -> None:
        runner = FakeRunner()
        Docker(runner).remove("localhost/api:1f", soon)

        assert runner.argvs == [("docker", "image", "rm", "localhost/api:1f")]


class TestArchives:
    @pytest.mark.parametrize(
        ("reference", "saved"),
        [
            pytest.param("redis", "redis:latest", id="no tag"),
            pytest.param("docker.io/org/app", "org/app:latest", id="in full"),
            pytest.param("localhost/api:1f", "localhost/api:1f", id="local"),
            pytest.param("redis@sha256:aa", "redis@sha256:aa", id="a digest"),
        ],
    )
    def test_one_tag_of_an_image_is_saved(self, reference: str, saved: str) -> None:
        """`docker save redis` sends every tag of redis that the engine has."""
        assert Docker(FakeRunner()).save_command([reference]) == ("docker", "save", saved)

    def test_several_images_go_into_one_archive(self) -> None:
        command = Docker(FakeRunner()).save_command(["localhost/a:1", "localhost/b:1"])

        assert command == ("docker", "save", "localhost/a:1", "localhost/b:1")

    @pytest.mark.parametrize(
        ("printed", "name"),
        [
            ("Loaded image: org/api:dev\n", "org/api:dev"),
            ("Loaded image ID: sha256:1f\n", "sha256:1f"),
        ],
    )
    def test_the_image_of_an_archive_is_named(
        self, printed: str, name: str, soon: Deadline
    ) -> None:
        runner = FakeRunner(lambda _: printed)

        assert Docker(runner).load(Path("/a/api.tar"), soon) == name
        assert runner.argvs == [("docker", "load", "--quiet", "--input", "/a/api.tar")]

    def test_an_image_gets_another_name(self, soon: Deadline) -> None:
        runner = FakeRunner()

        Docker(runner).tag("localhost/api:1f", "localhost/api:ci-7", soon)

        assert runner.argvs == [("docker", "tag", "localhost/api:1f", "localhost/api:ci-7")]

    def test_one_that_is_known_by_tag_and_digest_gets_one_too(self, soon: Deadline) -> None:
        runner = FakeRunner()

        Docker(runner).tag("redis:7@sha256:aa", "localhost/x:1", soon)

        assert runner.argvs == [("docker", "tag", "redis@sha256:aa", "localhost/x:1")]

    def test_an_archive_of_one_image_is_written(self, soon: Deadline) -> None:
        runner = FakeRunner()

        Docker(runner).save("localhost/api:1f", Path("/out/api.tar"), soon)

        assert runner.argvs == [("docker", "save", "--output", "/out/api.tar", "localhost/api:1f")]

    @pytest.mark.parametrize(
        ("printed", "count"),
        [
            pytest.param("", 0, id="none"),
            pytest.param("Loaded image: a:1\nLoaded image: b:1\n", 2, id="two"),
        ],
    )
    def test_an_archive_of_another_number_of_images_is_named(
        self, printed: str, count: int, soon: Deadline
    ) -> None:
        with pytest.raises(KindInfraError) as caught:
            Docker(FakeRunner(lambda _: printed)).load(Path("/a/api.tar"), soon)

        assert str(caught.value) == (
            f'"/a/api.tar" holds {count} images\nTo fix: save one image in each archive'
        )
