"""The live board as text: rows in columns, coloured, cut to the terminal. Uses rich."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import set_cell_size
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pytest_kindinfra.run.board import BoardRow, fold, rows_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pytest_kindinfra.run.board import Scene


_NAME = 24


_KIND = 7


_TIME = 7


_STYLES = {"ready": "green", "failed": "red", "working": "cyan", "waiting": "bright_black"}


class Look(NamedTuple):
    """What a terminal can show.

    Attributes:
        width: Columns.
        height: Lines that the board may have.
        color: Whether escape codes for colours are wanted.
        unicode: Whether it shows more than ASCII.
    """

    width: int
    height: int
    color: bool = False
    unicode: bool = True


def draw(scene: Scene, look: Look, *, at: float) -> list[str]:
    """Return the lines of the board, none if there is nothing to show.

    Args:
        scene: What there is to show.
        look: What the terminal can show; no line is as wide as it, and none more than it has.
        at: The time, in seconds since the epoch.
    """
    if scene.over or look.height < 2:  # noqa: PLR2004 - the first line and one row
        return []
    out = io.StringIO()
    console = Console(
        file=out,
        width=look.width - 1,  # in the last column some terminals go to the next line
        force_terminal=look.color,
        no_color=not look.color,
        color_system="standard" if look.color else None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    console.print(picture(scene, look, at=at))
    return [line.rstrip() for line in out.getvalue().splitlines()][: look.height]


def picture(scene: Scene, look: Look, *, at: float) -> RenderableType:
    """Return what rich draws; arguments as for `draw`."""
    table = Table.grid(padding=(0, 1))
    widths = (2, _KIND, _name_width(look), _TIME)
    for width in widths[:-1]:
        table.add_column(width=width, no_wrap=True)
    table.add_column(width=_TIME, no_wrap=True, justify="right")
    # Of a column without a width rich would take the text's, and make all others narrower.
    rest = look.width - 1 - sum(widths) - len(widths)
    table.add_column(width=max(1, rest), no_wrap=True, overflow="ellipsis")
    for row in fold(rows_of(scene, at=at), height=look.height - 1):
        _add(table, row, look)
    return Group(_first_line(scene, look, at), table)


def _first_line(scene: Scene, look: Look, at: float) -> Text:
    ready, count = scene.ready
    services = "service" if count == 1 else "services"
    doing = "ending the run" if scene.ending else f"{ready} of {count} {services} ready"
    said = f"kindinfra  {elapsed(at - scene.since)}  {doing}"
    line = Text(said, style="bold", no_wrap=True, overflow="ellipsis")
    if not scene.ending:
        mark = _marks(look)["critical"]
        line.append(f"  ({mark} critical path)", style="not bold bright_black")
    return line


def _add(table: Table, row: BoardRow, look: Look) -> None:
    marks, style = _marks(look), _STYLES[row.state]
    critical = row.critical and row.state in {"working", "waiting"}
    mark = Text(marks["critical"] if critical else " ", style="bold yellow")
    mark.append(marks[row.state], style=style)
    name = Text(_cut(row.name, _name_width(look)), style="bold" if critical else "")
    seconds = "" if row.seconds is None else elapsed(row.seconds)
    text = Text(row.text, style=style if row.state in {"failed", "waiting"} else "")
    table.add_row(mark, Text(row.kind, style="bright_black"), name, seconds, text)


def _marks(look: Look) -> dict[str, str]:
    names = ("critical", "ready", "failed", "working", "waiting")
    return dict(zip(names, "▸✓✗• " if look.unicode else ">+x* ", strict=True))


def elapsed(seconds: float) -> str:
    """Return `42 s`, or `2:05` from a minute on."""
    whole = max(0, int(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"  # noqa: PLR2004 - a minute


def _name_width(look: Look) -> int:
    return max(8, min(_NAME, look.width // 4))


def _cut(name: str, width: int) -> str:
    """Return a name in so many columns; of a longer one both ends stay, which tell them apart."""
    if len(name) <= width:
        return set_cell_size(name, width).rstrip()
    left = (width - 1) // 2
    return f"{name[:left]}…{name[len(name) - (width - 1 - left) :]}"
