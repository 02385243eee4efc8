"""What the board says, as a whole: the text is what people see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kindinfra.model import Declaration, Image, Need, Plan, Service
from pytest_kindinfra.run.board import BoardRow, Scene, critical_names, fold, rows_of
from pytest_kindinfra.run.drawing import Look, draw, elapsed
from pytest_kindinfra.run.messages import Progress, Work
from pytest_kindinfra.system.timeline import PHASE_KINDS

EPOCH = 1_800_000_000.0
AT = EPOCH + 42
PLAN = Plan(
    declaration=Declaration(folder=Path()),
    images=(Image(name="base"), Image(name="api", needs=("base",)), Image(name="web")),
    services=(
        Service(name="db"),
        Service(name="api", images=("api",), needs=(Need(name="db"),)),
        Service(name="web", images=("web",)),
    ),
)
SCENE = Scene(plan=PLAN, cluster="shop", since=EPOCH)
WIDE = Look(width=100, height=20)


def work(kind: str, subject: str, start: float, reached: str = "", says: str = "") -> Work:
    return Work(kind=kind, subject=subject, start=EPOCH + start, reached=reached, says=says)


def scene(*running: Work, settled: dict[str, bool] | None = None) -> Scene:
    return SCENE.after(Progress(running=running, settled=settled or {}))


def drawn(shown: Scene, look: Look = WIDE) -> str:
    return "\n".join(draw(shown, look, at=AT))


def texts(shown: Scene) -> dict[str, str]:
    return {f"{row.kind} {row.name}": row.text for row in rows_of(shown, at=AT)}


BUSY = scene(
    work("wait", "cluster", 40),
    work("build", "api", 11, "12/20", "#8 4.21 Collecting requests"),
    work("load", "web", 39, "34 MB"),
    settled={"image base": True, "image web": True},
)


class TestThePicture:
    def test_it_says_of_everything_what_it_does_or_waits_for(self) -> None:
        assert drawn(BUSY) == (
            "kindinfra  42 s  0 of 3 services ready  (▸ critical path)\n"
            "▸• cluster shop                         2 s waiting until nodes and DNS are ready\n"
            " ✓ image   base                             built\n"
            " • image   api                         31 s building 12/20: Collecting requests\n"
            " • image   web                          3 s loading 34 MB\n"
            "▸  service db                               waiting for the cluster\n"
            "▸  service api                              waiting for the cluster, image api, "
            "service db\n"
            "   service web                              waiting for the cluster, image web"
        )

    def test_services_on_their_way_are_shown_with_what_is_in_the_way(self) -> None:
        shown = scene(
            work("wait", "db", 2, "Pending", "ImagePullBackOff for 14 s: postgres:16"),
            work("deploy", "web", 41),
            settled={
                "cluster": True, "image base": True, "image api": False, "image web": True,
                "service api": False,
            },
        )  # fmt: skip

        assert drawn(shown) == (
            "kindinfra  42 s  0 of 3 services ready  (▸ critical path)\n"
            " ✓ cluster shop                             ready\n"
            " ✓ image   base                             built\n"
            " ✗ image   api                              failed\n"
            " ✓ image   web                              built\n"
            " • service db                          40 s starting: Pending: ImagePullBackOff for "
            "14 s: postgres…\n"
            " ✗ service api                              failed\n"
            "▸• service web                          1 s applying"
        )

    def test_in_colour_it_says_the_same(self) -> None:
        import re

        coloured = drawn(BUSY, WIDE._replace(color=True))

        assert "\x1b[" in coloured
        plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
        assert [line.rstrip() for line in plain.splitlines()] == drawn(BUSY).splitlines()

    def test_without_unicode_it_has_ascii_only(self) -> None:
        assert drawn(BUSY, WIDE._replace(unicode=False)).isascii()

    @pytest.mark.parametrize("width", [40, 60, 80, 200])
    @pytest.mark.parametrize("height", [1, 2, 4, 8, 30])
    def test_it_fits_the_terminal(self, width: int, height: int) -> None:
        lines = draw(BUSY, Look(width=width, height=height), at=AT)
        kinds = ("cluster", "image", "service", "ready", "waiting", "more")

        assert len(lines) <= height
        assert all(len(line) < width for line in lines)
        assert all(line[3:].startswith(kinds) for line in lines[1:])
        assert bool(lines) == (height > 1)

    def test_at_the_end_of_a_run_it_shows_what_is_being_done_and_no_more(self) -> None:
        ending = replace(scene(work("delete", "cluster", 40)), ending=True)

        assert drawn(ending) == (
            "kindinfra  42 s  ending the run\n • cluster shop                         2 s deleting"
        )

    def test_once_all_is_decided_there_is_nothing(self) -> None:
        settled = {
            "cluster": True, "service db": True, "service api": False, "service web": True,
        }  # fmt: skip

        assert drawn(scene(settled=settled)) == ""
        assert drawn(scene(work("build", "web", 1), settled=settled)) != ""
        assert drawn(replace(scene(), ending=True)) == ""

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(-1, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1:00"), (605, "10:05")],
    )
    def test_times_are_short(self, seconds: float, text: str) -> None:
        assert elapsed(seconds) == text


class TestRows:
    def test_an_image_that_was_built_is_not_to_be_built_though_its_result_is_not_there(
        self,
    ) -> None:
        built = scene(work("build", "base", 1)).after(Progress())

        assert texts(built)["image base"] == "built"

    def test_an_image_is_loaded_once_its_load_has_ended(self) -> None:
        settled = {"image web": True}
        loading = scene(work("load", "web", 1), settled=settled)

        assert texts(loading.after(Progress(settled=settled)))["image web"] == "loaded"

    @pytest.mark.parametrize("kind", ["build", "push", "load"])
    def test_what_is_done_with_an_image_is_in_its_row(self, kind: str) -> None:
        doing = PHASE_KINDS[kind].doing

        assert texts(scene(work(kind, "web", 1)))["image web"] == doing

    def test_an_image_that_only_manifests_name_has_a_row_while_it_is_loaded(self) -> None:
        shown = scene(work("load", "postgres:16", 41, "7 MB"))

        assert texts(shown)["image postgres:16"] == "loading 7 MB"

    def test_services_before_the_nodes_do_not_wait_for_the_cluster(self) -> None:
        plan = replace(PLAN, services=(Service(name="cni", before="nodes"),))

        assert texts(replace(SCENE, plan=plan))["service cni"] == "about to start"

    def test_a_service_waits_for_images_that_are_being_loaded(self) -> None:
        plan = replace(PLAN, external={"db": ("postgres:16",)})
        loading = Progress(
            running=(work("load", "postgres:16", 1), work("load", "web", 1)),
            settled={"cluster": True, "image web": True},
        )
        shown = texts(replace(SCENE, plan=plan).after(loading))

        assert shown["service db"] == "waiting for image postgres:16"
        assert shown["service web"] == "waiting for image web"

    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("#12 8.31 Collecting torch", "Collecting torch"),
            ("#12 [web 3/7] RUN make", "[web 3/7] RUN make"),
            ("STEP 3/7: RUN make", "STEP 3/7: RUN make"),
            ("\x1b[31mred\x1b[0m\ttext", "[31mred[0mtext"),
        ],
    )
    def test_what_a_build_printed_is_plain_text(self, said: str, shown: str) -> None:
        building = scene(work("build", "web", 1, says=said))

        assert texts(building)["image web"] == f"building: {shown}"


class TestFolding:
    rows = (
        BoardRow("cluster", "shop", "ready"),
        BoardRow("image", "api", "ready"),
        BoardRow("service", "api", "working", critical=True),
        BoardRow("service", "db", "working"),
        BoardRow("service", "mq", "failed"),
        BoardRow("service", "web", "waiting"),
        BoardRow("service", "shop", "waiting"),
    )

    def folded(self, height: int) -> list[str]:
        return [
            f"{row.kind} {row.name} {row.text}".strip() for row in fold(self.rows, height=height)
        ]

    def test_what_fits_stays(self) -> None:
        assert fold(self.rows, height=7) == list(self.rows)

    def test_what_is_ready_shares_a_row_first_then_what_waits(self) -> None:
        six = ["service api", "service db", "service mq", "service web", "service shop"]

        assert self.folded(6) == [*six, "ready 2 shop, api"]
        assert self.folded(5) == [*six[:3], "ready 2 shop, api", "waiting 2 web, shop"]

    def test_then_what_failed_and_the_critical_path_stay(self) -> None:
        assert self.folded(3) == ["service api", "service mq", "more 3 rows"]


class TestTheCriticalPath:
    def test_it_is_the_longest_chain_by_the_seconds_of_earlier_runs(self) -> None:
        known = {"build web": 90.0, "build base": 5.0, "build api": 5.0, "wait db": 3.0}

        assert critical_names(replace(SCENE, seconds=known), at=EPOCH) == {
            "image web", "service web",
        }  # fmt: skip

    def test_what_was_done_of_it_counts_no_more(self) -> None:
        known = {"build web": 90.0, "build api": 60.0}
        late = replace(scene(work("build", "web", 0)), seconds=known)

        assert critical_names(late, at=EPOCH + 80) >= {"image api", "service api"}

    def test_without_any_memory_it_goes_through_the_cluster(self) -> None:
        assert critical_names(SCENE, at=EPOCH) == {"cluster", "service db", "service api"}

    def test_what_is_there_is_not_on_it(self) -> None:
        settled = dict.fromkeys(("cluster", "image api", "image base", "service db"), True)

        assert critical_names(scene(settled=settled), at=EPOCH) == {"image web", "service web"}

    def test_there_is_none_when_all_is_there(self) -> None:
        names = ("cluster", "image base", "image api", "image web",
                 "service db", "service api", "service web")  # fmt: skip

        assert critical_names(scene(settled=dict.fromkeys(names, True)), at=EPOCH) == frozenset()
