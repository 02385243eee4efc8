"""`timeline.html` of a run, opened in a headless Chromium where there is one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.functional.project import Project, Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True)
    project.service("web", needs=("api",))
    project.tests("""
        @pytest.mark.kindinfra("web")
        def test_web(kindinfra): ...

        def test_wrong():
            assert 1 == 2
    """)
    return project


def data_of(run: Run) -> dict[str, Any]:
    page = (Path(run.folder) / "timeline.html").read_text()
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_it_has_the_phases_and_the_tests_of_all_workers(shop: Project) -> None:
    run = shop.run(workers=2)

    rows = {row["name"]: row for row in data_of(run)["rows"]}
    tests = {
        bar["title"] for name in ("gw0", "gw1") for bar in rows.get(name, {"bars": []})["bars"]
    }
    assert {"cluster", "api", "web"} <= rows.keys()
    assert tests == {"test_it.py::test_web", "test_it.py::test_wrong"}
    assert rows["web"]["needs"] == ["api"]


def test_the_axis_begins_with_the_run_though_a_worker_crashed(shop: Project) -> None:
    shop.tests("""
        @pytest.mark.kindinfra("web")
        def test_web(kindinfra): ...

        def test_crash():
            os._exit(1)
    """)

    run = shop.run("--max-worker-restart=1", workers=1)

    bars = [bar for row in data_of(run)["rows"] for bar in row["bars"]]
    crashed = [bar for bar in bars if bar["title"] == "test_it.py::test_crash"]
    assert max(bar["start"] for bar in bars) < 60
    assert crashed
    assert all(bar["failed"] for bar in crashed)
    assert "crashed while running" in crashed[-1]["cause"]


def test_a_test_that_was_run_again_has_the_times_of_its_last_attempt(shop: Project) -> None:
    shop.tests("""
        import time

        @pytest.mark.kindinfra("web")
        def test_web(kindinfra): ...

        def test_flaky():
            again = os.path.exists("tried")
            open("tried", "w").close()
            time.sleep(0 if again else 1.5)
            assert again
    """)

    run = shop.run("-p", "rerunfailures", "--reruns=1", workers=None)

    bars = [bar for row in data_of(run)["rows"] for bar in row["bars"]]
    last = [bar for bar in bars if bar["title"] == "test_it.py::test_flaky"]
    assert last
    assert max(bar["end"] for bar in last) - min(bar["start"] for bar in last) < 1.4
    assert not any(bar["failed"] for bar in last)


def test_up_writes_one_too(shop: Project) -> None:
    assert shop.command("up").returncode == 0

    assert Path(shop.newest_folder(), "timeline.html").exists()


@pytest.fixture
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
class TestInABrowser:
    @pytest.fixture
    def page(self, shop: Project, browser: Browser, request: pytest.FixtureRequest) -> Page:
        shop.behave("build api", exit=1, complains="no compiler")
        run = shop.run(workers=2)
        scheme: Literal["light", "dark"]
        scheme, width = getattr(request, "param", ("light", 1200))
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 700})
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text))
        page.goto(f"file://{run.folder}/timeline.html")
        return page

    def test_a_click_shows_cause_and_log(self, page: Page, tmp_path: Path) -> None:
        page.get_by_role("button", name=re.compile("^build, ")).click()

        details = page.locator("#details")
        assert "build api" in details.inner_text()
        assert "failed" in details.inner_text()
        assert "no compiler" in details.inner_text()
        href = details.get_by_role("link").first.get_attribute("href")
        assert href == "build/api.log"
        assert (Path(page.url.removeprefix("file://")).parent / href).exists()
        assert page.screenshot(path=tmp_path / "page.png")
        assert self.errors == []

    def test_the_filter_leaves_what_matches(self, page: Page) -> None:
        page.locator("#filter").fill("test_wrong")

        names = page.locator(".row:not(.group):not(.hidden) .name").all_inner_texts()
        assert len(names) == 1
        assert names[0].startswith("gw")

    def test_a_kind_can_be_left_out(self, page: Page) -> None:
        page.get_by_role("button", name="create", exact=True).click()

        assert page.locator(".bar[data-kind=create]:visible").count() == 0
        assert page.locator(".bar[data-kind=build]:visible").count() == 1

    def test_zoom_makes_it_wider_and_back(self, page: Page) -> None:
        def width() -> float:
            return float(page.evaluate("document.getElementById('chart').offsetWidth"))

        before = width()
        page.get_by_role("button", name="zoom in").click()
        closer = width()
        page.get_by_role("button", name="all").click()

        assert closer == pytest.approx(2 * before, rel=0.02)
        assert width() == before

    @pytest.mark.parametrize("page", [("dark", 390)], indirect=True)
    def test_on_a_phone_in_the_dark_nothing_sticks_out(self, page: Page) -> None:
        wide = page.evaluate("document.documentElement.scrollWidth")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")

        assert wide <= 390
        assert colour == "rgb(20, 23, 28)"
        assert self.errors == []
