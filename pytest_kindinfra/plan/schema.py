"""The JSON Schema of kindinfra.toml, made of what the reader of the declaration asks for.

Editors show it and complete by it. It knows keys, types and the form of names; what depends on
other keys or on files only the reader knows.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import DeclarationError
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

if TYPE_CHECKING:
    import re

_EVERY_TABLE = {
    "images": {"x": {}},
    "services": {"x": {"endpoints": {"y": {}}, "helm": {}}},
}
"""A declaration in which the reader comes to each kind of table."""


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


_SAID = {
    "": {
        "cluster": "The cluster: its kind config, node image and namespace.",
        "env": "Environment variables for tests. `{url:web}` becomes the URL of the service `web`.",
        "images": "The images that services run, by name.",
        "options": "Values for the options of pytest; the command line overrides them.",
        "services": "What tests need, by name: manifests, charts, endpoints.",
    },
    "[cluster]": {
        "config": "A kind config to start from, for more nodes, feature gates or mounts.",
        "namespace": "The namespace of objects without one; `per-run`: a new one for each run. "
        "Default: `default`.",
        "node_image": "The node image, and so the Kubernetes version. Default: kind's own.",
        "quota": "In an existing cluster: the `hard` limits of a ResourceQuota in the namespace.",
        "registry": "Your own registry in a container on this host, for "
        "`--kindinfra-load=registry`. Default: one that the plugin starts.",
        "snapshot": "Whether the cluster may boot from a snapshot of an earlier one, and leave "
        "one. Default: `auto`.",
        "ttl": "In an existing cluster: how long a namespace of a run may stay, such as `30m`, "
        "`24h` or `2d`. Default: `24h`.",
        "tuning": "Change settings of Kubernetes so that the cluster starts faster. "
        "Default: `true`.",
    },
    "[images]": {
        "builder": "The builder of `docker buildx` that builds the images. "
        "Default: the engine's own.",
        "pull_secret": "In an existing cluster that pulls images of `registry`: pods use a Secret "
        "with the credentials that `docker` has for it. Default: `false`.",
        "registry": "A registry in which images are looked up by their content, and to which they "
        "are pushed: `HOST[:PORT][/PREFIX]`.",
    },
    "[images.x]": {
        "archive": "A file with the image, as `docker save` writes it, or an OCI layout. The "
        "plugin builds nothing.",
        "build_args": "Build arguments. Values may name variables of the environment: `${NAME}`.",
        "build_options": "Further flags of `docker buildx build`. If they change, the image is "
        "built again.",
        "cache_from": "Build caches that the build reads: values of `--cache-from`.",
        "cache_to": "Where the build cache goes when the stack is up: values of `--cache-to`.",
        "context": "The build context, a folder. Default: the rootdir.",
        "dockerfile": "The Dockerfile, relative to the rootdir. Default: `Dockerfile` in the "
        "context.",
        "exclusive": "Build this image while no other build runs. Default: `false`.",
        "ignore": "Patterns in addition to those of `.dockerignore`.",
        "names": "Other references in manifests that mean this image.",
        "needs": "Declared images that the Dockerfile starts from or copies from.",
        "prebuilt": "The reference of an image that exists. The plugin builds nothing.",
        "target": "The stage of the Dockerfile to build. Default: the last.",
        "timeout": "The time limit of the build, in seconds. Default: `--kindinfra-timeout`.",
        "weight": "The number of builds that this one counts as. Default: 1.",
    },
    "[services.x]": {
        "endpoints": "The ports that tests use, by name.",
        "before": "`nodes`: deploy the service before the nodes are Ready, such as a network "
        "plugin.",
        "helm": "A Helm chart, installed as a release.",
        "image": "The declared image that the manifests must run.",
        "images": "The declared images that the manifests must run.",
        "images_at": "Where custom resources name images: kind to path, such as "
        '`Widget = "spec.template"`.',
        "inputs": "Files or patterns that `run` reads. In a reused cluster, the plugin calls `run` "
        "again only if one of them, its module or a service in `needs` changed.",
        "kustomize": "A folder with a kustomization.",
        "manifests": "Files or patterns of YAML or JSON, relative to the rootdir.",
        "needs": "Services that must be ready first. `x:started` waits until the containers run, "
        "`x:applied` until the objects exist.",
        "patience": "How long a problem that may pass, such as a missing Secret, may last, in "
        "seconds. Default: 45.",
        "per": "`worker`: each xdist worker has its own copy of the service.",
        "ready": "When custom resources are ready: kind to condition, such as "
        '`Widget = "condition=Ready"`.',
        "restarts": "The number of restarts of a container that do not fail the service. "
        "Default: 2.",
        "run": "A Python function that deploys a part of the service: `module:function`.",
        "timeout": "The time limit until the service is ready, in seconds. "
        "Default: `--kindinfra-timeout`.",
    },
    "[services.x.endpoints.y]": {
        "address": "Where the Ingress is reached, `HOST[:PORT]`. Default: what the Ingress says.",
        "expect": "For tcp: the beginning of the answer that counts as ready.",
        "expose": "How tests reach the endpoint. Default: what suits the cluster.",
        "host_port": "A fixed port on 127.0.0.1. Default: a free one.",
        "node_port": "A fixed NodePort. Default: a free one from 30000.",
        "path": "For http and https: the path that must answer 2xx or 3xx.",
        "port": "The port of the Kubernetes Service, a number or a name.",
        "scheme": "How the plugin checks that the endpoint answers. Default: `http`.",
        "send": "For tcp: the text to send before an answer is expected.",
        "service": "The Kubernetes Service. Default: the one with the service's name.",
        "workload": "For a port without a Kubernetes Service: `deployment/NAME`, `pod/NAME` and "
        "the like.",
    },
    "[services.x.helm]": {
        "chart": "A folder or a packed chart; with `repo` the chart's name; or `oci://...`.",
        "namespace": "The namespace of the release. Default: `[cluster] namespace`.",
        "release": "The name of the release. Default: the service's name.",
        "repo": "The URL of the repository that has the chart.",
        "set": "Values that override all files.",
        "values": "Values files; later ones override earlier ones.",
        "version": "The exact version of the chart, required with `repo` and `oci://`.",
    },
}
"""What editors show for a key, and the table of keys in the documentation."""


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
        "properties": {
            key: schema | {"description": _SAID[""][key]}
            for key, schema in sorted(properties.items())
        },
        "additionalProperties": False,
    }


def _of_all_images(asked: Asked) -> dict[str, Any]:
    """Return what the keys of `[images]` may be; an image may have such a name too."""
    image = _table("[images.x]", asked)
    return {
        key: {"anyOf": [schema, image], "description": _SAID["[images]"][key]}
        for key, schema in sorted(asked.schemas["[images]"].items())
    }


def _table(place: str, asked: Asked, *, required: list[str] | None = None) -> dict[str, Any]:
    properties = {
        key: schema | _FORMS.get((place, key), {}) | {"description": _SAID[place].get(key, "")}
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
