"""The JSON Schema of kindinfra.toml, made of what the reader of the declaration asks for.

Editors show it and complete by it. It knows keys, types and the form of names; what depends on
other keys or on files only the reader knows.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.model import ClusterSpec, Declaration, EndpointSpec, Helm, Image, Service
from pytest_kindinfra.plan.declaration import (
    _DURATION,
    _FUNCTION,
    _IMAGE_NAME,
    _LABEL,
    _LEVELS,
    _REGISTRY,
    parse_declaration,
)
from pytest_kindinfra.plan.options import OPTIONS
from pytest_kindinfra.plan.tables import Asked

_EVERY_TABLE = {
    "images": {"x": {}},
    "services": {"x": {"endpoints": {"y": {}}, "helm": {}}},
}
"""A declaration in which the reader comes to each kind of table."""


_RECORDS = {
    "[cluster]": ClusterSpec,
    "[images.x]": Image,
    "[services.x]": Service,
    "[services.x.endpoints.y]": EndpointSpec,
    "[services.x.helm]": Helm,
}


_NEED = rf"^{_LABEL.pattern}(:({'|'.join(_LEVELS)}))?$"


_FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("[cluster]", "namespace"): {"pattern": f"^{_LABEL.pattern}$"},
    ("[cluster]", "ttl"): {"pattern": f"^{_DURATION.pattern}$"},
    ("[cluster]", "registry"): {"pattern": f"^{_REGISTRY.pattern}$"},
    ("[services.x]", "needs"): {"items": {"type": "string", "pattern": _NEED}},
    ("[services.x]", "run"): {"pattern": f"^{_FUNCTION.pattern}$"},
    ("[services.x]", "before"): {"enum": ["nodes"]},
    ("[services.x]", "per"): {"enum": ["worker"]},
    ("[services.x.endpoints.y]", "path"): {"pattern": "^/"},
    ("[services.x.helm]", "set"): {"type": "object"},
}
"""What the reader checks of a value beyond its type."""


_TITLES = {
    "image": "The declared image that it runs",
    "images": "The declared images that it runs",
}


_TYPES: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "int": {"type": "integer", "minimum": 1},
    "float": {"type": "number", "exclusiveMinimum": 0},
}


def declaration_schema() -> dict[str, Any]:
    """Return the schema, in draft 7, which Taplo and the editors that use it know."""
    asked = Asked()
    with suppress(DeclarationError):  # of tables that lack what they must have
        parse_declaration(_EVERY_TABLE, folder=Path(), source="kindinfra.toml", asked=asked)
    service = _table("[services.x]", asked)
    service["properties"]["endpoints"] |= _tables(
        _table("[services.x.endpoints.y]", asked, required=["port"]), names=_LABEL
    )
    service["properties"]["helm"] |= _table("[services.x.helm]", asked, required=["chart"])
    properties = asked.schemas[""] | {
        "cluster": _table("[cluster]", asked),
        "images": _tables(_table("[images.x]", asked), names=_IMAGE_NAME)
        | {"properties": _of_all_images(asked)},
        "services": _tables(service, names=_LABEL),
        "options": _options(),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "kindinfra.toml",
        "description": "What pytest-kindinfra builds and deploys",
        "type": "object",
        "properties": dict(sorted(properties.items())),
        "additionalProperties": False,
    }


def _of_all_images(asked: Asked) -> dict[str, Any]:
    """Return what the keys of `[images]` may be; an image may have such a name too."""
    image, said = _table("[images.x]", asked), _attributes(Declaration)
    return {
        key: {"anyOf": [schema, image], "description": said[key]}
        for key, schema in sorted(asked.schemas["[images]"].items())
    }


def _table(place: str, asked: Asked, *, required: list[str] | None = None) -> dict[str, Any]:
    descriptions = _attributes(_RECORDS[place]) | _TITLES
    properties = {
        key: schema
        | _FORMS.get((place, key), {})
        | ({"description": descriptions[key]} if key in descriptions else {})
        for key, schema in sorted(asked.schemas[place].items())
    }
    table: dict[str, Any] = {"type": "object", "properties": properties}
    return {**table, "additionalProperties": False, **({"required": required} if required else {})}


def _tables(table: dict[str, Any], *, names: re.Pattern[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^({names.pattern})$"},
        "additionalProperties": table,
    }


def _options() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            row.key: ({"enum": list(row.choices)} if row.choices else _type(row.type_name))
            | {"description": row.help}
            for row in sorted(OPTIONS, key=lambda row: row.key)
        },
        "additionalProperties": False,
    }


def _type(annotation: str) -> dict[str, Any]:
    return _TYPES.get(annotation, {"type": "string"})


def _attributes(record: type) -> dict[str, str]:
    """Return what a record's docstring says of its attributes, each in one line."""
    _, _, text = (record.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^ {8}(\w+): (.+(?:\n {9,}.+)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", said) for name, said in found}
