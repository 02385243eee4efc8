"""The kind config of a run: the user's, with ports, mounts and a quicker boot merged in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.yaml import copied, dump, load_documents
from pytest_kindinfra.plan.files import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import PortMapping, Service


_CLIENT_LIMITS = {"kube-api-qps": "1000", "kube-api-burst": "2000"}


_ALONE = {"leader-elect": "false"}


_PROXY_PATCH = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "iptables": {"minSyncPeriod": "100ms"},
}
"""kube-proxy changes its rules as soon as a pod gets ready or ends. By default it waits up to a
second after the change before, and each level of needs waits with it (docs/decisions/0071)."""


_ETCD_HOME = "/var/lib/etcd"


PATCHES_MOUNT = "/kindinfra-kubeadm"
"""Where kubeadm finds this project's patches, in the control planes."""


_SKIPPED = ("preflight", "kubelet-finalize")
"""Phases of `kubeadm init`: the one that kind itself skips, and the one that restarts the kubelet
when pods are to start (kubernetes/kubernetes#84118; docs/decisions/0031; there since 1.17)."""


DNS_PATCH = "corednsdeployment+strategic.json"
"""A file's name, by which kubeadm knows what it patches; before Kubernetes 1.31 it ignores such a
file with a warning (kubernetes/kubernetes#124820, cmd/kubeadm/app/util/patches/patches.go)."""


def _tuning_patches(config: Mapping[str, Any]) -> list[str]:
    """Return kubeadm patches to be put before the user's own, which then have the last word.

    Args:
        config: The user's kind config; leader election stays on with several control planes,
            and etcd where it is if the config says anything about its place.
    """
    arguments = _CLIENT_LIMITS if _control_planes(config) > 1 else {**_CLIENT_LIMITS, **_ALONE}
    etcd = {} if _places_etcd(config) else {"unsafe-no-fsync": "true"}
    return [
        # kind picks v1beta3 up to Kubernetes 1.35 and v1beta4 from 1.36 on, where the map
        # form would be dropped without a word.
        _patch("v1beta3", dict(arguments), dict(etcd)),
        _patch("v1beta4", _as_list(arguments), _as_list(etcd)),
        dump(_PROXY_PATCH),
    ]


