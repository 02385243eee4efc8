"""Images go through a registry: pushed once, pulled by each kind node that lacks them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CancelledError, CommandError, KindInfraError
from pytest_kindinfra.images import registry as pushing
from pytest_kindinfra.images.registry import Pushed, RegistrySender
from pytest_kindinfra.protocols.registry import Registry
from tests.fakes import FakeEngine, FakeProvider, FakeRegistries

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline

NAME = "localhost:5001/api:1-0123456789ab"
DIGEST = "sha256:0123456789ab"
LISTED = f"localhost:5001/api@{DIGEST}"
"""As kind nodes list it."""
# As Docker 26 prints it (`docker push`, its output not a terminal).
PRINTED = """\
The push refers to repository [localhost:5001/api]
5f70bf18a086: Preparing
1d0c2a4b6e8f: Preparing
92ab3c4d5e6f: Preparing
92ab3c4d5e6f: Layer already exists
1d0c2a4b6e8f: Mounted from base
5f70bf18a086: Pushed
1-0123456789ab: digest: sha256:9c7c size: 943
"""


@dataclass
class Bench:
    folder: Path
    engine: FakeEngine = field(
        default_factory=lambda: FakeEngine(images={"localhost/api:1": "sha256:0123456789abcdef"})
    )
    provider: FakeProvider = field(default_factory=FakeProvider)

    def __post_init__(self) -> None:
        self.host = FakeRegistries(self.engine)
        self.sender = RegistrySender(
            Registry(container="mine", address="localhost:5001", port=5000),
            host=self.host,
            engine=self.engine,
            kind_nodes=self.provider,
            folder=self.folder,
        )

    def send(self, deadline: Deadline, *nodes: str) -> Pushed:
        return self.sender.send(("localhost/api:1",), nodes or ("node",), deadline)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(pushing, "_PAUSE", 0.0)
    return Bench(tmp_path)


def broken(times: int, output: str) -> CommandError | None:
    return CommandError(["docker"], exit_code=1, output=output) if times <= 2 else None


def test_it_is_pushed_once_and_pulled_by_each_kind_node(bench: Bench, soon: Deadline) -> None:
    bench.send(soon, "one", "two")

    assert bench.engine.pushed == [NAME]
    assert bench.provider.images == {"one": {LISTED}, "two": {LISTED}}
    assert sorted(bench.host.opened) == ["one", "two"]


def test_the_engine_keeps_only_the_name_that_it_had(bench: Bench, soon: Deadline) -> None:
    bench.send(soon)

    assert list(bench.engine.images) == ["localhost/api:1"]


def test_a_run_that_ends_meanwhile_leaves_no_further_name(bench: Bench, soon: Deadline) -> None:
    def cancel(_: str) -> str:
        soon.cancelled.set()
        raise CommandError(["docker"], exit_code=None, output="")

    bench.engine.on_push = cancel

    with pytest.raises(CancelledError):
        bench.send(soon)

    assert list(bench.engine.images) == ["localhost/api:1"]


def test_what_the_registry_has_is_not_pushed_again(bench: Bench, soon: Deadline) -> None:
    bench.engine.pushed.append(NAME)

    done = bench.send(soon)

    assert bench.engine.pushed == [NAME]
    assert bench.provider.images == {"node": {LISTED}}
    assert done.note == "in the registry"


def test_what_a_kind_node_has_is_not_pulled_again(bench: Bench, soon: Deadline) -> None:
    bench.provider.images = {"node": {LISTED}}
    bench.provider.on_pull = lambda node, name: pytest.fail(f"{node} pulled {name}")

    bench.send(soon)


def test_a_kind_node_is_opened_once(bench: Bench, soon: Deadline) -> None:
    bench.send(soon)
    bench.send(soon)

    assert bench.host.opened == ["node"]


def test_its_note_counts_layers(bench: Bench, soon: Deadline) -> None:
    bench.engine.on_push = lambda _: PRINTED

    done = bench.send(soon)

    assert (done.note, done.sent) == ("1 of 3 layers pushed", None)


def test_a_push_and_a_pull_are_tried_three_times(bench: Bench, soon: Deadline) -> None:
    tries: list[str] = []

    def hang_up(*what: str) -> str:
        tries.append(what[-1])
        if error := broken(tries.count(what[-1]) % 3 or 3, "connection reset by peer"):
            raise error
        return ""

    bench.engine.on_push = hang_up
    bench.provider.on_pull = hang_up

    bench.send(soon)

    assert tries == [NAME] * 3 + [LISTED] * 3


def test_a_push_that_fails_permanently_is_reported(bench: Bench, soon: Deadline) -> None:
    def refuse(_: str) -> str:
        raise CommandError(["docker", "push", NAME], exit_code=1, output="no space left on device")

    bench.engine.on_push = refuse

    with pytest.raises(CommandError, match="no space left on device"):
        bench.send(soon)
    assert list(bench.engine.images) == ["localhost/api:1"]


def test_an_image_that_the_engine_has_not_got_is_named(bench: Bench, soon: Deadline) -> None:
    with pytest.raises(KindInfraError) as caught:
        bench.sender.name_of("localhost/web:1", soon)

    assert str(caught.value) == 'the engine has no image "localhost/web:1"'


def test_pods_run_the_very_content_that_was_pushed(bench: Bench, soon: Deadline) -> None:
    """They ran whatever anybody on this host had pushed under the name."""
    pushed = f"sha256:{'9c7c' * 16}"
    bench.engine.on_push = lambda _: PRINTED.replace("sha256:9c7c", pushed)

    bench.send(soon)

    assert bench.sender.name_of("localhost/api:1", soon) == f"{NAME}@{pushed}"
    assert bench.provider.images == {"node": {f"localhost:5001/api@{pushed}"}}


def test_an_image_that_another_user_pushed_under_the_name_is_replaced(
    bench: Bench, soon: Deadline
) -> None:
    bench.engine.pushed.append(NAME)
    bench.host.replaced[NAME] = "sha256:of-a-stranger"
    bench.engine.on_push = lambda name: bench.host.replaced.pop(name, "")

    bench.send(soon)

    assert bench.engine.pushed == [NAME, NAME]
    assert bench.provider.images == {"node": {LISTED}}


def test_an_image_that_another_user_keeps_pushing_is_reported(bench: Bench, soon: Deadline) -> None:
    bench.host.replaced[NAME] = "sha256:of-a-stranger"

    with pytest.raises(KindInfraError) as caught:
        bench.send(soon)

    assert str(caught.value) == (
        f'"{NAME}" in the registry is no longer the image that this run pushed '
        "(sha256:0123456789abcdef): another user of this registry pushed a different image under "
        "the same name\nTo fix: docker rm --force --volumes mine, or set another registry in "
        "[cluster]"
    )
    assert bench.provider.images == {}
