"""What becomes of results: settled once, believed only if whole, said even on a full disk."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import (
    ClusterEndedError,
    ImageMissingError,
    KindInfraError,
    ProvisionerDiedError,
    StateError,
)
from pytest_kindinfra.state import codec
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.records import ClusterReady, Needs, ServiceReady
from pytest_kindinfra.state.results import BlockedError, Failed, failure_of

CLUSTER = ClusterReady(name="k", kubeconfig=Path("k"), namespace="default")
READY = ServiceReady(endpoints=())
FAILED = Failed(short="no", full="no", root="it")

if TYPE_CHECKING:
    from collections.abc import Callable


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class FullDisk:
    """A disk on which only so many bytes are free, as the state files see it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run: RunDirectory) -> None:
        self._write: Callable[[Path, Any], None] = codec.write_json
        self._reserve = run.path / "state" / ".reserve"
        self.full = True
        for module in ("pytest_kindinfra.state.directory", codec.__name__):
            monkeypatch.setattr(f"{module}.write_json", self.write)

    def write(self, path: Path, value: Any) -> None:
        if self.full and self._reserve.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self._write(path, value)


class TestTransitions:
    def test_a_result_is_pending_then_running_then_settled(self, run: RunDirectory) -> None:
        assert run.look(ServiceReady, "api") is None

        run.begin(ServiceReady, "api")
        assert run.look(ServiceReady, "api") is None
        assert not run.is_settled(ServiceReady, "api")

        run.settle(READY, "api")
        assert run.look(ServiceReady, "api") == READY
        assert run.is_settled(ServiceReady, "api")

    def test_what_was_never_begun_can_fail(self, run: RunDirectory) -> None:
        run.fail(ServiceReady, FAILED, "api")

        assert run.look(ServiceReady, "api") == FAILED

    @pytest.mark.parametrize("first", [READY, FAILED])
    @pytest.mark.parametrize("second", [READY, FAILED, None])
    def test_what_is_settled_stays(
        self, run: RunDirectory, first: ServiceReady | Failed, second: ServiceReady | Failed | None
    ) -> None:
        self.settle(run, first)

        with pytest.raises(StateError, match='"service-api" of run run-1 is settled already'):
            self.settle(run, second)

        assert run.look(ServiceReady, "api") == first

    def settle(self, run: RunDirectory, result: ServiceReady | Failed | None) -> None:
        if result is None:
            run.begin(ServiceReady, "api")
        elif isinstance(result, Failed):
            run.fail(ServiceReady, result, "api")
        else:
            run.settle(result, "api")


class TestFilesThatCannotBeBelieved:
    @pytest.mark.parametrize(
        ("content", "why"),
        [
            pytest.param(b'{"format": 2, "val', "cannot be read: ", id="half"),
            pytest.param(b"", "cannot be read: ", id="empty"),
            pytest.param(b"\xff\xfe\x00", "cannot be read: ", id="not text"),
            pytest.param(b"[1]", "was not written by pytest-kindinfra", id="another shape"),
            pytest.param(
                b'{"state": "ready"}', "was not written by pytest-kindinfra", id="no envelope"
            ),
            pytest.param(
                b'{"format": 7, "value": {"state": "ready"}}',
                "has format 7, this version of pytest-kindinfra reads 2",
                id="a later version",
            ),
            pytest.param(
                b'{"format": 1, "value": {"state": "ready"}}',
                "has format 1, this version of pytest-kindinfra reads 2",
                id="an earlier version",
            ),
            pytest.param(
                b'{"format": 2, "value": {"state": "ready", "name": "k", "namespace": "d"}}',
                "is not what this version of pytest-kindinfra writes: the record lacks fields: "
                "kubeconfig",
                id="a field less",
            ),
            pytest.param(
                b'{"format": 2, "value": {"state": "perhaps"}}',
                "is not what this version of pytest-kindinfra writes: it is neither running nor",
                id="another state",
            ),
        ],
    )
    def test_are_named_and_set_aside(self, run: RunDirectory, content: bytes, why: str) -> None:
        file = run.file(ClusterReady)
        file.parent.mkdir(parents=True)
        file.write_bytes(content)

        with pytest.raises(StateError) as caught:
            run.wait_for(ClusterReady)

        assert str(caught.value).startswith(f'the state file "{file}" {why}')
        assert (file.parent / "cluster.aside").read_bytes() == content
        assert not file.exists()

    def test_every_waiter_is_told(self, run: RunDirectory) -> None:
        """The second one found no file and waited for the end of the run."""
        run.write(CLUSTER)
        run.file(ClusterReady).write_text("rubbish")
        with pytest.raises(StateError):
            run.look(ClusterReady)

        with pytest.raises(StateError, match="was damaged and set aside"):
            run.look(ClusterReady)

    def test_do_not_hide_what_is_settled_later(self, run: RunDirectory) -> None:
        run.begin(ClusterReady)
        run.file(ClusterReady).write_text("rubbish")
        with pytest.raises(StateError):
            run.look(ClusterReady)

        run.settle(CLUSTER)

        assert run.look(ClusterReady) == CLUSTER


