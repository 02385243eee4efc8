"""The API groups and kinds that Kubernetes itself serves; every other kind comes with a CRD.

From kubernetes.io/docs/reference/generated/kubernetes-api and the deprecated API migration guide
(kubernetes.io/docs/reference/using-api/deprecation-guide). Pure.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_NEWEST = (1, 35)
"""The newest Kubernetes version that the table covers: later ones may serve more kinds."""


_OLDEST_DEFAULT = (1, 25)
"""What the default node image of any current kind serves at least (kind 0.15 and later)."""


@dataclass(frozen=True, slots=True)
class _Group:
    """An API group of Kubernetes' own: its stable versions, and the kinds it has in any version."""

    stable: tuple[str, ...]
    kinds: tuple[str, ...]


GROUPS: Mapping[str, _Group] = {
    "": _Group(
        ("v1",),
        (
            *("Binding", "ComponentStatus", "ConfigMap", "Endpoints", "Event", "LimitRange"),
            *("Namespace", "Node", "PersistentVolume", "PersistentVolumeClaim", "Pod"),
            *("PodTemplate", "ReplicationController", "ResourceQuota", "Secret", "Service"),
            "ServiceAccount",
        ),
    ),
    "apps": _Group(
        ("v1",), ("ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")
    ),
    "autoscaling": _Group(("v1", "v2"), ("HorizontalPodAutoscaler", "Scale")),
    "batch": _Group(("v1",), ("CronJob", "Job")),
    "extensions": _Group((), ()),
    "policy": _Group(("v1",), ("Eviction", "PodDisruptionBudget")),
    "admissionregistration.k8s.io": _Group(
        ("v1",),
        (
            *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
            *("MutatingWebhookConfiguration", "ValidatingAdmissionPolicy"),
            *("ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"),
        ),
    ),
    "apiextensions.k8s.io": _Group(("v1",), ("CustomResourceDefinition",)),
    "apiregistration.k8s.io": _Group(("v1",), ("APIService",)),
    "authentication.k8s.io": _Group(("v1",), ("SelfSubjectReview", "TokenReview")),
    "authorization.k8s.io": _Group(
        ("v1",),
        (
            *("LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview"),
            "SubjectAccessReview",
        ),
    ),
    "certificates.k8s.io": _Group(
        ("v1",), ("CertificateSigningRequest", "ClusterTrustBundle", "PodCertificateRequest")
    ),
    "coordination.k8s.io": _Group(("v1",), ("Lease", "LeaseCandidate")),
    "discovery.k8s.io": _Group(("v1",), ("EndpointSlice",)),
    "events.k8s.io": _Group(("v1",), ("Event",)),
    "flowcontrol.apiserver.k8s.io": _Group(("v1",), ("FlowSchema", "PriorityLevelConfiguration")),
    "internal.apiserver.k8s.io": _Group((), ("StorageVersion",)),
    "networking.k8s.io": _Group(
        ("v1",),
        ("IPAddress", "Ingress", "IngressClass", "NetworkPolicy", "ServiceCIDR"),
    ),
    "node.k8s.io": _Group(("v1",), ("RuntimeClass",)),
    "rbac.authorization.k8s.io": _Group(
        ("v1",), ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    ),
    "resource.k8s.io": _Group(
        ("v1",),
        (
            *("DeviceClass", "DeviceTaintRule", "ResourceClaim", "ResourceClaimTemplate"),
            "ResourceSlice",
        ),
    ),
    "scheduling.k8s.io": _Group(("v1",), ("PriorityClass", "Workload")),
    "storage.k8s.io": _Group(
        ("v1",),
        (
            *("CSIDriver", "CSINode", "CSIStorageCapacity", "StorageClass", "VolumeAttachment"),
            "VolumeAttributesClass",
        ),
    ),
    "storagemigration.k8s.io": _Group((), ("StorageVersionMigration",)),
}


_RBAC_KINDS = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


