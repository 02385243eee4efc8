"""The command that helm pipes a release's objects through: the images of this run, and labels.

    python -m pytest_kindinfra.postrenderer RULES < objects > objects

helm starts it for each release, so nothing slow is imported. RULES is a file that
`deploy/release.py` wrote; what was made of the objects is left in the file that it names.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.objects import flattened
from pytest_kindinfra.kube.rewrite import rewrite
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.references import PullSecret
from pytest_kindinfra.system.files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.model import KubeObject


# What JSON allows in a string and YAML does not, or takes for the end of a line.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What becomes of a release's objects.

    Attributes:
        images: Image reference as rendered to the one that containers shall run.
        pin: References that stay, but are not pulled again.
        placeholders: Declared image to its reference.
        labels: Added to all objects and pods.
        content: Put into pod templates.
        paths: Where custom resources name what they run: pairs of a kind and a path.
        beside: Further objects.
        pull: Name and registry of the Secret for pods that pull; empty for none.
        made: A file for what came of it.
    """

    images: dict[str, str] = field(default_factory=dict)
    pin: list[str] = field(default_factory=list)
    placeholders: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    content: str | None = None
    paths: list[list[str]] = field(default_factory=list)
    beside: list[KubeObject] = field(default_factory=list)
    pull: dict[str, str] = field(default_factory=dict)
    made: str

    @property
    def pull_secret(self) -> PullSecret | None:
        """The Secret for pods that pull, without its data; None for none."""
        return PullSecret(**self.pull) if self.pull else None

    def to_json(self) -> str:
        """Return the rules as a file has them."""
        return json.dumps(asdict(self), default=str)


def post_render(text: str, rules: Rules) -> list[Any]:
    """Return the objects of a stream of documents as they are to be applied.

    Raises:
        ValueError: It is no YAML.
    """
    found = [obj for document in load_documents(text) for obj in flattened(document)]
    return [_rewritten(obj, rules) for obj in (*found, *rules.beside)]


def to_stream(objects: Iterable[Any]) -> str:
    """Return documents of JSON, which YAML readers take for what it is.

    Written as YAML, a string that another reader takes for a number would become one.
    """
    texts = (json.dumps(obj, indent=2, ensure_ascii=False, default=str) for obj in objects)
    return "".join(f"---\n{_UNPRINTABLE.sub(_escaped, text)}\n" for text in texts)


def _rewritten(obj: Any, rules: Rules) -> Any:
    if not isinstance(obj, dict) or "kind" not in obj:
        return obj  # not for us to complain about: helm says where it comes from
    return rewrite(
        obj,
        images=rules.images,
        pin=rules.pin,
        placeholders=rules.placeholders,
        namespace=None,
        labels=rules.labels,
        content=rules.content,
        paths=rules.paths,
        pull=rules.pull_secret,
    )


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def main(arguments: list[str]) -> int:
    """Read objects from standard input and write them to standard output."""
    rules = Rules(**json.loads(Path(arguments[0]).read_text("utf-8")))
    try:
        objects = post_render(sys.stdin.buffer.read().decode(), rules)
    except ValueError as error:
        sys.stderr.write(f"kindinfra: what helm rendered cannot be read: {error}\n")
        return 1
    write_private(Path(rules.made), json.dumps(objects, default=str))
    sys.stdout.buffer.write(to_stream(objects).encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
