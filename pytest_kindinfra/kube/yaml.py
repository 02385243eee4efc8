"""Read YAML and JSON as kubectl and kind do, which is not quite as PyYAML does.

PyYAML makes a date of `2024-01-01`, the number 1342 of `22:22`, and stops at a bare `=`; all
three are strings to Kubernetes. A document that begins with `{` is read as JSON if it is JSON:
YAML 1.1 knows no surrogate pairs. Keys become strings, since JSON has no others.
PyYAML is imported at first use: loading the plugin must not.
"""

from __future__ import annotations

import functools
import json
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


_BYTE_ORDER_MARK = "\ufeff"


_SEPARATOR = re.compile(r"^---[ \t]*(?:#.*)?$", re.MULTILINE)


_BEGINS_AS_JSON = re.compile(r"(?:\A|^---[ \t]*(?:#.*)?$)\s*\{", re.MULTILINE)


_DIRECTIVE = re.compile(r"^%", re.MULTILINE)


_NOTHING = re.compile(r"(?:\s|#.*)*")


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def load_documents(text: str) -> Iterator[Any]:
    """Yield the parsed documents of a stream as JSON has them; empty ones are None.

    Raises:
        ValueError: It is no YAML; the text says what is wrong and in which line.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    mixed = _BEGINS_AS_JSON.search(text) and not _DIRECTIVE.search(text)
    for document in _mixed_documents(text) if mixed else _yaml_documents(text):
        yield as_json(document)


def as_json(value: Any) -> Any:
    """Return a copy of `value` as JSON has it: keys are strings, as Kubernetes' own readers do it.

    Raises:
        ValueError: A key is null or a collection, or a value contains itself.
    """
    try:
        return _as_json(value, {})
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise ValueError(msg) from error


def _mixed_documents(text: str) -> Iterator[Any]:
    """Yield the documents of a stream of which some may be JSON."""
    starts = [0, *(match.end() for match in _SEPARATOR.finditer(text))]
    ends = [*(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        part = text[start:end]
        if _NOTHING.fullmatch(part):
            if number:  # nothing before the first separator is no document
                yield None
        elif (values := _json_values(part)) is not None:
            yield from values
        else:
            yield from _yaml_documents("\n" * text.count("\n", 0, start) + part)


def _json_values(text: str) -> list[Any] | None:
    """Return the JSON values of a text, one behind the other; None if it is not JSON."""
    decoder, values, rest = json.JSONDecoder(parse_constant=_refuse), [], text.strip()
    if not rest.startswith("{"):
        return None
    try:
        while rest:
            value, end = decoder.raw_decode(rest)
            values.append(value)
            rest = rest[end:].lstrip()
    except ValueError:
        return None
    return values


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity, which Python takes and JSON does not have


def _yaml_documents(text: str) -> Iterator[Any]:
    import yaml

    try:
        yield from yaml.load_all(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(_explained(error)) from error
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise ValueError(msg) from error


def _as_json(value: Any, seen: dict[int, Any]) -> Any:
    """Convert a value; what an anchor made one stays one, so that no text can grow without end."""
    if isinstance(value, dict | list):
        if id(value) not in seen:
            seen[id(value)] = None  # being converted
            made = (
                {key_text(key): _as_json(part, seen) for key, part in value.items()}
                if isinstance(value, dict)
                else [_as_json(part, seen) for part in value]
            )
            seen[id(value)] = made
        elif seen[id(value)] is None:
            msg = "an anchor contains itself"
            raise ValueError(msg)
        return seen[id(value)]
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)  # as Go's readers do
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")  # !!binary
    return value


def key_text(key: Any) -> str:
    """Return a key as Kubernetes' YAML reader writes it (sigs.k8s.io/yaml).

    Raises:
        ValueError: It is null or a collection.
    """
    if isinstance(key, str):
        return _LONE_SURROGATE.sub("\ufffd", key)
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, float):
        return _float_key(key)
    if isinstance(key, int):
        return str(key)
    msg = f"key {'null' if key is None else repr(key)} is no string: write it in quotes"
    raise ValueError(msg)


def _float_key(key: float) -> str:
    if key != key or key in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN
        return {"inf": ".inf", "-inf": "-.inf"}.get(str(key), ".nan")
    short = f"{key:g}"
    return short if float(short) == key else repr(key)


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