_REMOVED: Mapping[tuple[str, str], tuple[tuple[int, int], str]] = {
    **{
        ("extensions/v1beta1", kind): ((1, 16), "apps/v1")
        for kind in ("DaemonSet", "Deployment", "ReplicaSet")
    },
    ("extensions/v1beta1", "NetworkPolicy"): ((1, 16), "networking.k8s.io/v1"),
    ("extensions/v1beta1", "PodSecurityPolicy"): ((1, 16), ""),
    ("extensions/v1beta1", "Ingress"): ((1, 22), "networking.k8s.io/v1"),
    **{
        (f"apps/{version}", kind): ((1, 16), "apps/v1")
        for version in ("v1beta1", "v1beta2")
        for kind in ("ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")
    },
    **{
        ("admissionregistration.k8s.io/v1beta1", kind): (
            (1, 22),
            "admissionregistration.k8s.io/v1",
        )
        for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    },
    ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"): (
        (1, 22),
        "apiextensions.k8s.io/v1",
    ),
    ("apiregistration.k8s.io/v1beta1", "APIService"): ((1, 22), "apiregistration.k8s.io/v1"),
    ("certificates.k8s.io/v1beta1", "CertificateSigningRequest"): (
        (1, 22),
        "certificates.k8s.io/v1",
    ),
    ("coordination.k8s.io/v1beta1", "Lease"): ((1, 22), "coordination.k8s.io/v1"),
    **{
        ("networking.k8s.io/v1beta1", kind): ((1, 22), "networking.k8s.io/v1")
        for kind in ("Ingress", "IngressClass")
    },
    **{
        (f"rbac.authorization.k8s.io/{version}", kind): (removed, "rbac.authorization.k8s.io/v1")
        for version, removed in {"v1beta1": (1, 22), "v1alpha1": (1, 22)}.items()
        for kind in _RBAC_KINDS
    },
    ("scheduling.k8s.io/v1beta1", "PriorityClass"): ((1, 22), "scheduling.k8s.io/v1"),
    **{
        ("storage.k8s.io/v1beta1", kind): ((1, 22), "storage.k8s.io/v1")
        for kind in ("CSIDriver", "CSINode", "StorageClass", "VolumeAttachment")
    },
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler"): ((1, 25), "autoscaling/v2"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler"): ((1, 26), "autoscaling/v2"),
    ("batch/v1beta1", "CronJob"): ((1, 25), "batch/v1"),
    ("batch/v2alpha1", "CronJob"): ((1, 21), "batch/v1"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice"): ((1, 25), "discovery.k8s.io/v1"),
    ("events.k8s.io/v1beta1", "Event"): ((1, 25), "events.k8s.io/v1"),
    ("node.k8s.io/v1beta1", "RuntimeClass"): ((1, 25), "node.k8s.io/v1"),
    ("policy/v1beta1", "PodDisruptionBudget"): ((1, 25), "policy/v1"),
    ("policy/v1beta1", "PodSecurityPolicy"): ((1, 25), ""),
    ("storage.k8s.io/v1beta1", "CSIStorageCapacity"): ((1, 27), "storage.k8s.io/v1"),
    **{
        (f"flowcontrol.apiserver.k8s.io/{version}", kind): (
            removed,
            "flowcontrol.apiserver.k8s.io/v1",
        )
        for version, removed in {
            "v1beta1": (1, 26),
            "v1beta2": (1, 29),
            "v1beta3": (1, 32),
        }.items()
        for kind in ("FlowSchema", "PriorityLevelConfiguration")
    },
}
"""API version and kind to the Kubernetes version that no longer serves it, and what does."""


_UNSTABLE = re.compile(r"v\d+(alpha|beta)\d+")


def _group_of(version: str) -> str:
    """Return the group of an `apiVersion`; the core group is empty."""
    return version.rpartition("/")[0]


def may_be_custom(version: str) -> bool:
    """Whether a CRD may bring kinds of that `apiVersion`: its group is none of Kubernetes' own.

    The group of a CRD must be a domain name with a dot.
    """
    group = _group_of(version)
    return "." in group and group not in GROUPS


