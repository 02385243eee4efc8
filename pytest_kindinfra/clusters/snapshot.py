"""Which snapshot fits a cluster, and how a restored kind node differs from the first one. Pure."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.config import (
    dns_patch,
    kind_config,
    loopback,
    network_problems,
)
from pytest_kindinfra.kube.yaml import copied, dump, load_documents
from pytest_kindinfra.model import url_of
from pytest_kindinfra.protocols.snapshots import NodeContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_kindinfra.context import Request
    from pytest_kindinfra.protocols.snapshots import SnapshotNotes, StoredSnapshot


REPOSITORY = "localhost/kindinfra-snapshot"
"""What all snapshots are called in the engine; the tag is the key."""


_FORMAT = 3
"""Goes up when restored kind nodes are made in another way."""


_DIGITS = 16


_DAYS = 28.0
"""How old a snapshot may be; certificates in it are good for a year."""


_DAY = 86400.0


API_PORT = "6443/tcp"


_PASSED_ON = re.compile(r"(?:HTTP|HTTPS|NO)_PROXY|KIND_\w+", re.IGNORECASE)
"""Variables that kind gives to kind nodes, or that lead it elsewhere."""


_CREDENTIALS = re.compile(r"\b(?:auth|username|password|identitytoken|secret)\b", re.IGNORECASE)
"""Keys of containerd's configuration that have what a registry asks for."""


_KEPT = ("/var", "/etc", "/kind")
"""Folders of a kind node that are in a snapshot."""


_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}
"""As kind gives it to the engine (kind, pkg/cluster/internal/providers/common)."""


def snapshot_config(request: Request) -> dict[str, Any]:
    """Return what of a cluster's kind config is in a snapshot: all but host ports and mounts."""
    config = kind_config(
        request.kind_config,
        ports={},
        node_image=request.node_image,
        tuning=request.tuning,
        folder=request.folder,
    )
    config.pop("name", None)
    networking = config["networking"] = config.get("networking") or {}
    for key in ("apiServerPort", "apiServerAddress"):
        networking.pop(key, None)
    for node in config["nodes"]:
        node.setdefault("role", "control-plane")
        node.pop("extraPortMappings", None)
        node["extraMounts"] = sorted(_targets(node))
    return config


def why_never(config: Mapping[str, Any]) -> str:
    """Return why a cluster of this config is never restored; empty if it may be.

    Args:
        config: What `snapshot_config` returned.
    """
    networking = config.get("networking") or {}
    if len(config["nodes"]) != 1:
        return "it has several kind nodes"
    if (networking.get("ipFamily") or "ipv4") != "ipv4":
        return "it does not use IPv4 alone"
    if network_problems(config, (), file=""):
        return "its nodes need a service to get Ready"
    if any(_is_kept(path) for node in config["nodes"] for path in node["extraMounts"]):
        return f"extraMounts of its kind config are in {', '.join(_KEPT)}"
    return ""


def made_of(
    config: Mapping[str, Any],
    *,
    provider: str,
    engine: str,
    tuning: bool,
    environ: Mapping[str, str],
) -> dict[str, str]:
    """Return what must be the same for a snapshot to fit: a name of each part to a short text.

    Args:
        config: What `snapshot_config` returned.
        provider: kind's version.
        engine: What kind of engine it is.
        tuning: Boot faster than kind does.
        environ: The environment, of which kind passes some variables on.
    """
    nodes = [{**node, "image": None} for node in config["nodes"]]
    boot = [{**config, "nodes": nodes}, dns_patch(config) if tuning else None]
    passed = {name: one for name, one in environ.items() if _PASSED_ON.fullmatch(name)}
    images = (node.get("image") or "kind's own choice" for node in config["nodes"])
    return {
        "format": str(_FORMAT),
        "kind": provider,
        "node image": ", ".join(images),
        "engine": engine,
        "kind config": _digest(boot),
        "environment": " ".join([*sorted(passed), _digest(passed)]),  # values may be secrets
    }


def snapshot_key(parts: Mapping[str, str]) -> str:
    """Return the tag of the snapshots of which `made_of` returned these parts."""
    return _digest(dict(parts))


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:_DIGITS]


