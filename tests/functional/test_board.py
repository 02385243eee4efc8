"""The live board on a terminal, beside pytest's own output, of which nothing may be lost."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.functional.project import PROMPT

if TYPE_CHECKING:
    from tests.functional.project import Project

BOARD = re.compile(r"^kindinfra  (\d+ s|\d+:\d\d)  |^[▸ ][•✓✗ ] (cluster|image|service) ")
CTRL_Z = "\x1a"
TESTS = """
@pytest.mark.parametrize("number", range(12))
def test_free(number): ...

@pytest.mark.kindinfra("api")
def test_api(): ...

@pytest.mark.kindinfra("slow")
def test_slow(): ...
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("db")
    project.service("api", image=True, needs=("db",))
    project.service("slow", image=True)
    said = "#8 [stage 3/12] RUN make\n#8 1.2 Compiling everything\n"
    project.behave("build slow", until="slow", says=said)
    project.tests(TESTS)
    return project


def row(lines: list[str], kind: str, name: str) -> str:
    """Return what the board says of that."""
    pattern = re.compile(rf"^..? *{kind} +{name} +(?:\d+ s )?(.*)")
    return next((found[1] for line in lines if (found := pattern.match(line))), "")


def remains(lines: list[str]) -> list[str]:
    return [line for line in lines if BOARD.search(line)]


@pytest.mark.parametrize("workers", [None, 2], ids=["one process", "two workers"])
def test_it_says_what_goes_on_and_leaves_nothing_behind(shop: Project, workers: int | None) -> None:
    with shop.on_terminal(workers=workers) as terminal:
        lines = terminal.until(
            lambda lines: (
                row(lines, "image", "slow") == "building 3/12: Compiling everything"
                and row(lines, "service", "api") == "ready"
            )
        )
        assert row(lines, "service", "slow") == "waiting for image slow"
        assert row(lines, "cluster", ".*") == "ready"
        assert row(lines, "service", "db") == "ready"
        assert any("2 of 3 services ready" in line for line in lines)
        assert lines.index(next(line for line in lines if BOARD.search(line))) > 0
        shop.open("slow")
        assert terminal.finish() == 0

        text = terminal.text()
        assert remains(text) == []
        dots = [line for line in text if re.fullmatch(r"(test_it.py )?\.+( .*)?", line)]
        assert sum(line.count(".") - line.count(".py") for line in dots) == 14, text
        assert sum("[100%]" in line for line in text) == 1
        assert any("14 passed" in line for line in text)
        assert "kindinfra: Traceback" not in "\n".join(text)


def test_output_is_the_same_as_without_it(shop: Project) -> None:
    shop.open("slow")
    texts = []
    for board in ("auto", "off"):
        with shop.on_terminal(
            "-v", f"--kindinfra-board={board}", "--kindinfra-progress=auto", workers=None
        ) as terminal:
            assert terminal.finish() == 0
            told = re.compile(r"^kindinfra +\d+\.\d s ")
            texts.append([line for line in terminal.text() if not told.search(line)])
            assert (b"services ready" in terminal.raw) == (board == "auto")

    with_board, without = (
        [re.sub(r"=+|\d+\.\d+s", "", line) for line in lines if "PASSED" in line or "===" in line]
        for lines in texts
    )
    assert with_board == without


def test_a_failed_build_is_told_at_once_and_in_full_at_the_end(shop: Project) -> None:
    shop.behave("build api", exit=1, complains="ERROR: process did not complete\n")
    with shop.on_terminal(workers=2) as terminal:
        lines = terminal.until(
            lambda lines: row(lines, "image", "api") == row(lines, "service", "api") == "failed"
        )
        assert any(re.search(r"^kindinfra +\d+\.\d s  \[api\] FAILED building", x) for x in lines)
        shop.open("slow")
        assert terminal.finish() == 1

        text = terminal.text()
        assert remains(text) == []
        assert 'kindinfra: image "api" failed to build:' in text
        assert any("1 error" in line for line in text)


@pytest.mark.parametrize("workers", [None, 2], ids=["one process", "two workers"])
def test_an_interrupt_leaves_a_clean_terminal(shop: Project, workers: int | None) -> None:
    with shop.on_terminal(workers=workers) as terminal:
        terminal.until_shown("Compiling everything")
        terminal.type("\x03")
        assert terminal.finish() == 2

        text = terminal.text()
        assert remains(text) == []
        assert any("KeyboardInterrupt" in line for line in text)
        assert terminal.raw.count(b"\x1b7") == terminal.raw.count(b"\x1b8")
    assert shop.standing() == []


def test_another_size_of_the_terminal_leaves_nothing_behind(shop: Project) -> None:
    with shop.on_terminal(workers=2) as terminal:
        terminal.until_shown("Compiling everything")
        terminal.resize(70, 40)
        terminal.until(
            lambda lines: len(remains(lines)) == 7 and all(len(x) < 70 for x in remains(lines))
        )
        shop.open("slow")
        assert terminal.finish() == 0
        assert remains(terminal.text()) == []