def dns_patch(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a patch of CoreDNS's Deployment: probed every second, and one pod for one kind node.

    Args:
        config: The user's kind config.
    """
    probed = {"name": "coredns", "readinessProbe": {"periodSeconds": 1}}
    spec: dict[str, Any] = {"template": {"spec": {"containers": [probed]}}}
    alone = len(config.get("nodes") or ({},)) == 1
    return {"spec": {"replicas": 1, **spec} if alone else spec}


def _init_patches(*, directory: bool) -> list[str]:
    """Return patches of what `kubeadm init` does, of which the user's own take precedence.

    Args:
        directory: `PATCHES_MOUNT` is there.
    """
    patch: dict[str, Any] = {"kind": "InitConfiguration", "skipPhases": [*_SKIPPED]}
    if directory:
        patch["patches"] = {"directory": PATCHES_MOUNT}
    versions = ("kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta4")
    return [dump({"apiVersion": version, **patch}) for version in versions]


def _patch(version: str, arguments: Any, etcd: Any) -> str:
    patch: dict[str, Any] = {
        "apiVersion": f"kubeadm.k8s.io/{version}",
        "kind": "ClusterConfiguration",
        "controllerManager": {"extraArgs": arguments},
        # Parsed, printed and parsed again: a shared part would become a YAML anchor.
        "scheduler": {"extraArgs": type(arguments)(arguments)},
    }
    if etcd:
        patch["etcd"] = {"local": {"extraArgs": etcd}}
    return dump(patch)


def _as_list(arguments: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in arguments.items()]


def _control_planes(config: Mapping[str, Any]) -> int:
    nodes: Sequence[Mapping[str, Any]] = config.get("nodes") or ({},)
    return sum(node.get("role", "control-plane") == "control-plane" for node in nodes)


def _places_etcd(config: Mapping[str, Any]) -> bool:
    """Whether the user's etcd is external, or kept in a folder of the user's choice."""
    mounts = [
        mount for node in config.get("nodes") or () for mount in node.get("extraMounts") or ()
    ]
    if any(str(mount.get("containerPath", "")).startswith(_ETCD_HOME) for mount in mounts):
        return True
    etcd = [patch.get("etcd") or {} for patch in _documents(_patch_texts(config))]
    return any("external" in part or "dataDir" in (part.get("local") or {}) for part in etcd) or (
        any("/etcd" in str(patch.get("patch")) for patch in _json_patches(config))
    )


def _skipped_phases(config: Mapping[str, Any]) -> list[str]:
    """Return the phases of kubeadm that the user's patches skip."""
    return [
        str(phase)
        for patch in _documents(_patch_texts(config))
        for phase in patch.get("skipPhases") or ()
    ]


def _holders(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield config
    yield from config.get("nodes") or ()


def _patch_texts(config: Mapping[str, Any]) -> Iterator[str]:
    for holder in _holders(config):
        yield from holder.get("kubeadmConfigPatches") or ()


def _json_patches(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for holder in _holders(config):
        yield from holder.get("kubeadmConfigPatchesJSON6902") or ()


def _documents(texts: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for text in texts:
        try:
            yield from (part for part in load_documents(text) if isinstance(part, dict))
        except ValueError:
            continue  # kind says what is wrong with it


RUN_MOUNT = "/kindinfra"
"""Where the run directory is mounted in each kind node: so `docker inspect` leads from any
leftover container to its run directory and the lock in it, without a state file."""


PATCHES = "kubeadm"
"""The folder in the run directory with patches for kubeadm."""


_ADDRESS = "127.0.0.1"


_ADDRESS_6 = "::1"


_EVERY_ADDRESS = {"": _ADDRESS, "0.0.0.0": _ADDRESS, "::": _ADDRESS_6}  # noqa: S104 - of others


_CONTROL_PLANE = "control-plane"


def kind_config(
    base: Mapping[str, Any] | None,
    *,
    ports: Mapping[int, int],
    node_image: str | None,
    tuning: bool,
    folder: Path,
    run: Path | None = None,
) -> dict[str, Any]:
    """Return the config to give to `kind create`; `base` stays untouched.

    Args:
        base: The user's own, parsed.
        ports: NodePort to port on 127.0.0.1; where `base` maps a NodePort to a host port,
            that one stays.
        node_image: For each kind node that names none; None means kind's own choice.
        tuning: Boot faster than kind does.
        folder: Where relative host paths in `base` start.
        run: Mounted read-only in each kind node, at `RUN_MOUNT`.
    """
    config: dict[str, Any] = copied(dict(base or {}))
    config.setdefault("kind", "Cluster")
    config.setdefault("apiVersion", "kind.x-k8s.io/v1alpha4")
    config["nodes"] = config.get("nodes") or [{"role": _CONTROL_PLANE}]
    address = loopback(config)
    for node in config["nodes"]:
        _complete_node(node, node_image, folder, run, address)
    _map_ports(config["nodes"], ports, address)
    if tuning:
        own = config.get("kubeadmConfigPatches") or []
        patches = [*_tuning_patches(config), *_init_patches(directory=run is not None)]
        if run is not None:
            _mount_patches(config["nodes"], run)
        config["kubeadmConfigPatches"] = [*patches, *own]
    return config


def user_ports(base: Mapping[str, Any] | None) -> dict[int, int]:
    """Return NodePort to host port, as the user's own config fixes them."""
    return {
        mapping["containerPort"]: mapping["hostPort"]
        for node in (base or {}).get("nodes") or ()
        for mapping in _tcp_mappings(node)
        if mapping.get("containerPort") and (mapping.get("hostPort") or 0) > 0
    }


def loopback(base: Mapping[str, Any] | None) -> str:
    """Return the address of this host to which ports of a cluster are mapped by default."""
    return _ADDRESS_6 if is_ipv6(base) else _ADDRESS


def reached_at(listening: str) -> str:
    """Return the address by which this host reaches a port that listens on an address."""
    return _EVERY_ADDRESS.get(listening, listening)


def hosts_of(config: Mapping[str, Any]) -> dict[int, str]:
    """Return NodePort to the address of this host on which its port is reached."""
    return {
        mapping["containerPort"]: reached_at(mapping.get("listenAddress") or loopback(config))
        for node in config.get("nodes") or ()
        for mapping in _tcp_mappings(node)
        if mapping.get("containerPort")
    }


def network_problems(
    base: Mapping[str, Any] | None, services: Iterable[Service], *, file: str
) -> list[str]:
    """Return what a user's config leaves out that nodes need, and no service brings.

    Args:
        base: The config, parsed.
        services: All declared ones.
        file: The config's name, for messages.
    """
    left_out = list(_left_out(base or {}))
    if not left_out or any(one.before == "nodes" for one in services):
        return []
    return [
        f"{file}: {what}, so pods have no network until a service installs one; to fix: declare "
        'that service with before = "nodes" ([services.NAME]), or remove the key'
        for what in left_out
    ]


def _left_out(base: Mapping[str, Any]) -> Iterator[str]:
    networking = base.get("networking")
    networking = networking if isinstance(networking, dict) else {}
    if networking.get("disableDefaultCNI") is True:
        yield "networking.disableDefaultCNI is true"
    if str(networking.get("kubeProxyMode", "")) == "none":
        yield 'networking.kubeProxyMode is "none"'
    elif {"addon", "addon/kube-proxy"} & set(_skipped_phases(base)):
        yield "skipPhases of kubeadm has addon/kube-proxy"


def mount_problems(base: Mapping[str, Any] | None, *, folder: Path, artifacts: Path) -> list[str]:
    """Return a problem for each folder whose path an engine cannot mount into kind nodes.

    kind gives mounts to the engine as `HOST:CONTAINER:OPTIONS`, so no path may have a colon.

    Args:
        base: The user's own config, parsed.
        folder: Where relative host paths in `base` start.
        artifacts: Where run directories are, one of which is mounted in each kind node.
    """
    why = 'has ":" in its path, which Docker and podman cannot mount into kind nodes; to fix:'
    mounts = [
        one for node in (base or {}).get("nodes") or () for one in node.get("extraMounts") or ()
    ]
    hosts = [str(folder / one["hostPath"]) for one in mounts if one.get("hostPath")]
    problems = [
        f'extraMounts of the kind config: hostPath "{path}" {why} move it, or mount a link to it'
        for path in hosts
        if ":" in path
    ]
    if ":" in str(artifacts):
        problems.append(
            f'the artifacts folder "{artifacts}" {why} --kindinfra-artifacts=DIR with another one, '
            "or move the project"
        )
    return problems


def port_problems(base: Mapping[str, Any] | None, mappings: Iterable[PortMapping]) -> list[str]:
    """Return a problem for each fixed host port that the user's config gives to another port."""
    holders = {host_port: node_port for node_port, host_port in user_ports(base).items()}
    return [
        f"[services.{one.service}.endpoints.{one.endpoint}] host_port {one.host_port} is taken by"
        f" containerPort {holders[one.host_port]} of the kind config"
        for one in mappings
        if one.host_port and holders.get(one.host_port, one.node_port) != one.node_port
    ]


def _complete_node(
    node: dict[str, Any], node_image: str | None, folder: Path, run: Path | None, address: str
) -> None:
    if node_image:
        node["image"] = node.get("image") or node_image
    for mount in node.get("extraMounts") or ():
        if path := mount.get("hostPath"):
            mount["hostPath"] = str(folder / path)
    if run is not None:
        mount = {"hostPath": str(run), "containerPath": RUN_MOUNT, "readOnly": True}
        node["extraMounts"] = [*(node.get("extraMounts") or ()), mount]
    for mapping in node.get("extraPortMappings") or ():
        mapping["listenAddress"] = mapping.get("listenAddress") or address


def _mount_patches(nodes: list[dict[str, Any]], run: Path) -> None:
    """Let kubeadm see our patches; an engine that cannot see the folder makes an empty one."""
    mount = {"hostPath": str(run / PATCHES), "containerPath": PATCHES_MOUNT, "readOnly": True}
    for node in filter(_is_control_plane, nodes):
        node["extraMounts"] = [*(node.get("extraMounts") or ()), mount]


def _map_ports(nodes: list[dict[str, Any]], ports: Mapping[int, int], address: str) -> None:
    """Add the ports to the first control plane; those that the user maps get a host port."""
    mapped = {entry.get("containerPort"): entry for node in nodes for entry in _tcp_mappings(node)}
    missing = {port: host_port for port, host_port in ports.items() if port not in mapped}
    for port in ports.keys() - missing.keys():
        if (mapped[port].get("hostPort") or 0) <= 0:  # kind would choose one and not report it
            mapped[port]["hostPort"] = ports[port]
    first = next((node for node in nodes if _is_control_plane(node)), nodes[0])
    added = [_mapping(port, host_port, address) for port, host_port in missing.items()]
    if added:
        first["extraPortMappings"] = [*(first.get("extraPortMappings") or ()), *added]


def _mapping(node_port: int, host_port: int, address: str) -> dict[str, Any]:
    return {"containerPort": node_port, "hostPort": host_port, "listenAddress": address}


def _is_control_plane(node: Mapping[str, Any]) -> bool:
    return (node.get("role") or _CONTROL_PLANE) == _CONTROL_PLANE


def _tcp_mappings(node: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for mapping in node.get("extraPortMappings") or ():
        if str(mapping.get("protocol") or "TCP").upper() == "TCP":
            yield mapping
