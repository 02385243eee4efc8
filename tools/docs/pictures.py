"""Draws docs/images/board.svg: the live board in the middle of an invented run."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pytest_kindinfra.model import Declaration, Image, Need, Plan, Service
from pytest_kindinfra.run.board import Scene
from pytest_kindinfra.run.drawing import Look, picture
from pytest_kindinfra.run.messages import Progress, Work

TARGET = Path(__file__).parents[2] / "docs" / "images" / "board.svg"
EPOCH = 1_800_000_000.0
WIDTH = 92
ABOVE = f"""$ pytest -n 2
{" test session starts ":=^{WIDTH}}
ready: 2/2 workers
kindinfra: 12 tests need 6 services from 3 images, cluster kindinfra-shop on docker
2 workers [57 items]
............................................."""
PLAN = Plan(
    declaration=Declaration(folder=Path()),
    images=(Image(name="base"), Image(name="api", needs=("base",)), Image(name="web")),
    services=(
        Service(name="postgres"),
        Service(name="redis"),
        Service(name="migrations", images=("api",), needs=(Need(name="postgres"),)),
        Service(name="api", images=("api",), needs=(Need(name="migrations"), Need(name="redis"))),
        Service(name="worker", images=("api",), needs=(Need(name="redis"),)),
        Service(name="web", images=("web",), needs=(Need(name="api"),)),
    ),
)
SETTLED = ("cluster", "image base", "image web", "service redis")


def main() -> None:
    """Write the file."""
    running = (
        _work("build", "api", 9, "7/12", "#14 11.2 Collecting sqlalchemy"),
        _work("load", "web", 39, "34 MB"),
        _work("wait", "postgres", 38, "Pending, ContainerCreating"),
    )
    scene = Scene(plan=PLAN, cluster="kindinfra-shop", since=EPOCH).after(
        Progress(running=running, settled=dict.fromkeys(SETTLED, True))
    )
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print(Text(ABOVE))
    console.print(picture(scene, Look(width=WIDTH + 1, height=20), at=EPOCH + 41))
    # Without the font from the network, a reader's own monospaced one is used.
    svg = re.sub(r"@font-face \{.*?\}\n", "", console.export_svg(title="pytest"), flags=re.DOTALL)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", "utf-8")


def _work(kind: str, subject: str, start: float, reached: str = "", says: str = "") -> Work:
    return Work(kind=kind, subject=subject, start=EPOCH + start, reached=reached, says=says)


if __name__ == "__main__":
    main()
