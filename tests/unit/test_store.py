"""A registry of images: what it has is neither built nor pushed, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import pytest

from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.errors import CommandError, EngineError
from pytest_kindinfra.images.build import BuildSetup, build_image
from pytest_kindinfra.images.registry import PullSender
from pytest_kindinfra.images.slots import BuildSlots
from pytest_kindinfra.images.store import ImageStore
from pytest_kindinfra.model import BuiltImage, Image, Registry
from pytest_kindinfra.references import is_loopback
from pytest_kindinfra.system.runner import Completed
from pytest_kindinfra.system.timeline import Deadline, Timeline
from tests.fakes import FakeEngine, FakeProvider, FakeRegistries, FakeRunner

ADDRESS = "registry.example:5000/team"
API = Image(name="api", context=Path("api"), build_options=("--platform=linux/arm64",))
DENIED = (
    "ERROR: unexpected status from HEAD request to https://registry.example:5000: 403 Forbidden"
)


@dataclass
class Hub:
    """A registry that several machines use.

    Attributes:
        has: Name to the digest of what is there.
    """

    has: dict[str, str] = field(default_factory=dict)

    def machine(self) -> FakeEngine:
        """Return the engine of a machine that has nothing yet."""
        engine = FakeEngine(on_ask=self.has.get)

        def push(name: str) -> str:
            digest = "sha256:" + sha256(engine.images[name].encode()).hexdigest()
            self.has[name] = digest
            tag = name.rpartition(":")[2]
            return f"5f70bf18a086: Pushed\n{tag}: digest: {digest} size: 523\n"

        engine.on_push = push
        return engine


@dataclass
class Machine:
    """Builds and pushes images."""

    folder: Path
    engine: FakeEngine

    def __post_init__(self) -> None:
        self.timeline = Timeline()
        self.store = ImageStore(
            ADDRESS, self.engine, lambda: Deadline.after(20), timeline=self.timeline
        )

    def bring(
        self,
        image: Image,
        *bases: BuiltImage,
        anew: bool = False,
        builder: str | None = None,
    ) -> BuiltImage:
        setup = BuildSetup(
            folder=self.folder,
            output=self.folder / "out",
            engine=self.engine,
            slots=BuildSlots(1),
            timeline=self.timeline,
            store=self.store,
            anew=anew,
            builder=builder,
        )
        built = build_image(
            image, bases=bases, setup=setup, deadline=lambda seconds: Deadline.after(seconds or 20)
        )
        return self.store.keep(image, built, anew=anew)

    @property
    def pushes(self) -> list[str]:
        return [one.subject for one in self.timeline.phases if one.kind == "push"]


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (("api", "FROM scratch\n"), ("top", "FROM api\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(text)
    return tmp_path


def test_an_image_is_pushed_by_its_content_and_by_what_it_was_built_from(
    hub: Hub, project: Path
) -> None:
    machine = Machine(project, hub.machine())

    built = machine.bring(API)

    first, last = machine.engine.pushed
    assert first == f"{ADDRESS}/api:{built.reference.partition(':')[2]}"
    assert last == f"{ADDRESS}/api:{built.contexts[0].partition(':')[2]}-linux-arm64"
    assert built.pushed == f"{ADDRESS}/api@{hub.has[last]}"
    assert machine.pushes == ["api"]


def test_the_engine_keeps_no_name_of_the_registry(hub: Hub, project: Path) -> None:
    machine = Machine(project, hub.machine())
    machine.bring(API)

    assert [name for name in machine.engine.images if name.startswith(ADDRESS)] == []


def test_what_another_machine_pushed_is_neither_built_nor_pushed(hub: Hub, project: Path) -> None:
    pushed = Machine(project, hub.machine()).bring(API).pushed

    other = Machine(project, hub.machine())
    found = other.bring(API)

    assert (found.reference, found.pushed, found.cached) == (pushed, pushed, True)
    assert (other.engine.builds, other.engine.pushed, other.pushes) == ([], [], [])


def test_what_the_engine_has_too_keeps_its_name_there(hub: Hub, project: Path) -> None:
    machine = Machine(project, hub.machine())
    built = machine.bring(API)

    again = machine.bring(API)

    assert (again.reference, again.pushed) == (built.reference, built.pushed)
    assert machine.pushes == ["api"]


def test_what_the_registry_lost_is_pushed_again_without_a_build(hub: Hub, project: Path) -> None:
    machine = Machine(project, hub.machine())
    built = machine.bring(API)
    hub.has.clear()

    assert machine.bring(API).pushed == built.pushed
    assert len(machine.engine.builds) == 1
    assert machine.pushes == ["api", "api"]


def test_an_image_for_another_platform_is_another_image(hub: Hub, project: Path) -> None:
    """With DOCKER_DEFAULT_PLATFORM or on another kind of machine the sources are the same."""
    machine = Machine(project, hub.machine())
    (context,) = machine.bring(API).contexts

    assert machine.store.find(Image(name="api"), [context]) is None


def test_an_image_that_was_pushed_during_the_build_is_used(hub: Hub, project: Path) -> None:
    slow, quick = Machine(project, hub.machine()), Machine(project, hub.machine())
    found: list[str] = []
    slow.engine.on_build = lambda _: found.append(quick.bring(API).pushed)

    assert [slow.bring(API).pushed] == found
    assert slow.engine.pushed == []


def test_a_build_without_cache_is_pushed_whatever_is_there(hub: Hub, project: Path) -> None:
    machine = Machine(project, hub.machine())
    machine.bring(API)

    machine.bring(API, anew=True)

    assert machine.pushes == ["api", "api"]


def test_a_base_that_only_the_registry_has_is_taken_from_there(hub: Hub, project: Path) -> None:
    top = Image(name="top", context=Path("top"), needs=("api",))
    base = BuiltImage(
        name="api", reference=f"{ADDRESS}/api@sha256:1", cached=True, contexts=("localhost/api:c",)
    )
    machine = Machine(project, hub.machine())
    machine.bring(top, base)

    (request,) = machine.engine.builds
    assert request.contexts["api"] == f"{ADDRESS}/api@sha256:1"


def test_a_prebuilt_image_is_not_pushed(hub: Hub, project: Path) -> None:
    machine = Machine(project, hub.machine())
    machine.engine.images["quay.example/db:1"] = "sha256:1"

    built = machine.bring(Image(name="db", prebuilt="quay.example/db:1"))

    assert (built.reference, built.pushed) == ("quay.example/db:1", "")
    assert machine.engine.asked == []


def test_a_push_without_a_digest_is_looked_up(hub: Hub, project: Path) -> None:
    machine = Machine(project, hub.machine())
    push = machine.engine.on_push
    machine.engine.on_push = lambda name: push(name)[:1]

    assert machine.bring(API).pushed.startswith(f"{ADDRESS}/api@sha256:")


def test_a_refused_push_says_so_and_leaves_no_name(hub: Hub, project: Path) -> None:
    def refuse(_: str) -> str:
        raise CommandError(["docker", "push"], exit_code=1, output="denied")

    machine = Machine(project, hub.machine())
    machine.engine.on_push = refuse

    with pytest.raises(CommandError, match="denied"):
        machine.bring(API)
    assert [name for name in machine.engine.images if name.startswith(ADDRESS)] == []
    (phase,) = [one for one in machine.timeline.phases if one.kind == "push"]
    assert not phase.ok


def test_an_image_of_the_registry_comes_into_the_engine_under_its_own_names(
    hub: Hub, project: Path
) -> None:
    Machine(project, hub.machine()).bring(API)
    other = Machine(project, hub.machine())
    found = other.bring(API)

    fetched = other.store.fetch(found)

    assert other.engine.pulled == [found.pushed]
    assert fetched.reference.startswith("localhost/api:")
    assert {fetched.reference, *found.contexts} <= other.engine.images.keys()
    assert found.pushed not in other.engine.images
    assert other.store.fetch(found) == fetched
    assert other.engine.pulled == [found.pushed]


class TestDockersAnswers:
    def ask(self, output: str, exit_code: int, soon: Deadline) -> str | None:
        docker = Docker(FakeRunner(lambda _: Completed("", output, exit_code)))
        return docker.digest_of(f"{ADDRESS}/api:ctx-1", soon)

    def test_the_digest_is_that_of_the_manifest(self, soon: Deadline) -> None:
        docker = Docker(
            FakeRunner(lambda _: '{"mediaType": "x", "digest": "sha256:12", "size": 5}')
        )

        assert docker.digest_of(f"{ADDRESS}/api:ctx-1", soon) == "sha256:12"

    @pytest.mark.parametrize(
        "output",
        [
            f"ERROR: {ADDRESS}/api:ctx-1: not found\n",
            "ERROR: manifest unknown: manifest unknown\n",
            "ERROR: name unknown: The repository does not exist in the registry\n",
        ],
    )
    def test_an_image_that_is_not_there_is_no_error(self, output: str, soon: Deadline) -> None:
        assert self.ask(output, 1, soon) is None

    @pytest.mark.parametrize(
        ("output", "fix"),
        [
            (DENIED, "`docker login registry.example:5000` as a user who may pull and push there"),
            ("ERROR: pull access denied, repository does not exist or may require", "docker login"),
            (
                "ERROR: failed to do request: dial tcp: lookup registry.example: no such host",
                "let this machine reach registry.example:5000",
            ),
            ("ERROR: x509: certificate signed by unknown authority", "certificate authority"),
            ("ERROR: 418", "check that a registry answers at registry.example:5000"),
        ],
    )
    def test_any_other_answer_is_one_with_a_remedy(
        self, output: str, fix: str, soon: Deadline
    ) -> None:
        with pytest.raises(CommandError) as error:
            self.ask(output, 1, soon)

        assert fix in str(error.value).partition("To fix: ")[2]

    def test_a_refused_push_has_the_same_remedy(self, soon: Deadline) -> None:
        docker = Docker(FakeRunner(lambda _: Completed("", "unauthorized", 1)))

        with pytest.raises(CommandError, match=r"To fix: `docker login registry\.example:5000`"):
            docker.push(f"{ADDRESS}/api:1", soon)

    def test_podman_cannot_be_asked(self, soon: Deadline) -> None:
        with pytest.raises(EngineError, match="podman cannot be asked"):
            FakeEngine(name="podman").real.digest_of(f"{ADDRESS}/api:1", soon)


class TestKindNodes:
    NAME = f"localhost:5000/team/api@sha256:{'1' * 64}"

    @pytest.fixture
    def provider(self) -> FakeProvider:
        return FakeProvider()

    @pytest.fixture
    def others(self) -> FakeSending:
        return FakeSending()

    @pytest.fixture
    def sender(self, tmp_path: Path, provider: FakeProvider, others: FakeSending) -> PullSender:
        return PullSender(
            others,
            Registry(container="mine", address="localhost:5000", port=5000),
            address="localhost:5000/team",
            host=FakeRegistries(FakeEngine()),
            kind_nodes=provider,
            folder=tmp_path,
        )

    def test_pull_what_the_registry_has_and_are_sent_the_rest(
        self, sender: PullSender, provider: FakeProvider, others: FakeSending, soon: Deadline
    ) -> None:
        done = sender.send((self.NAME, "redis:7"), ("one", "two"), soon)

        assert provider.images == {"one": {self.NAME}, "two": {self.NAME}}
        assert others.sent == [(("redis:7",), ("one", "two"))]
        assert (done.note, done.sent) == ("1 pulled by the kind nodes, sent", 7)

    def test_run_it_by_its_digest(self, sender: PullSender, soon: Deadline) -> None:
        assert sender.name_of(self.NAME, soon) == self.NAME
        assert sender.listed_as(self.NAME, soon) == self.NAME
        assert sender.name_of("redis:7", soon) == "other redis:7"
        assert sender.listed_as("redis:7", soon) == "listed redis:7"

    def test_are_sent_nothing_if_the_registry_has_all(
        self, sender: PullSender, others: FakeSending, soon: Deadline
    ) -> None:
        done = sender.send((self.NAME,), ("one",), soon)

        assert others.sent == []
        assert (done.note, done.sent, sender.passed()) == ("1 pulled by the kind nodes", None, 3)


@dataclass
class FakeSending:
    """Another way of images into kind nodes."""

    layers: dict[str, dict[str, int]] = field(default_factory=dict)
    sent: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)

    def passed(self) -> int:
        return 3

    def name_of(self, reference: str, deadline: Deadline) -> str:
        deadline.check()
        return f"other {reference}"

    def listed_as(self, reference: str, deadline: Deadline) -> str:
        deadline.check()
        return f"listed {reference}"

    def send(
        self, references: tuple[str, ...], nodes: tuple[str, ...], deadline: Deadline
    ) -> FakeSent:
        deadline.check()
        self.sent.append((references, nodes))
        return FakeSent()


@dataclass
class FakeSent:
    note: str = "sent"
    sent: int | None = 7


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.1.2.3", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("localhost.example:5000", False),
        ("127.0.0.1.example:5000", False),
        ("ghcr.io", False),
        ("", False),
    ],
)
def test_loopback_addresses_are_known(host: str, *, here: bool) -> None:
    assert is_loopback(host) == here


def test_a_builder_elsewhere_pulls_a_declared_base_from_the_registry(
    hub: Hub, project: Path
) -> None:
    machine = Machine(project, hub.machine())
    api = machine.bring(API)

    machine.bring(Image(name="top", context=Path("top"), needs=("api",)), api, builder="farm")

    (_, request) = machine.engine.builds
    assert request.options == ("--builder", "farm")
    assert request.contexts == {"api": api.pushed}


def test_an_image_that_names_its_builder_keeps_it(hub: Hub, project: Path) -> None:
    machine = Machine(project, hub.machine())
    own = ("--builder", "mine")

    machine.bring(replace(API, build_options=own), builder="farm")

    assert machine.engine.builds[0].options == own
