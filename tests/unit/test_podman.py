"""What is asked of `podman`, and what is made of its answers: those are of podman 4.3.1."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.engines.podman import Podman
from pytest_kindinfra.errors import CommandError, EngineError, KindInfraError
from pytest_kindinfra.protocols.engine import BuildRequest, OwnImage
from pytest_kindinfra.system.runner import Completed
from tests.fakes import Argv, FakeRunner

if TYPE_CHECKING:
    from pytest_kindinfra.system.timeline import Deadline

BUSYBOX = "18157544dd13af0dac676274d589d3a4afa64dacfda58ad8cd51cdb83e6d4e9c"
API = "d01548dc06f51c67e31a99eac55aeb37aeb3bce48156b8747c3adcf81d7bdb3e"
DIGEST = "sha256:47cc9f5a4e62961a47624164ad0165b231370b12e9c926813ece0eafcc632521"
INSPECTED: list[dict[str, Any]] = [
    {
        "Id": BUSYBOX,
        "RepoTags": ["docker.io/library/busybox:latest"],
        "RepoDigests": [f"docker.io/library/busybox@{DIGEST}"],
        "Created": "2026-11-26T02:24:33.092655046Z",
        "Config": {"Labels": {"kindinfra.stand-in": "c603a8acc834"}},
    },
    {
        "Id": API,
        "RepoTags": ["localhost/api:1f", "localhost/api:ci-7"],
        "RepoDigests": [],
        "Created": "2026-11-26T02:55:52.157297027Z",
        "Config": {"Labels": {"dev.kindinfra.image": "api", "io.buildah.version": "1.28.2"}},
    },
]


def array(*images: dict[str, Any]) -> str:
    """Return what `podman image inspect` prints: one array, over many lines."""
    return json.dumps(images, indent=5) + "\n"


class TestCheck:
    @pytest.mark.parametrize("version", ["4.3.1", "4.2.0", "5.7.0-dev", "10.0"])
    def test_the_version_comes_back(self, version: str, soon: Deadline) -> None:
        assert Podman(FakeRunner(lambda _: f"{version}\n")).check(soon) == version

    def test_one_without_named_build_contexts_is_too_old(self, soon: Deadline) -> None:
        with pytest.raises(EngineError) as caught:
            Podman(FakeRunner(lambda _: "3.4.4\n")).check(soon)

        assert str(caught.value) == (
            "podman 3.4.4 does not know named build contexts\n"
            "To fix: install podman 4.2 or newer (`podman version` must show one)"
        )

    def test_one_that_does_not_answer_is_named_with_what_to_do(self, soon: Deadline) -> None:
        says = "Cannot connect to Podman. Please verify your connection to the Linux system\n"

        with pytest.raises(EngineError) as caught:
            Podman(FakeRunner(lambda _: Completed("", says, 125))).check(soon)

        assert str(caught.value) == (
            "podman does not answer: a command failed: exit code 125\n"
            "  $ podman version --format '{{.Server.Version}}'\n"
            "    Cannot connect to Podman. Please verify your connection to the Linux system\n"
            "To fix: install podman 4.2 or newer (`podman version` must show one)"
        )


def test_a_registry_without_tls_is_pushed_to(soon: Deadline) -> None:
    runner = FakeRunner(lambda _: "done")

    assert Podman(runner).push("localhost:5001/x:1", soon) == "done"
    assert runner.argvs == [("podman", "push", "--tls-verify=false", "localhost:5001/x:1")]


class TestImageIds:
    @pytest.mark.parametrize(
        ("reference", "image_id"),
        [
            ("busybox", BUSYBOX),
            ("docker.io/library/busybox:latest", BUSYBOX),
            (f"busybox@{DIGEST}", BUSYBOX),
            (f"docker.io/library/busybox:1.36@{DIGEST}", BUSYBOX),
            ("localhost/api:1f", API),
        ],
    )
    def test_ids_are_written_as_dockers_so_that_tags_are_the_same(
        self, reference: str, image_id: str, soon: Deadline
    ) -> None:
        engine = Podman(FakeRunner(lambda _: array(*INSPECTED)))

        assert engine.image_ids([reference], soon) == {reference: f"sha256:{image_id}"}

    def test_what_is_not_there_is_left_out(self, soon: Deadline) -> None:
        says = "Error: inspecting object: nope:1: image not known\n"
        engine = Podman(FakeRunner(lambda _: Completed(array(INSPECTED[0]), says, 125)))

        assert engine.image_ids(["nope:1", "busybox"], soon) == {"busybox": f"sha256:{BUSYBOX}"}

    def test_full_names_are_asked_for_since_localhost_would_go_first(self, soon: Deadline) -> None:
        runner = FakeRunner(lambda _: "[]\n")
        Podman(runner).image_ids(["redis:7", "docker.io/library/redis:7", "localhost/a:1"], soon)

        assert runner.argvs == [
            ("podman", "image", "inspect", "docker.io/library/redis:7", "localhost/a:1")
        ]

    def test_nothing_is_asked_for_nothing(self, soon: Deadline) -> None:
        runner = FakeRunner()

        assert Podman(runner).image_ids([], soon) == {}
        assert runner.argvs == []


class TestAFailedBuild:
    def test_it_shows_the_instruction_and_what_that_printed(self, soon: Deadline) -> None:
        output = (
            "STEP 1/3: FROM busybox\nSTEP 2/3: RUN echo hello; exit 3\nhello\n"
            'Error: building at STEP "RUN echo hello; exit 3": exit status 3\n'
        )
        runner = FakeRunner(lambda _: Completed(output, "", 1))

        with pytest.raises(CommandError) as caught:
            TestBuild().build(runner, soon, folder=Path("/src"), source=Path("/src/app/Dockerfile"))

        assert str(caught.value).splitlines()[2:] == [
            "    app/Dockerfile: RUN echo hello; exit 3",
            "      | hello",
            '    building at STEP "RUN echo hello; exit 3": exit status 3',
        ]


class TestBuild:
    def build(self, runner: FakeRunner, deadline: Deadline, **changes: Any) -> Argv:
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
        Podman(runner).build(request, deadline=deadline, log=Path("/out/api.log"))
        return runner.argvs[0]

    def test_the_ignore_file_is_named_and_the_format_is_dockers(self, soon: Deadline) -> None:
        runner = FakeRunner()

        assert self.build(runner, soon) == (
            *("podman", "build", "--format", "docker"),
            *("--tag", "localhost/api:1f", "--file", "/out/api/Dockerfile"),
            *("--label", "dev.kindinfra.image=api"),
            *("--ignorefile", "/out/api/Dockerfile.dockerignore"),
            "/src",
        )
        (call,) = runner.calls
        assert call.what == 'building image "api"'
        assert call.env == {}
        assert call.log == Path("/out/api.log")

    def test_what_was_declared_becomes_flags_before_the_context(self, soon: Deadline) -> None:
        argv = self.build(
            FakeRunner(),
            soon,
            target="runtime",
            build_args={"B": "two words", "A": "1"},
            contexts={"base": "localhost/base:2e"},
            options=("--secret", "id=ca,src=ca.pem"),
        )

        assert argv[10:12] == ("--target", "runtime")
        assert argv[12:] == (
            *("--build-arg", "A=1", "--build-arg", "B=two words"),
            *("--ignorefile", "/out/api/Dockerfile.dockerignore"),
            *("--build-context", "base=container-image://localhost/base:2e"),
            *("--secret", "id=ca,src=ca.pem", "/src"),
        )

    def test_a_short_name_in_from_is_one_of_docker_hubs_whatever_registries_conf_says(
        self, soon: Deadline
    ) -> None:
        """Without any registry in there: `short-name "python:3.11-slim" did not resolve`."""
        argv = self.build(FakeRunner(), soon, bases=("redis:7", "quay.io/org/app:1", "org/app"))

        assert argv[12:] == (
            *("--build-context", "org/app=container-image://docker.io/org/app:latest"),
            *("--build-context", "redis:7=container-image://docker.io/library/redis:7", "/src"),
        )

    def test_a_value_that_not_all_may_read_comes_by_the_environment(self, soon: Deadline) -> None:
        runner = FakeRunner()
        argv = self.build(
            runner,
            soon,
            build_args={"TOKEN": "tok-4f3a9c2e77", "VERSION": "1"},
            unshown=frozenset({"TOKEN"}),
        )

        assert argv[10:14] == ("--build-arg", "TOKEN", "--build-arg", "VERSION=1")
        assert runner.calls[0].env == {"TOKEN": "tok-4f3a9c2e77"}

    @pytest.mark.parametrize(
        "name", ["PATH", "https_proxy", "CONTAINER_HOST", "CONTAINERS_CONF", "STORAGE_DRIVER"]
    )
    def test_a_value_never_becomes_what_podman_reads_for_itself(
        self, name: str, soon: Deadline
    ) -> None:
        runner = FakeRunner()
        argv = self.build(runner, soon, build_args={name: "other"}, unshown=frozenset({name}))

        assert argv[10:12] == ("--build-arg", f"{name}=other")
        assert runner.calls[0].env == {}

    def test_a_failed_build_says_what_was_built(self, soon: Deadline) -> None:
        says = 'Error: building at STEP "RUN exit 3": while running runtime: exit status 3\n'
        runner = FakeRunner(lambda _: Completed("STEP 3/3: RUN exit 3\n", says, 3))

        with pytest.raises(CommandError, match=r'^building image "api": exit code 3\n'):
            self.build(runner, soon)

    def test_options_that_only_buildkit_has_are_known(self) -> None:
        options = (
            *("--provenance=false", "--secret", "id=ca,src=ca.pem", "--metadata-file", "m.json"),
            *("--cache-from", "type=gha", "--cache-to=type=inline", "--cache-from", "quay.io/a/b"),
            *("--platform=linux/amd64", "--load", "--progress=plain", "--ssh", "default"),
        )

        assert Podman(FakeRunner()).foreign_options(options) == (
            *("--provenance", "--metadata-file", "--cache-from", "--cache-to"),
        )


class TestArchives:
    def test_several_images_go_into_one_archive_under_their_full_names(self) -> None:
        """Without the flag, podman takes all but the first for further names of the first."""
        command = Podman(FakeRunner()).save_command(["localhost/a:1", "redis"])

        assert command == (
            *("podman", "save", "--quiet", "--format", "docker-archive", "--multi-image-archive"),
            *("localhost/a:1", "docker.io/library/redis:latest"),
        )

    def test_an_archive_that_is_there_is_replaced(self, soon: Deadline, tmp_path: Path) -> None:
        """`podman save`: `docker-archive doesn't support modifying existing images`."""
        archive = tmp_path / "api.tar"
        archive.write_text("old")
        (tmp_path / ".api.tar.partial").write_text("of a killed run")

        def save(argv: Argv) -> str:
            aside = Path(argv[argv.index("--output") + 1])
            assert not aside.exists()
            aside.write_text("new")
            return ""

        runner = FakeRunner(save)
        Podman(runner).save("localhost/api:1f", archive, soon)

        assert archive.read_text() == "new"
        assert list(tmp_path.iterdir()) == [archive]
        assert runner.argvs == [
            (
                *("podman", "save", "--quiet", "--format", "docker-archive"),
                *("--output", str(tmp_path / ".api.tar.partial"), "localhost/api:1f"),
            )
        ]

    def test_a_save_that_fails_leaves_what_was_there(self, soon: Deadline, tmp_path: Path) -> None:
        archive = tmp_path / "api.tar"
        archive.write_text("old")
        runner = FakeRunner(lambda _: Completed("", "Error: nope:1: image not known\n", 125))

        with pytest.raises(CommandError, match=r'^saving "nope:1": exit code 125'):
            Podman(runner).save("nope:1", archive, soon)

        assert archive.read_text() == "old"

    def test_the_image_of_an_archive_is_named(self, soon: Deadline) -> None:
        runner = FakeRunner(lambda _: "Loaded image: localhost/api:dev\n")

        assert Podman(runner).load(Path("/a/api.tar"), soon) == "localhost/api:dev"
        assert runner.argvs == [("podman", "load", "--quiet", "--input", "/a/api.tar")]

    def test_an_archive_of_several_images_is_named(self, soon: Deadline) -> None:
        printed = "Loaded image: localhost/x:abc\nLoaded image: localhost/base1:abc\n"

        with pytest.raises(KindInfraError) as caught:
            Podman(FakeRunner(lambda _: printed)).load(Path("/a/api.tar"), soon)

        assert str(caught.value) == (
            '"/a/api.tar" holds 2 images\nTo fix: save one image in each archive'
        )

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ("localhost/api:1f", "localhost/api:1f"),
            ("org/app:1", "docker.io/org/app:1"),
            (f"sha256:{API}", f"sha256:{API}"),
            (API, API),
            (f"busybox:1.36@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        ],
    )
    def test_a_name_is_given_in_full_or_it_would_be_localhosts(
        self, given: str, told: str, soon: Deadline
    ) -> None:
        runner = FakeRunner()

        Podman(runner).tag(given, "org/app:ci-7", soon)

        assert runner.argvs == [("podman", "tag", told, "docker.io/org/app:ci-7")]


class TestOwnImages:
    def test_images_with_our_label_come_with_all_names(self, soon: Deadline) -> None:
        runner = FakeRunner(
            lambda argv: f"sha256:{API}\nsha256:{API}\n" if "ls" in argv else array(INSPECTED[1])
        )

        assert Podman(runner).own_images(soon) == [
            OwnImage(
                name="api",
                references=("localhost/api:1f", "localhost/api:ci-7"),
                since=datetime(2026, 11, 26, 2, 55, 52, 157297, tzinfo=UTC).timestamp(),
            )
        ]
        assert runner.argvs == [
            (
                *("podman", "image", "ls", "--quiet", "--no-trunc"),
                *("--filter", "label=dev.kindinfra.image"),
            ),
            ("podman", "image", "inspect", f"sha256:{API}"),
        ]

    def test_without_any_nothing_more_is_asked(self, soon: Deadline) -> None:
        runner = FakeRunner()

        assert Podman(runner).own_images(soon) == []
        assert len(runner.argvs) == 1

    def test_one_that_a_container_runs_is_an_error_with_podmans_words(self, soon: Deadline) -> None:
        says = (
            "Error: image used by 71b289d2a726: image is in use by a container: consider listing "
            "external containers and force-removing image\n"
        )

        with pytest.raises(CommandError) as caught:
            Podman(FakeRunner(lambda _: Completed("", says, 2))).remove("localhost/api:1f", soon)

        assert str(caught.value) == (
            'removing "localhost/api:1f": exit code 2\n'
            "  $ podman image rm localhost/api:1f\n"
            f"    {says.rstrip()}"
        )