def test_many_services_fit_a_low_terminal(project: Project) -> None:
    names = [f"s{number}" for number in range(20)]
    for name in names:
        project.service(name, needs=("first",))
    project.service("first", image=True)
    project.behave("build first", until="first")
    project.tests(f"@pytest.mark.kindinfra(*{names})\ndef test_all(): ...\n")
    with project.on_terminal(workers=2, lines=16) as terminal:
        lines = terminal.until_shown(" waiting 21 ", " image   first ")
        assert len(remains(lines)) < 8
        project.open("first")
        assert terminal.finish() == 0
        assert remains(terminal.text()) == []


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--kindinfra-board=off",), {}),
        (("-s",), {}),
        (("-q", "-q"), {}),
        (("--kindinfra-progress=plain",), {}),
        (("--kindinfra-progress=off",), {}),
        ((), {"CI": "true"}),
        ((), {"TERM": "dumb"}),
        ((), {"KINDINFRA_BOARD": "off"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "-".join(value.values()),
)
def test_there_is_none_if_it_is_not_wanted(
    shop: Project, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    shop.open("slow")
    with shop.on_terminal(*arguments, workers=None, env=env) as terminal:
        assert terminal.finish() == 0
        assert b"services ready" not in terminal.raw
        assert b"\x1b7" not in terminal.raw


def test_without_a_terminal_there_is_none(shop: Project) -> None:
    shop.open("slow")
    run = shop.run(workers=2)

    assert run.code == 0
    assert "\x1b" not in run.out
    assert run.lines("[slow] built in")


def test_it_makes_way_for_the_debugger(shop: Project) -> None:
    shop.tests("""
        @pytest.mark.kindinfra("slow")
        def test_slow(): ...

        def test_free():
            number = 7
            breakpoint()
    """)
    with shop.on_terminal(workers=None) as terminal:
        lines = terminal.until(lambda lines: lines and lines[-1].startswith("(Pdb)"))
        assert remains(lines) == []
        terminal.type("number * 6\n")
        terminal.until_shown("42")
        assert remains(terminal.shown()) == []
        terminal.type("c\n")
        terminal.until_shown("Compiling everything")
        shop.open("slow")
        assert terminal.finish() == 0
        assert remains(terminal.text()) == []


class TestUp:
    def test_it_shows_the_same_board(self, shop: Project) -> None:
        with shop.command_on_terminal("up") as terminal:
            lines = terminal.until(lambda lines: row(lines, "service", "api") == "ready")
            assert row(lines, "image", "slow") == "building 3/12: Compiling everything"
            shop.open("slow")
            assert terminal.finish() == 0

            text = terminal.text()
            assert remains(text) == []
            assert any("slow.http" in line for line in text)

    def test_a_failure_is_told_above_it(self, shop: Project) -> None:
        shop.behave("build api", exit=1, complains="ERROR: process did not complete\n")
        with shop.command_on_terminal("up") as terminal:
            terminal.until_shown("[api] FAILED building", "Compiling everything")
            shop.open("slow")
            assert terminal.finish() == 1
            assert remains(terminal.text()) == []

    def test_an_interrupt_leaves_a_clean_terminal(self, shop: Project) -> None:
        with shop.command_on_terminal("up") as terminal:
            terminal.until_shown("Compiling everything")
            terminal.type("\x03")
            assert terminal.finish() in {1, 130, -signal.SIGINT}
            assert remains(terminal.text()) == []


def test_it_makes_way_for_the_shell_while_pytest_is_suspended(shop: Project) -> None:
    with shop.in_shell(workers=None) as terminal:
        terminal.until(lambda lines: row(lines, "service", "api") == "ready")

        terminal.type(CTRL_Z)
        lines = terminal.until_shown("Stopped", PROMPT)
        assert remains(lines) == []
        terminal.type("echo mean''while\n")
        terminal.until_shown("meanwhile")
        terminal.type("fg\n")

        lines = terminal.until(lambda lines: "building" in row(lines, "image", "slow"))
        assert row(lines, "service", "slow") == "waiting for image slow"
        assert any("meanwhile" in line for line in lines)
        shop.open("slow")
        terminal.until_shown("14 passed")
        assert remains(terminal.text()) == []


@pytest.mark.parametrize("workers", [None, 2], ids=["one process", "two workers"])
def test_the_stack_comes_up_while_pytest_is_suspended(shop: Project, workers: int | None) -> None:
    with shop.in_shell(workers=workers) as terminal:
        terminal.until(lambda lines: "building" in row(lines, "image", "slow"))
        terminal.type(CTRL_Z)
        terminal.until_shown("Stopped", PROMPT)
        shop.open("slow")
        ready = re.compile(r"\[slow\] ready in")
        log = shop.folder / ".kindinfra" / "latest" / "provisioner.log"
        terminal.until(lambda _: ready.search(log.read_text()))

        terminal.type("fg\n")

        terminal.until_shown("14 passed", PROMPT)
        text = "\n".join(terminal.text())
        assert remains(terminal.text()) == []
        assert "lost" not in text
        assert "ended before" not in text


def test_it_stays_away_while_pytest_goes_on_behind_the_shell(shop: Project) -> None:
    with shop.in_shell(workers=None) as terminal:
        terminal.until(lambda lines: row(lines, "service", "api") == "ready")
        terminal.type(CTRL_Z)
        terminal.until_shown("Stopped", PROMPT)
        terminal.type("bg\n")
        shop.open("slow")
        lines = terminal.until_shown("14 passed")
        assert remains(lines) == []
        text = b"".join(terminal.raw.partition(b"bg\r\n")[2:])
        assert b"services ready" not in text
