"""Tags by a template, beside the tag that is the content (docs/decisions/0014).

The fields are those of teams that name images after who built them when and from which commit.
Pure; it must not know where their values come from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_kindinfra.errors import KindInfraError

FIELDS = ("service", "user", "git", "time", "content", "random")

_FIELD = re.compile(r"\{(\w*)\}")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_FOREIGN = re.compile(r"[^\w.-]", re.ASCII)
_NO_COMMIT = "nogit"
_COMMIT_DIGITS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What fields of a template stand for, the same for all images of a run.

    Attributes:
        user: Who runs it.
        commit: The commit that is checked out, None without git.
        time: When the run began, in whole seconds since the epoch.
        random: Letters and digits that no other run has.
    """

    user: str
    commit: str | None
    time: int
    random: str


def check_template(template: str) -> str:
    """Return the template.

    Raises:
        ValueError: It has other fields, or makes no tag.
    """
    fields = _FIELD.findall(template)
    if any(field not in FIELDS for field in fields) or not _TAG.fullmatch(
        _FIELD.sub("x", template)
    ):
        msg = f'"{template}" makes no tag'
        raise ValueError(msg)
    return template


def make_tag(template: str, *, image: str, content: str, around: Circumstances) -> str:
    """Return the tag of one image.

    Args:
        template: Text with fields in braces.
        image: The declared name, which `{service}` stands for.
        content: The tag that is its content.
        around: The other fields.

    Raises:
        KindInfraError: That is no tag: too long.
    """
    values = {
        "service": image,
        "user": _FOREIGN.sub("-", around.user),
        "git": (around.commit or _NO_COMMIT)[:_COMMIT_DIGITS],
        "time": str(around.time),
        "content": content,
        "random": around.random,
    }
    tag = _FIELD.sub(lambda match: values[match[1]], template)
    if not _TAG.fullmatch(tag):
        msg = (
            f'image "{image}": the template "{template}" makes "{tag}", which is no tag\n'
            "To fix: a shorter template; a tag has 128 characters at most"
        )
        raise KindInfraError(msg)
    return tag
