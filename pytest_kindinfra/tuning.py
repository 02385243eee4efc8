"""Patches that make a kind cluster boot faster: see `tools/bench/boot.py` for how much.

The controller manager starts some forty controllers, each held back by a client limit of 20
requests a second; leader election waits for a rival that does not exist; and etcd syncs every
write of a cluster that nobody will miss after a power cut. Its data stay where kind puts them, so
that a kept cluster survives a restart of its container. CoreDNS answers seconds before its
readiness probe is asked, every ten seconds and the first time at a random moment. And kubeadm
restarts the kubelet at its end, so that it renews a certificate that is good for a year.

kind applies a patch to the documents whose kind and apiVersion it names and ignores it otherwise,
so each is given in both forms of kubeadm's configuration, and no Kubernetes version has to be
guessed. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kubeyaml import dump, load_documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_CLIENT_LIMITS = {"kube-api-qps": "1000", "kube-api-burst": "2000"}
_ALONE = {"leader-elect": "false"}
_ETCD_HOME = "/var/lib/etcd"
PATCHES_MOUNT = "/kindinfra-kubeadm"
"""Where kubeadm finds patches of ours, in the control planes."""
_SKIPPED = ("preflight", "kubelet-finalize")
"""Phases of `kubeadm init`: the one that kind itself skips, and the one that restarts the kubelet
when pods are to start (kubernetes/kubernetes#84118; docs/decisions/0031; there since 1.17)."""
DNS_PATCH = "corednsdeployment+strategic.json"
"""A file's name, by which kubeadm knows what it patches; before Kubernetes 1.31 it ignores such a
file with a warning (kubernetes/kubernetes#124820, cmd/kubeadm/app/util/patches/patches.go)."""


def tuning_patches(config: Mapping[str, Any]) -> list[str]:
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


def init_patches(*, directory: bool) -> list[str]:
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


def skipped_phases(config: Mapping[str, Any]) -> list[str]:
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