def credentials_for(config: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return which credentials of the user's kind puts into a kind node, by where they are from.

    Args:
        config: What `snapshot_config` returned.
        environ: The environment, of which kind passes some variables on.
    """
    found = [
        name
        for name, value in sorted(environ.items())
        if _PASSED_ON.fullmatch(name) and "@" in value
    ]
    patches = [
        key
        for key in ("containerdConfigPatches", "containerdConfigPatchesJSON6902")
        if any(_CREDENTIALS.search(str(patch)) for patch in config.get(key) or ())
    ]
    return (*found, *(f"{key} of the kind config" for key in patches))


def misfit(
    snapshot: StoredSnapshot,
    *,
    parts: Mapping[str, str],
    now: float,
    image_id: Callable[[str], str | None],
) -> str:
    """Return why a snapshot is not to be used; empty if it is.

    Args:
        snapshot: The snapshot.
        parts: What `made_of` returned here.
        now: Seconds since the epoch.
        image_id: Returns the id of an image of the engine, None if it has it not.
    """
    if (notes := snapshot.notes) is None:
        return "it does not say how it was made"
    differences = (_difference(part, notes.parts, parts) for part in parts)
    if why := ", ".join(filter(None, differences)):
        return why
    if is_useless(notes, now):
        return f"it is {(now - notes.made) / _DAY:.0f} days old"
    there = image_id(notes.node_image)
    if there not in {None, notes.node_image_id}:
        return f"node image {notes.node_image} is another one by now"
    return ""


def _difference(part: str, its: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Return how a part differs; empty if it does not."""
    was = its.get(part, "unknown")
    return "" if was == here[part] else f"its {part} is {was}, and here it is {here[part]}"


def is_useless(notes: SnapshotNotes, now: float) -> bool:
    """Whether no run uses a snapshot any more."""
    of_another_version = notes.parts.get("format") != str(_FORMAT)
    return of_another_version or (now - notes.made) / _DAY > _DAYS


def node_container(
    name: str, config: Mapping[str, Any], *, choose_port: Callable[[str], int]
) -> NodeContainer:
    """Return the container of the only kind node of a restored cluster.

    Args:
        name: kind's name for the cluster.
        config: Its whole kind config.
        choose_port: Returns a free port of an address of this host.
    """
    networking, node = config.get("networking") or {}, config["nodes"][0]
    address = networking.get("apiServerAddress") or loopback(config)
    port = networking.get("apiServerPort") or choose_port(address)
    return NodeContainer(
        name=f"{name}-control-plane",
        cluster=name,
        binds=tuple(_binds(node)),
        ports={API_PORT: (address, port), **dict(_published(node))},
    )


def own_mounts(config: Mapping[str, Any]) -> frozenset[str]:
    """Return where in kind nodes the mounts are that a config asks for."""
    return frozenset(path for node in config["nodes"] for path in _targets(node))


def kubeconfig_of(admin: bytes, *, name: str, host: str, port: int) -> str:
    """Return the kubeconfig that kind would write for a cluster.

    Args:
        admin: The admin's kubeconfig in the kind node.
        name: kind's name for the cluster.
        host: The address of this host by which its API server is reached.
        port: The port there.
    """
    config = copied(next(iter(load_documents(admin.decode()))))
    called = f"kind-{name}"
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    scheme = str(cluster["server"]).partition("://")[0]
    server = url_of(scheme, host, port)
    return dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": called, "cluster": {**cluster, "server": server}}],
            "contexts": [{"name": called, "context": {"cluster": called, "user": called}}],
            "current-context": called,
            "preferences": {},
            "users": [{"name": called, "user": user}],
        }
    )


def _targets(node: Mapping[str, Any]) -> Iterator[str]:
    for mount in node.get("extraMounts") or ():
        yield str(mount.get("containerPath", "")) if isinstance(mount, dict) else str(mount)


def _is_kept(path: str) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in _KEPT)


def _binds(node: Mapping[str, Any]) -> Iterator[str]:
    for mount in node.get("extraMounts") or ():
        flags = [
            "ro" if mount.get("readOnly") else "",
            "Z" if mount.get("selinuxRelabel") else "",
            _PROPAGATION.get(mount.get("propagation") or "", ""),
        ]
        options = ",".join(filter(None, flags))
        parts = (mount["hostPath"], mount["containerPath"], options)
        yield ":".join(filter(None, parts))


def _published(node: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, int]]]:
    for mapping in node.get("extraPortMappings") or ():
        protocol = str(mapping.get("protocol") or "TCP").lower()
        port = f"{mapping['containerPort']}/{protocol}"
        yield port, (mapping.get("listenAddress") or "", mapping.get("hostPort") or 0)
