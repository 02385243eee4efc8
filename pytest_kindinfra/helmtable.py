"""Read the `helm` table of a service, and say everything that is wrong with it.

`set` comes in two forms that may be mixed, flat dotted keys and nested tables; what goes on is
nested, as a values file has it. Pure; it must not read files.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.model import Helm
from pytest_kindinfra.tables import Table, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RELEASE = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DOT = re.compile(r"(?<!\\)\.")
_APPLIED = ("manifests", "kustomize")


def read_helm(service: str, table: Table) -> Helm | None:
    """Return what a service's `helm` says, or None if there is none.

    Args:
        service: Its name, which is the release's unless another is given.
        table: The service's.
    """
    if (value := table.raw("helm")) is None:
        return None
    own = Table(f"{table.place.removesuffix(']')}.helm]", value, table.problems)
    release, namespace = own.text("release"), own.text("namespace")
    _check_names(service, release, namespace, own)
    helm = Helm(
        chart=own.path("chart") or Path(),
        values=tuple(Path(os.path.expanduser(text)) for text in own.texts("values")),  # noqa: PTH111
        set=_values(own),
        release=release,
        namespace=namespace,
    )
    if "chart" not in own and not own.broken:
        own.complain("has no chart")
    own.reject_unknown()
    return helm


def helm_first(table: Table) -> bool:
    """Whether `helm` stands before what is applied; between the two of that it cannot stand."""
    keys = [key for key in table.written if key in {"helm", *_APPLIED}]
    if "helm" in keys[1:-1]:
        table.complain(
            f"has helm between {keys[0]} and {keys[2]}, which are applied together:"
            " write it before or after both"
        )
    return keys[:1] == ["helm"] and len(keys) > 1


def _check_names(service: str, release: str | None, namespace: str | None, own: Table) -> None:
    if not _RELEASE.fullmatch(release or service):
        own.complain(
            f'release is "{release or service}", but must be a DNS label'
            " of at most 53 lower-case letters, digits and -"
        )
    if namespace and not _NAMESPACE.fullmatch(namespace):
        own.complain(
            f'namespace is "{namespace}", but must be a DNS label:'
            " at most 63 lower-case letters, digits and -"
        )


def _values(own: Table) -> dict[str, Any]:
    value = own.raw("set")
    if value is None:
        return {}
    if not isinstance(value, dict):
        own.complain(f"set must be a table of values, not {shown(value)}")
        return {}
    for key, strange in _strange(value):
        own.complain(f"set.{key} is {strange!r}, which no values file can hold: write a string")
    return _nested(value, own)


def _nested(value: Mapping[str, Any], own: Table) -> dict[str, Any]:
    """Return the table with its dotted keys taken apart; those of inner tables are names."""
    made: dict[str, Any] = {}
    for key, part in value.items():
        *path, last = (word.replace("\\.", ".") for word in _DOT.split(key))
        if not _put(made, path, last, part):
            own.complain(f'set."{key}" is said twice, or once as a value and once as a table')
    return made


def _put(made: dict[str, Any], path: list[str], last: str, value: Any) -> bool:
    """Put a value where it belongs; return whether nothing else was there."""
    for word in path:
        inner: Any = made.setdefault(word, {})
        if not isinstance(inner, dict):
            return False
        made = inner
    if isinstance(made.get(last), dict) and isinstance(value, dict):
        return all(_put(made[last], [], key, part) for key, part in value.items())
    if last in made:
        return False
    made[last] = value
    return True


def _strange(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what TOML has and YAML values have not: dates and times."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _strange(part, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for part in value:
            yield from _strange(part, key)
    elif not isinstance(value, str | int | float | bool):
        yield key, value
