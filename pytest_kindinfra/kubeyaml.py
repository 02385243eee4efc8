"""Read YAML as kubectl and kind do, which is not quite as PyYAML does.

PyYAML makes a date of `2024-01-01`, the number 1342 of `22:22`, and stops at a bare `=`; all
three are strings to Kubernetes. PyYAML is imported at first use: loading the plugin must not.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG = "tag:yaml.org,2002:"
_REPLACED = {f"{_TAG}{name}" for name in ("timestamp", "value", "int", "float")}
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*|0o?[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)$")
_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)


def load_documents(text: str) -> Iterator[Any]:
    """Yield the parsed documents of a stream; empty ones are None.

    Raises:
        ValueError: It is no YAML; the text says what is wrong and in which line.
    """
    import yaml

    try:
        yield from yaml.load_all(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(_explained(error)) from error


def dump(value: Any) -> str:
    """Return `value` as one YAML document, in block style and in its own order."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False))


def copied(value: Any) -> Any:
    """Copy deeply, each part for itself.

    `copy.deepcopy` keeps one what a YAML anchor made one: with `labels: *labels`, labels meant
    for the pods would change the selector too.
    """
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, list) else value


def _explained(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark else ""
    what = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"{line}{what}"


@functools.cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("KubernetesLoader", (base,), {})
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    loader.add_implicit_resolver(f"{_TAG}int", _INT, list("-+0123456789"))
    loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))
    return loader
