"""What a failed build says: the instruction that failed and what it printed, without the frame.

Of BuildKit's plain progress, and of podman's steps. Pure; text it does not know stays as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import last_lines
from pytest_kindinfra.pulls import base_image_in, remedy_of_pull

if TYPE_CHECKING:
    from collections.abc import Iterator

_FRAME = re.compile(r"^\S.*?:(\d+)(?:-\d+)?\n-{20}\n((?:.*\n)*?)-{20}$", re.MULTILINE)
_FAILING_LINE = re.compile(r"^ *\d+ \| >>> ?(.*)$", re.MULTILINE)
_FAILED_STEP = re.compile(r"^#(\d+) ERROR: (.*)$", re.MULTILINE)
_ERROR = re.compile(r"^ERROR: (?:failed to (?:solve|build): )*(.*)$", re.MULTILINE)
_PODMAN_STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)$", re.MULTILINE)
_PODMAN_ERROR = re.compile(r"^Error: (.*)$", re.MULTILINE)
_LINES = 14
_CODE_LINES = 4


def buildkit_failure(output: str, *, dockerfile: str) -> str:
    """Return what a failed `docker buildx build` is about.

    Args:
        output: What it printed, with plain progress.
        dockerfile: The Dockerfile as the user knows it.
    """
    frames, errors = list(_FRAME.finditer(output)), _ERROR.findall(output)
    if not frames or not errors:
        return output
    code = _FAILING_LINE.findall(frames[-1][2])
    lines = [f"{dockerfile}:{frames[-1][1]}: {code[0].strip() if code else ''}"]
    lines += [f"  {line.strip()}" for line in code[1:_CODE_LINES]]
    lines += ["  ..."] if len(code) > _CODE_LINES else []
    failed = _FAILED_STEP.findall(output)
    if failed:
        printed = last_lines("\n".join(_printed_by(failed[-1][0], output)), _LINES)
        lines += [f"  | {line}" for line in printed.splitlines()]
    return "\n".join([*lines, errors[-1], *_pull_fix(output, "docker")])


def podman_failure(output: str, *, dockerfile: str) -> str:
    """Return what a failed `podman build` is about; it names no line of the Dockerfile."""
    steps, errors = list(_PODMAN_STEP.finditer(output)), _PODMAN_ERROR.findall(output)
    if not steps or not errors:
        return output
    printed = output[steps[-1].end() :].partition("\nError: ")[0]
    shown = last_lines(printed, _LINES).splitlines()
    lines = [f"{dockerfile}: {steps[-1][1]}", *(f"  | {line}" for line in shown)]
    return "\n".join([*lines, errors[-1], *_pull_fix(output, "podman")])


def _printed_by(step: str, output: str) -> Iterator[str]:
    """Yield what one step printed; each line begins with the step's number and a time."""
    for line in output.splitlines():
        number, _, rest = line.partition(" ")
        time, _, text = rest.partition(" ")
        if number == f"#{step}" and re.fullmatch(r"\d+\.\d+", time):
            yield text


def _pull_fix(output: str, program: str) -> tuple[str, ...]:
    name, said = base_image_in(output)
    if not name:
        return ()
    works = f"`{program} pull {name}` works (name, network, proxy, login)"
    remedy = remedy_of_pull(said) or f"see that {works}, or load the image into the engine"
    return (f"To fix: {remedy}",)
