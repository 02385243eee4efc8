"""What those who show a board are sent, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kindinfra.images.buildlog import last_line, last_step
from pytest_kindinfra.model import BuiltImage, Declaration, Image, Plan, Service
from pytest_kindinfra.run.messages import Progress
from pytest_kindinfra.run.observer import Observer
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.records import ClusterReady, ImageFailed, ImageReady, ServiceReady
from pytest_kindinfra.state.results import Failed
from pytest_kindinfra.system.secrets import Redactor
from pytest_kindinfra.system.timeline import Running, Timeline

PLAN = Plan(
    declaration=Declaration(folder=Path()),
    images=(Image(name="api"), Image(name="web")),
    services=(Service(name="db"), Service(name="api")),
)


class Watched:
    def __init__(self, folder: Path) -> None:
        self.run = RunDirectory(folder / "run")
        self.run.make()
        (self.run.path / "state").mkdir()
        self.timeline = Timeline()
        self.sent: list[Progress] = []
        self.observer = Observer(
            PLAN,
            self.run,
            timeline=self.timeline,
            redactor=Redactor(["hunter2secret"]),
            send=self.sent.append,
        )


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_it_says_what_runs_without_secrets(watched: Watched) -> None:
    says, reached = lambda: "token hunter2secret " + "x" * 500, lambda: "3/12"
    with watched.timeline.span("build", "api", says=says, reached=reached):
        watched.observer.look()

    (progress,) = watched.sent
    (work,) = progress.running
    assert (work.kind, work.subject, work.reached) == ("build", "api", "3/12")
    assert work.says.startswith("token *** xxx")
    assert len(work.says) <= 200


def test_it_says_what_is_there_and_what_failed(watched: Watched, tmp_path: Path) -> None:
    failure = Failed(short="no", full="no", root='image "web"')
    run = watched.run
    run.settle(ClusterReady(name="c", kubeconfig=tmp_path, namespace="default"))
    run.write(ImageReady(image=BuiltImage(name="api", reference="api:1", cached=True)), "api")
    run.write(ImageFailed(short="no", full="no", root='image "web"'), "web")
    run.begin(ServiceReady, "db")
    run.fail(ServiceReady, failure, "api")

    watched.observer.look()

    assert watched.sent[-1].settled == {
        "cluster": True, "image api": True, "image web": False, "service api": False,
    }  # fmt: skip


def test_nothing_is_sent_if_nothing_changed(watched: Watched) -> None:
    watched.observer.look()
    watched.observer.look()

    assert watched.sent == [Progress()]


def test_many_events_are_few_messages(watched: Watched) -> None:
    watched.timeline.subscribe(watched.observer)
    for number in range(1000):
        with watched.timeline.span("wait", f"s{number}"):
            pass

    assert 1 <= len(watched.sent) < 100


def test_a_state_file_that_cannot_be_read_does_not_end_the_run(watched: Watched) -> None:
    watched.run.file(ClusterReady).write_text("damaged")

    watched.observer.look()


def test_work_that_is_timed_elsewhere_is_listed_while_it_lasts() -> None:
    timeline = Timeline()
    with timeline.watched([Running("load", "api", 1.0, reached=lambda: "34 MB")]):
        (one,) = timeline.running
        assert (one.kind, one.subject, one.reached()) == ("load", "api", "34 MB")

    assert timeline.running == ()
    assert timeline.phases == ()


@pytest.mark.parametrize(
    ("log", "step"),
    [
        ("", ""),
        ("#5 [internal] load .dockerignore\n", ""),
        ("#8 [builder 3/7] RUN make\n#8 1.2 [100%] done 1/2\n", "3/7"),
        ("#6 [2/5] COPY . .\n#9 [stage-1 4/5] RUN x\n#6 DONE 0.1s\n", "4/5"),
        ("STEP 3/12: RUN make\n[1/2] STEP\n", "3/12"),
        ("Step 2/9 : RUN make\n", "2/9"),
    ],
)
def test_the_step_of_a_build_is_in_its_log(tmp_path: Path, log: str, step: str) -> None:
    path = tmp_path / "log"
    path.write_text(log)

    assert last_step(path) == step


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert (last_step(tmp_path / "no"), last_line(tmp_path / "no")) == ("", "")