def numbers(version: str | None) -> tuple[int, int] | None:
    """Return `(1, 34)` for `1.34.4`, None for what is no version."""
    found = re.match(r"v?(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None


def builtin_fault(version: str, kind: str, *, served_by: tuple[int, int] | None) -> str:
    """Return why Kubernetes does not serve a kind that no CRD can bring; empty if it may.

    Args:
        version: The `apiVersion`.
        kind: The kind.
        served_by: The Kubernetes version; None means the default of a current kind.
    """
    removed, replacement = _REMOVED.get((version, kind), (None, ""))
    if removed is not None:
        if (served_by or _OLDEST_DEFAULT) < removed:
            return ""
        since = f"Kubernetes {removed[0]}.{removed[1]} removed it"
        return f"{since}; use {replacement}" if replacement else f"{since} without a replacement"
    group, kinds = GROUPS.get(_group_of(version)), _kinds_in(_group_of(version))
    if group is not None and kind in kinds:
        stable = version.rpartition("/")[2] in group.stable
        if stable or not group.stable or _UNSTABLE.fullmatch(version.rpartition("/")[2]):
            return ""  # whether a beta is served is the cluster's to say
        return f"{_named(_group_of(version))} has {_listed(_stable_versions(_group_of(version)))}"
    if served_by is not None and served_by > _NEWEST and group is not None:
        return ""  # it may be newer than this table
    return _near_builtin(version, kind) or "Kubernetes has no such kind"


def _near_builtin(version: str, kind: str) -> str:
    """Return `did you mean ...?` for a kind or version like one of Kubernetes' own, or nothing."""
    own = _kinds_in(_group_of(version))
    if found := difflib.get_close_matches(kind, own, n=1):
        return f'did you mean "{found[0]}"?'
    homes = [group for group, one in GROUPS.items() if kind in one.kinds and one.stable]
    if homes:
        versions = [_stable_versions(group)[-1] for group in homes]
        return f"did you mean apiVersion {_listed(versions)}?"
    if _group_of(version) not in GROUPS:
        return ""
    everywhere = {one: group for group, entry in GROUPS.items() for one in entry.kinds}
    if found := difflib.get_close_matches(kind, everywhere, n=1, cutoff=0.8):
        where = _stable_versions(everywhere[found[0]])
        return f'did you mean "{found[0]}" of {where[-1] if where else everywhere[found[0]]}?'
    return ""


def _stable_versions(group: str) -> list[str]:
    """Return the stable `apiVersion`s of a group of Kubernetes' own."""
    return [f"{group}/{version}" if group else version for version in GROUPS[group].stable]


def _kinds_in(group: str) -> tuple[str, ...]:
    return GROUPS[group].kinds if group in GROUPS else ()


def _named(group: str) -> str:
    return f'group "{group}"' if group else "the core group"


def _listed(names: Iterable[str]) -> str:
    return " or ".join(names)


CLUSTER_SCOPED = frozenset(
    (
        *("APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterRole"),
        *("ClusterRoleBinding", "ClusterTrustBundle", "ComponentStatus", "DeviceClass"),
        *("CustomResourceDefinition", "DeviceTaintRule", "FlowSchema", "IPAddress"),
        *("IngressClass", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
        *("MutatingWebhookConfiguration", "Namespace", "Node", "PersistentVolume"),
        *("PriorityClass", "PriorityLevelConfiguration", "ResourceSlice", "RuntimeClass"),
        *("SelfSubjectAccessReview", "SelfSubjectReview", "SelfSubjectRulesReview"),
        *("ServiceCIDR", "StorageClass", "StorageVersion", "StorageVersionMigration"),
        *("SubjectAccessReview", "TokenReview", "ValidatingAdmissionPolicy"),
        *("ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"),
        *("VolumeAttachment", "VolumeAttributesClass"),
    )
)
"""Kinds of Kubernetes' own whose objects are in no namespace."""