class TestAFullDisk:
    def test_a_result_is_written_with_what_was_set_aside_for_it(
        self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.make()
        run.reserve()
        FullDisk(monkeypatch, run)

        run.fail(ClusterReady, FAILED)
        run.write_report("run.json", {"outcome": "failed"})

        assert run.look(ClusterReady) == FAILED
        assert json.loads((run.path / "run.json").read_text()) == {"outcome": "failed"}

    def test_without_a_reserve_it_is_an_error(
        self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.make()

        def full(path: Path, _: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(codec, "write_json", full)

        with pytest.raises(OSError, match="No space left on device"):
            run.fail(ClusterReady, FAILED)

    def test_a_waiter_is_told_of_the_full_disk_if_no_result_could_be_written(
        self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.make()
        alive = hold(run.lock)

        def usage(_: Path) -> Any:
            return type("Usage", (), {"free": 0})

        monkeypatch.setattr("shutil.disk_usage", usage)

        with pytest.raises(ProvisionerDiedError) as caught:
            run.check_alive(ClusterReady)
        alive.release()

        assert str(caught.value) == (
            'the bring-up ended without a result for "cluster" (run run-1): '
            f"the disk of {run.path} is full\nTo fix: free some space there"
        )


class TestWhoMayRead:
    def test_the_folder_and_all_state_is_its_owners_alone(self, run: RunDirectory) -> None:
        run.make()
        run.settle(CLUSTER)

        assert mode_of(run.path) == 0o700
        assert mode_of(run.file(ClusterReady)) == 0o600

    def test_a_request_is_left_elsewhere_if_the_folder_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
        (tmp_path / "file").touch()
        run = RunDirectory(tmp_path / "file" / "run-1")  # below a file nothing can be made

        needs = Needs(services={"api": ("test_a",)}, tests=3)

        run.ask("gw0", needs)

        assert run.asked("gw0") == needs
        assert run.asked("gw0") is None
        assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("subject", "error", "verb"),
    [
        ('service "web"', KindInfraError("no pod"), "failed to start"),
        ('image "api"', KindInfraError("exit code 1"), "failed to build"),
        ('image "base"', ImageMissingError("not in the engine"), "is missing"),
        ('the load of image "api"', KindInfraError("no space left"), "failed"),
        ("the cluster", KindInfraError("no memory"), "failed to start"),
        ("the cluster", ClusterEndedError("node removed"), "was lost"),
    ],
)
def test_the_first_line_says_what_happened_to_what_failed(
    subject: str, error: KindInfraError, verb: str
) -> None:
    own = failure_of(error, subject=subject)
    blocked = failure_of(BlockedError(root=subject, error=error), subject='service "front"')

    assert own.short == f"{subject} {verb}: {error}"
    assert blocked.short == f'service "front" failed to start: {subject} {verb}:\n{error}'
    assert (blocked.root, blocked.verb) == (subject, verb)
