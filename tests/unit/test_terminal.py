"""What is shown, as a whole: the text is what people see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.context import Request
from pytest_kindinfra.images.tags import Known
from pytest_kindinfra.model import Declaration, Image, Need, Phase, Plan, PortMapping, Service
from pytest_kindinfra.run.progress import Heartbeats, ProgressLines
from pytest_kindinfra.run.report import (
    build_line,
    count,
    failure_lines,
    heartbeat_line,
    kept_lines,
    outdated_line,
    plan_line,
    plan_lines,
    progress_line,
    running_line,
)
from pytest_kindinfra.state.results import Failed
from pytest_kindinfra.system.timeline import Running

if TYPE_CHECKING:
    from pytest_kindinfra.plan.options import Progress

EPOCH = 1_800_000_000.0
"""When invented runs begin: floating point has few digits left there."""


def phase(kind: str, subject: str, start: float, end: float, **more: Any) -> Phase:
    return Phase(kind=kind, subject=subject, start=EPOCH + start, end=EPOCH + end, **more)


def port(service: str, endpoint: str, node_port: int, host_port: int | None = None) -> PortMapping:
    return PortMapping(
        service=service,
        endpoint=endpoint,
        node_port=node_port,
        host_port=host_port,
        in_manifest=False,
    )


REQUEST = Request(
    cluster="e2e",
    named=True,
    run_id="1",
    namespace="default",
    build_jobs=1,
    timeout=1,
    kind_config={"nodes": [{"role": "control-plane"}, {"image": "kindest/node:v1.33.1"}, {}]},
    node_image=None,
    tuning=True,
    folder=Path(),
)
PLAN = Plan(
    declaration=Declaration(folder=Path()),
    services=(
        Service(name="postgres"),
        Service(name="api", needs=(Need(name="postgres"), Need(name="jobs", level="applied"))),
    ),
    images=(Image(name="api"), Image(name="worker")),
    ports=(
        port("postgres", "sql", 30000),
        port("api", "metrics", 30181, 9181),
        port("unneeded", "api", 30001),
        port("", "", 30002),
    ),
)


class TestProgress:
    @pytest.mark.parametrize(
        ("kind", "subject", "begins", "ends"),
        [
            ("build", "api", "[api] building", "[api] built in 2.5 s"),
            ("load", "api", "[api] loading", "[api] loaded in 2.5 s"),
            ("deploy", "api", "[api] applying", "[api] applied in 2.5 s"),
            ("wait", "api", "[api] waiting until ready", "[api] ready in 2.5 s"),
            ("run", "seed", "[seed] running its step", "[seed] step done in 2.5 s"),
            (
                "create",
                "cluster",
                "[cluster] creating the cluster",
                "[cluster] cluster created in 2.5 s",
            ),
        ],
    )
    def test_start_and_end_of_a_phase_are_a_line_each(
        self, kind: str, subject: str, begins: str, ends: str
    ) -> None:
        one = phase(kind, subject, 1, 3.5)

        assert progress_line(one, ended=False, since=EPOCH) == f"kindinfra    1.0 s  {begins}"
        assert progress_line(one, ended=True, since=EPOCH) == f"kindinfra    3.5 s  {ends}"

    @pytest.mark.parametrize(
        ("note", "ending"),
        [
            pytest.param("", "FAILED building in 2.0 s", id="failed"),
            pytest.param("given up", "given up in 2.0 s", id="given up"),
        ],
    )
    def test_a_phase_that_failed_says_so(self, note: str, ending: str) -> None:
        one = phase("build", "api", 10, 12, ok=False, note=note)

        assert progress_line(one, ended=True, since=EPOCH) == f"kindinfra   12.0 s  [api] {ending}"

    def test_what_goes_on_is_one_line(self) -> None:
        running = [Running("create", "cluster", EPOCH + 1), Running("build", "api", EPOCH + 5)]

        assert running_line(running, at=EPOCH + 12.3, since=EPOCH) == (
            "kindinfra   12.3 s  still [cluster] creating the cluster (11 s), [api] building (7 s)"
        )

    def test_copies_of_a_service_are_named_together(self) -> None:
        running = [
            Running("wait", "db.gw0", EPOCH + 1),
            Running("wait", "api.gw0", EPOCH + 3),
            Running("wait", "db.gw1", EPOCH + 2),
            Running("wait", "db.gw2", EPOCH + 2, lambda: "no volume"),
        ]

        assert running_line(running, at=EPOCH + 15, since=EPOCH) == (
            "kindinfra   15.0 s  still [db, 2 copies] waiting until ready (14 s), "
            "[api.gw0] waiting until ready (12 s), "
            "[db.gw2] waiting until ready (13 s; no volume)"
        )

    def test_what_keeps_a_service_from_being_ready_is_said_with_its_age(self) -> None:
        trouble = "FailedMount for 14 s: secret late not found"
        running = [Running("wait", "api", EPOCH, lambda: trouble),
                   Running("build", "web", EPOCH, lambda: "#12 RUN make")]  # fmt: skip

        assert running_line(running, at=EPOCH + 15, since=EPOCH) == (
            f"kindinfra   15.0 s  still [api] waiting until ready (15 s; {trouble}), "
            "[web] building (15 s)"
        )

    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("#12 8.31 Collecting torch", ": #12 8.31 Collecting torch"),
            ("", ""),
            ("\x1b[31m#5\x1b[0m\tred", ": [31m#5[0mred"),
            ("x" * 200, f": {'x' * 100}..."),
        ],
    )
    def test_what_takes_long_shows_what_it_printed_last(self, said: str, shown: str) -> None:
        one = Running("build", "api", EPOCH + 5, lambda: said)

        assert heartbeat_line(one, at=EPOCH + 36.3, since=EPOCH) == (
            f"kindinfra   36.3 s  [api] still building (31 s){shown}"
        )


def test_what_the_api_server_says_of_an_object_is_shown_while_it_is_not_applied() -> None:
    web = Running("deploy", "web", EPOCH, lambda: 'namespaces "shop" not found')

    assert running_line([web], at=EPOCH + 16, since=EPOCH) == (
        'kindinfra   16.0 s  still [web] applying (16 s; namespaces "shop" not found)'
    )


class TestWhichPhasesHaveALine:
    LONG, QUICK = phase("wait", "api", 1, 3), phase("deploy", "api", 0.9, 1)
    FAILED = phase("build", "web", 0, 0.1, ok=False)

    @pytest.mark.parametrize(
        ("how", "shown", "left_out"),
        [
            ("auto", ["[api] ready in", "[web] FAILED building in"], ["[api] applied in"]),
            ("plain", ["[api] ready in", "[api] applied in", "[web] FAILED building in"], []),
            ("off", [], []),
        ],
    )
    def test_those_that_took_a_moment_are_left_out(
        self, how: Progress, shown: list[str], left_out: list[str]
    ) -> None:
        written, short = list[str](), list[str]()
        lines = ProgressLines(written.append, how=how, since=EPOCH, write_short=short.append)

        for one in (self.LONG, self.QUICK, self.FAILED):
            lines(one, True)  # noqa: FBT003 - as Timeline calls it

        assert [self.words(line) for line in written] == shown
        assert [self.words(line) for line in short] == left_out

    def words(self, line: str) -> str:
        return line.partition(" s  ")[2].rpartition(" in ")[0] + " in"


class TestHeartbeats:
    def test_a_message_of_the_api_server_is_shown_within_seconds(self) -> None:
        beats = Heartbeats()
        web = Running("deploy", "web", EPOCH, lambda: 'namespaces "shop" not found')

        told = [at for at in range(60) if self.due(beats, at, web)]

        assert told == [5, 35]

    def due(self, beats: Heartbeats, at: float, *running: Running) -> list[str]:
        return [one.subject for one in beats.due(running, at=EPOCH + at)]

    def test_each_phase_is_shown_after_half_a_minute_and_then_from_time_to_time(self) -> None:
        beats = Heartbeats()
        api = Running("build", "api", EPOCH, lambda: "#1")
        web = Running("build", "web", EPOCH + 20, lambda: "#1")

        told = [self.due(beats, at, api, web) for at in (29, 30, 31, 50, 59, 61, 81)]

        assert told == [[], ["api"], [], ["web"], [], ["api"], ["web"]]

    def test_a_problem_of_a_service_is_shown_every_ten_seconds(self) -> None:
        beats, api = Heartbeats(), Running("wait", "api", EPOCH, lambda: "FailedMount for 9 s")

        assert [self.due(beats, at, api) for at in (9, 10, 15, 20)] == [[], ["api"], [], ["api"]]

    def test_what_prints_nothing_is_not_told(self) -> None:
        assert self.due(Heartbeats(), 100, Running("create", "cluster", EPOCH)) == []

    def test_a_second_build_of_that_name_begins_anew(self) -> None:
        beats = Heartbeats()
        self.due(beats, 30, Running("build", "api", EPOCH, lambda: "#1"))

        assert self.due(beats, 62, Running("build", "api", EPOCH + 31, lambda: "#1")) == ["api"]


class TestThePlan:
    def test_its_size_is_one_line(self) -> None:
        assert plan_line(PLAN, tests=5, cluster="kindinfra-1", engine="docker") == (
            "kindinfra: 5 tests need 2 services from 2 images, cluster kindinfra-1 on docker"
        )

    def test_one_of_each_is_no_plural(self) -> None:
        plan = Plan(
            declaration=PLAN.declaration,
            services=PLAN.services[:1],
            images=PLAN.images[:1],
        )

        assert plan_line(plan, tests=1, cluster="a", engine="podman") == (
            "kindinfra: 1 test needs 1 service from 1 image, cluster a on podman"
        )

    def test_it_shows_images_services_and_endpoints(self) -> None:
        known = Known(
            tags={"api": "localhost/api:0123456789abcdef"}, engine="docker", there=frozenset()
        )
        lines = plan_lines(PLAN, REQUEST, known)

        assert "\n".join(lines) == (
            "\n"
            "cluster:\n"
            "  name                 e2e\n"
            "  node image           kind's default, kindest/node:v1.33.1\n"
            "  engine               docker\n"
            "\n"
            "images:\n"
            "  api                  localhost/api:0123456789abcdef (to be built)\n"
            "  worker               pending\n"
            "\n"
            "services, in the order of their needs:\n"
            "  postgres             needs -\n"
            "  api                  needs postgres, jobs:applied\n"
            "\n"
            "endpoints:\n"
            "  postgres.sql                     127.0.0.1:a free port -> nodePort 30000\n"
            "  api.metrics                      127.0.0.1:9181 -> nodePort 30181"
        )

    def test_it_shows_which_references_are_replaced(self) -> None:
        plan = replace(
            PLAN,
            image_uses={
                "postgres": {},
                "api": {"localhost/api:dev": "api", "registry.example/team/jobs:1": "worker"},
            },
        )

        known = Known(tags={}, engine="docker", there=None)

        lines = plan_lines(plan, REQUEST, known)

        start = lines.index("replaced in manifests:")
        assert lines[start - 1 : start + 4] == [
            "",
            "replaced in manifests:",
            "  api                  localhost/api:dev -> image api",
            "  api                  registry.example/team/jobs:1 -> image worker",
            "",
        ]

    def test_the_cluster_of_a_kubeconfig_is_named_by_its_file(self) -> None:
        known = Known(tags={}, engine="docker", there=None)

        lines = plan_lines(PLAN, REQUEST, known, kubeconfig=Path("k.yaml"))

        assert lines[1:4] == [
            "cluster:",
            "  existing             the current context of k.yaml",
            "  engine               docker, which does not answer",
        ]


def failed(root: str, full: str, *, cancelled: bool = False) -> Failed:
    return Failed(root=root, full=full, short=full, cancelled=cancelled)


class TestFailures:
    def test_each_cause_is_shown_in_full_once(self) -> None:
        lines = failure_lines(
            {
                "db": failed('service "db"', "CrashLoopBackOff\n  exit code 1"),
                "api": failed('service "db"', "CrashLoopBackOff\n  exit code 1"),
                "web": failed('service "db"', "CrashLoopBackOff\n  exit code 1"),
                "mail": failed('image "mail"', "no space left"),
            }
        )

        assert "\n".join(lines) == (
            "\n"
            'kindinfra: service "db" failed:\n'
            "CrashLoopBackOff\n"
            "  exit code 1\n"
            "not started because of it: api, web\n"
            "\n"
            'kindinfra: image "mail" failed:\n'
            "no space left\n"
            "not started because of it: mail"
        )

    def test_a_cluster_that_failed_is_the_cause_of_all(self) -> None:
        cause = "port is already allocated"
        failures = {name: failed("the cluster", cause) for name in ("cluster", "api", "db")}

        assert failure_lines(failures) == ["", "kindinfra: the cluster failed:", cause]

    def test_a_cause_says_what_happened(self) -> None:
        cause = Failed(root='image "api"', verb="failed to build", full="exit code 2", short="")

        assert failure_lines({"api": cause})[1] == 'kindinfra: image "api" failed to build:'

    def test_what_the_end_of_the_run_gave_up_is_no_failure(self) -> None:
        assert failure_lines({"api": failed('service "api"', "ending", cancelled=True)}) == []

    def test_nothing_failed_is_nothing_shown(self) -> None:
        assert failure_lines({}) == []


class TestBuilds:
    @pytest.mark.parametrize(
        ("spans", "cached", "line"),
        [
            pytest.param([], 0, "", id="no images"),
            pytest.param([], 1, "builds: none, 1 image unchanged", id="all unchanged"),
            pytest.param(
                [(0, 3)],
                0,
                "builds: 3.0 s of build time in 3.0 s",
                id="one",
            ),
            pytest.param(
                [(0, 4), (0, 3), (1, 5)],
                2,
                "builds: 11.0 s of build time in 5.0 s, 2 images unchanged",
                id="overlapping",
            ),
            pytest.param(
                [(0, 2), (2, 5)],
                0,
                "builds: 5.0 s of build time in 5.0 s",
                id="one after another",
            ),
            pytest.param(
                [(0, 10), (2, 3)],
                0,
                "builds: 11.0 s of build time in 10.0 s",
                id="one within another",
            ),
            pytest.param(
                [(0, 2), (7, 8)],
                0,
                "builds: 3.0 s of build time in 8.0 s",
                id="with a pause between",
            ),
        ],
    )
    def test_their_sum_is_set_against_the_time_that_passed(
        self, spans: list[tuple[float, float]], cached: int, line: str
    ) -> None:
        builds = [phase("build", f"i{number}", *span) for number, span in enumerate(spans)]
        others = [phase("create", "cluster", 0, 60), phase("wait", "api", 60, 90)]

        assert build_line([*others, *builds], cached=cached) == line

    def test_it_says_what_more_builds_at_a_time_would_save_at_most(self) -> None:
        builds = [phase("build", "a", 0, 10), phase("build", "b", 10, 30)]
        images = [Image(name="a"), Image(name="b")]

        assert build_line(builds, cached=0, images=images, jobs=1) == (
            "builds: 30.0 s of build time in 30.0 s; "
            "--kindinfra-build-jobs=2 instead of 1 would save at most 10 s of that"
        )


class TestARestoredClusterThatLoadedImages:
    LINE = (
        "snapshot: 150 MB of images were loaded that it does not have; "
        "kindinfra snapshot make makes one that has them"
    )

    @pytest.mark.parametrize(
        ("loads", "line"),
        [
            ([], ""),
            ([(0, 10_000_000)], ""),
            ([(0, None), (1, 99_000_000)], ""),
            ([(0, 100_000_000), (5, 50_000_000)], LINE),
            ([(0, 150_000_000), (0, 150_000_000)], LINE),  # of one stream
        ],
    )
    def test_says_so_if_it_is_much(self, loads: list[tuple[float, int | None]], line: str) -> None:
        phases = [phase("load", "i", start, 9, sent=sent) for start, sent in loads]

        assert outdated_line([phase("restore", "cluster", 0, 3), *phases]) == line

    @pytest.mark.parametrize("kinds", [("create",), ("restore", "create"), ("take",)])
    def test_a_cluster_that_was_not_restored_has_no_snapshot(self, kinds: tuple[str, ...]) -> None:
        phases = [phase(kind, "cluster", 0, 3) for kind in kinds]

        assert outdated_line([*phases, phase("load", "i", 0, 9, sent=500_000_000)]) == ""


def test_a_kept_cluster_can_be_used_and_deleted_by_pasting() -> None:
    lines = kept_lines(
        "cluster kindinfra-1",
        kubeconfig=Path("/my project/kubeconfig"),
        delete=("kind", "delete", "cluster", "--name", "kindinfra-1"),
    )

    assert "\n".join(lines) == (
        "\n"
        "kept: cluster kindinfra-1\n"
        "  use it:    export KUBECONFIG='/my project/kubeconfig'\n"
        "  delete it: kind delete cluster --name kindinfra-1"
    )


@pytest.mark.parametrize(("number", "text"), [(0, "0 tests"), (1, "1 test"), (2, "2 tests")])
def test_numbers_and_nouns_agree(number: int, text: str) -> None:
    assert count(number, "test") == text
