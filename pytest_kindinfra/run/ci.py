"""What CI services show of a run: foldable sections, annotations, a summary in Markdown. Pure.

GitHub Actions and GitLab are known by the variables that they set; elsewhere lines stay as they
are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.run.report import count
from pytest_kindinfra.run.table import recorded_needs, recorded_phases, rows_of, total_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_kindinfra.model import Phase


_MOST_ANNOTATIONS = 10
"""GitHub shows so many errors of one step, and drops the rest."""


_LONGEST_SUMMARY = 900_000
"""GitHub refuses a step's summary of more than 1 MiB."""


_NO_LETTER = re.compile(r"[^a-z0-9]+")


def folded(title: str, lines: Sequence[str], *, environ: Mapping[str, str], at: float) -> list[str]:
    """Return lines as a section that the CI service can fold; as they are where none is known.

    Args:
        title: What is shown of the section that is folded.
        lines: What is in it; no section is made of nothing.
        environ: The environment.
        at: Seconds since the epoch.
    """
    if lines and environ.get("GITHUB_ACTIONS") == "true":
        return [f"::group::{title}", *lines, "::endgroup::"]
    if lines and environ.get("GITLAB_CI") == "true":
        name = _NO_LETTER.sub("_", title.lower()).strip("_")
        start = f"\x1b[0Ksection_start:{at:.0f}:{name}[collapsed=true]\r\x1b[0K{title}"
        return [start, *lines, f"\x1b[0Ksection_end:{at:.0f}:{name}\r\x1b[0K"]
    return list(lines)


class SourceLine(NamedTuple):
    """A line of a file; an empty file and line 0 if it is not known."""

    file: str = ""
    line: int = 0


class RootCause(NamedTuple):
    """What went wrong by itself.

    Attributes:
        title: In one phrase: `image "api" failed to build`.
        text: The cause in full.
        place: Where it can be mended.
        evidence: The folder of the failed attempt of a test, in the run directory; may be empty.
    """

    title: str
    text: str
    place: SourceLine = SourceLine()
    evidence: str = ""


def error_commands(causes: Sequence[RootCause]) -> Iterator[str]:
    """Yield a workflow command of GitHub Actions for each root cause, at most ten.

    The format: docs.github.com, "Workflow commands for GitHub Actions".
    """
    for cause in causes[:_MOST_ANNOTATIONS]:
        where = {"file": cause.place.file, "line": str(cause.place.line or "")}
        parts = [f"{key}={_property(value)}" for key, value in where.items() if value]
        parts.append(f"title={_property(f'kindinfra: {cause.title}')}")
        yield f"::error {','.join(parts)}::{_data(cause.text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary(report: Mapping[str, Any], causes: Sequence[RootCause], *, folder: str) -> str:
    """Return a summary of a run in GitHub's Markdown.

    Args:
        report: run.json's content.
        causes: What went wrong.
        folder: The run directory, as it is to be shown.
    """
    outcome, phases = report["outcome"], recorded_phases(report)
    images = report["images"].values()
    unchanged = sum(bool(one.get("cached")) for one in images)
    services = count(len(report["plan"]["services"]), "service")
    size = f"{services}, {count(len(images), 'image')} ({unchanged} unchanged)."
    lines = [
        f"### kindinfra: {outcome['state']}",
        "",
        f"{size} {_escaped(total_line(phases, recorded_needs(report)))}",
        "",
        *_causes(causes, folder),
        *_table(phases),
        f"Artifacts: `{folder}` (`timeline.html`, `run.json`"
        + (", `events.txt`, `pods/`, `build/`, `kind/`)" if outcome["state"] == "failed" else ")"),
        "",
    ]
    text = "\n".join(lines) + "\n"
    return text if len(text) < _LONGEST_SUMMARY else f"{text[:_LONGEST_SUMMARY]}\n"


def _causes(causes: Sequence[RootCause], folder: str) -> Iterator[str]:
    for cause in causes:
        place = f" (`{cause.place.file}:{cause.place.line}`)" if cause.place.file else ""
        yield from (f"<details open><summary>{_escaped(cause.title)}{place}</summary>", "")
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", cause.text)), default=0))
        yield from (fence, cause.text, fence, "")
        if cause.evidence:
            yield from (f"Logs, events and failure: `{folder}/{cause.evidence}/`", "")
        yield from ("</details>", "")


def _table(phases: Sequence[Phase]) -> Iterator[str]:
    rows = rows_of(phases)
    if not rows:
        return
    yield from ("| phase | what | start | seconds | |", "| --- | --- | ---: | ---: | --- |")
    for row in rows:
        start = f"{row.start:.1f}" if row.phase else ""
        yield (
            f"| {row.phase} | {_escaped(row.what)} | {start} | {row.end - row.start:.1f} "
            f"| {_escaped(row.mark)} |"
        )
    yield ""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*")
