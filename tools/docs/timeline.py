"""Draws docs/images/timeline.png: the timeline of an invented run, as Chromium shows it.

It needs Debian's package chromium (`CHROMIUM=PATH` for another one) and pip's playwright.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from pytest_kindinfra.run.page import write_timeline

TARGET = Path(__file__).parents[2] / "docs" / "images" / "timeline.png"
EPOCH = 1_800_000_000.0
WIDTH, HEIGHT = 1000, 640
MOST_BYTES = 150_000
SERVICES: dict[str, tuple[list[str], list[str]]] = {
    "postgres": ([], []),
    "redis": ([], []),
    "migrations": (["postgres"], ["api"]),
    "api": (["migrations", "redis"], ["api"]),
    "worker": (["redis"], ["api"]),
    "web": (["api"], ["web"]),
}
PHASES = (
    ("create", "cluster", 0.4, 21.6), ("build", "base", 0.4, 8.9), ("build", "web", 0.5, 14.2),
    ("build", "api", 8.9, 24.8), ("load", "base, web", 18.1, 20.3), ("load", "api", 24.8, 26.9),
    ("deploy", "postgres", 21.7, 22.0), ("wait", "postgres", 22.0, 26.4),
    ("deploy", "redis", 21.7, 21.9), ("wait", "redis", 21.9, 24.1),
    ("deploy", "migrations", 26.9, 27.1), ("wait", "migrations", 27.1, 29.6),
    ("deploy", "worker", 26.9, 27.2), ("wait", "worker", 27.2, 29.1),
    ("deploy", "api", 29.6, 29.8), ("wait", "api", 29.8, 33.0),
    ("deploy", "web", 33.0, 33.2), ("wait", "web", 33.2, 35.5),
)  # fmt: skip
TESTS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "gw0": (
        *((f"test_units.py::test_{number}", 0.6 + number, 1.5 + number) for number in range(9)),
        ("test_db.py::test_rows", 9.6, 28.4),
        ("test_api.py::test_orders", 28.4, 37.2),
        ("test_api.py::test_refunds", 37.2, 39.9),
    ),
    "gw1": (
        *((f"test_model.py::test_{number}", 0.6 + number, 1.5 + number) for number in range(7)),
        ("test_web.py::test_login", 7.6, 38.1),
        ("test_web.py::test_checkout", 38.1, 42.0),
    ),
}
READY = {"test_db.py::test_rows": 26.4, "test_api.py::test_orders": 33.0, "test_web.py::test_login": 35.5}  # noqa: E501 # fmt: skip
FAILED = "test_api.py::test_refunds"


def main() -> None:
    """Write the file.

    Raises:
        SystemExit: The picture is larger than the README should load.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "20261128-171242-b9c895"
        run.mkdir()
        write_timeline(run, report(), tests())
        take(run / "timeline.html")
    if (size := TARGET.stat().st_size) > MOST_BYTES:
        sys.exit(f"{TARGET} has {size} bytes, more than {MOST_BYTES}")


def report() -> dict[str, Any]:
    """Return what run.json would have."""
    return {
        "plan": {
            "cluster": "kindinfra-shop",
            "images": ["base", "api", "web"],
            "image_needs": {"base": [], "api": ["base"], "web": []},
            "services": [
                {"name": name, "needs": dict.fromkeys(needs, "ready"), "images": images}
                for name, (needs, images) in SERVICES.items()
            ],
        },
        "phases": [
            {"name": f"{kind} {what}", "kind": kind, "subject": what, "ok": True,
             "start": EPOCH + start, "end": EPOCH + end}
            for kind, what, start, end in PHASES
        ],
        "images": {name: {} for name in ("base", "api", "web")},
        "endpoints": {},
        "outcome": {"state": "failed", "failures": {}, "kept": False},
    }  # fmt: skip


def tests() -> list[dict[str, Any]]:
    """Return what is known of each test."""
    return [
        {"test": name, "worker": worker, "outcome": "failed" if name == FAILED else "passed",
         "start": EPOCH + start, "setup_end": EPOCH + READY.get(name, start + 0.1),
         "end": EPOCH + end, "cause": "assert 402 == 200" if name == FAILED else "", "logs": []}
        for worker, found in TESTS.items() for name, start, end in found
    ]  # fmt: skip


def take(page: Path) -> None:
    """Have a browser show the page, and keep what it shows."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        shown.goto(page.as_uri())
        shown.screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
