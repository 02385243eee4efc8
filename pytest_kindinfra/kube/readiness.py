"""When an object is ready, by Kubernetes' rules or by those of the declaration. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.objects import group
from pytest_kindinfra.kube.pods import observed, pods_wanted, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_kindinfra.model import KubeObject


@dataclass(frozen=True, slots=True)
class Readiness:
    """A verdict on one object.

    Attributes:
        ready: Nothing more is waited for.
        why: What is missing, as the end of the sentence "it has ..." or "it is ...".
    """

    ready: bool
    why: str = ""


READY = Readiness(ready=True)


def title(obj: KubeObject) -> str:
    """Return how messages call the object: `Deployment "api"`."""
    return f'{obj["kind"]} "{obj["metadata"]["name"]}"'


def gates(obj: KubeObject) -> bool:
    """Whether readiness of such an object is more than being there."""
    return _key(obj) in _JUDGES


def readiness(obj: KubeObject) -> Readiness:
    """Judge a live object; of a kind without a rule, being there is enough."""
    judge = _JUDGES.get(_key(obj))
    if judge is None:
        return READY
    if not observed(obj):
        return Readiness(ready=False, why="its controller has not seen the last change")
    why = judge(obj)
    return Readiness(ready=not why, why=why)


def started(obj: KubeObject, pods: Sequence[KubeObject]) -> Readiness:
    """Judge whether the containers of the object's own pods run, ready or not."""
    if _key(obj) not in _STARTING or readiness(obj).ready:
        return readiness(obj)
    running = sum(1 for pod in pods if runs(pod))
    wanted = pods_wanted(obj)
    if obj["kind"] == "StatefulSet":
        wanted = min(1, wanted)  # the second is made only after the first is ready
    if observed(obj) and running >= wanted:
        return READY
    return Readiness(ready=False, why=f"{running} of {wanted} pods started")


def _key(obj: KubeObject) -> tuple[str, str]:
    group, slash, _ = obj.get("apiVersion", "").partition("/")
    return (group if slash else "", obj.get("kind", ""))


def _status(obj: KubeObject) -> dict[str, Any]:
    return obj.get("status") or {}


def condition(obj: KubeObject, kind: str) -> dict[str, Any]:
    """Return the condition of that type if it is True, else nothing."""
    for entry in _status(obj).get("conditions") or ():
        if entry["type"] == kind and entry["status"] == "True":
            return dict(entry)
    return {}


def _deployment(obj: KubeObject) -> str:
    status, wanted = _status(obj), pods_wanted(obj)
    updated = status.get("updatedReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} pods made"
    if (old := status.get("replicas", 0) - updated) > 0:
        return f"{old} pods of an older revision still there"
    return _available(status.get("availableReplicas", 0), wanted)


def _replica_set(obj: KubeObject) -> str:
    return _available(_status(obj).get("availableReplicas", 0), pods_wanted(obj))


def _stateful_set(obj: KubeObject) -> str:
    status, wanted = _status(obj), pods_wanted(obj)
    ready = status.get("readyReplicas", 0)
    strategy = obj["spec"].get("updateStrategy") or {}
    if strategy.get("type") != "OnDelete" and not _first_revision(status):
        partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
        due = max(0, wanted - partition)
        if (updated := status.get("updatedReplicas", 0)) < due:
            return f"{updated} of {due} pods updated"
    return _available(min(ready, status.get("availableReplicas", ready)), wanted)


def _first_revision(status: dict[str, Any]) -> bool:
    return bool(status.get("currentRevision") == status.get("updateRevision"))


def _daemon_set(obj: KubeObject) -> str:
    status, wanted = _status(obj), pods_wanted(obj)
    on_delete = (obj["spec"].get("updateStrategy") or {}).get("type") == "OnDelete"
    updated = status.get("updatedNumberScheduled", 0)
    if updated < wanted and not on_delete:
        return f"{updated} of {wanted} pods made"
    return _available(status.get("numberAvailable", 0), wanted)


def _available(count: int, wanted: int) -> str:
    return "" if count >= wanted else f"{count} of {wanted} pods available"


def _pod(obj: KubeObject) -> str:
    phase = _status(obj).get("phase", "Pending")
    if phase == "Succeeded" or condition(obj, "Ready"):
        return ""
    return f"phase {phase}, not ready"


def _job(obj: KubeObject) -> str:
    if condition(obj, "Complete") or obj["spec"].get("suspend"):
        return ""
    status = _status(obj)
    counts = [
        f"{status[key]} {key}" for key in ("active", "succeeded", "failed") if status.get(key)
    ]
    return f"not complete ({', '.join(counts) or 'no pod yet'})"


def _claim(obj: KubeObject) -> str:
    # A claim is bound when the first pod that wants it is scheduled, in kind at least:
    # it is never waited for, and the pod itself reports what it lacks.
    return "its volume was lost" if _status(obj).get("phase") == "Lost" else ""


def _crd(obj: KubeObject) -> str:
    return "" if condition(obj, "Established") else "not established"


def _api_service(obj: KubeObject) -> str:
    if condition(obj, "Available"):
        return ""
    for entry in _status(obj).get("conditions") or ():
        if entry["type"] == "Available":
            return f"not available: {entry.get('reason', '')}: {entry.get('message', '')}"
    return "not available"


_JUDGES: dict[tuple[str, str], Callable[[KubeObject], str]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("", "Pod"): _pod,
    ("", "PersistentVolumeClaim"): _claim,
    ("batch", "Job"): _job,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _crd,
    ("apiregistration.k8s.io", "APIService"): _api_service,
}


KINDS_WITH_A_RULE = frozenset(_JUDGES)


_STARTING = frozenset(key for key in _JUDGES if key[0] in {"apps", "batch"}) | {("", "Pod")}


EXPECTED = '"condition=TYPE", "condition=TYPE=STATUS" or "jsonpath={.status.FIELD}=VALUE"'


_CONDITION = re.compile(r"condition=([A-Za-z][\w./-]*)(?:=(\w+))?")


_FIELD = re.compile(r"jsonpath=\{((?:\.[A-Za-z_][\w-]*)+)\}(?:=(.+))?")


@dataclass(frozen=True, slots=True)
class ReadyWhen:
    """What an object must say to be ready.

    Attributes:
        condition: The type of a condition; empty if a field is meant.
        field: The keys that lead to a field; empty if a condition is meant.
        value: What its value must be; empty for anything, of a field.
    """

    condition: str = ""
    field: tuple[str, ...] = ()
    value: str = ""

    def lack(self, obj: KubeObject) -> str:
        """Say what the object lacks; nothing if it is ready."""
        if self._is_of_old(obj.get("status") or {}, obj):
            return "its controller has not seen the last change"
        return self._lack_of_condition(obj) if self.condition else self._lack_of_field(obj)

    def _lack_of_condition(self, obj: KubeObject) -> str:
        wanted = self.condition.lower()
        for entry in (obj.get("status") or {}).get("conditions") or ():
            if str(entry.get("type", "")).lower() != wanted or self._is_of_old(entry, obj):
                continue
            if str(entry.get("status", "")).lower() == self.value.lower():
                return ""
            said = (entry.get("reason"), entry.get("message"))
            parts = [f"condition {self.condition} is {entry.get('status')}", *filter(None, said)]
            return ": ".join(map(str, parts))
        return f"condition {self.condition} is not set yet"

    def _lack_of_field(self, obj: KubeObject) -> str:
        name, value = ".".join(self.field), _value_at(obj, self.field)
        if value is None:
            return f"{name} is not set yet"
        said = str(value).lower() if isinstance(value, bool) else str(value)
        return "" if self.value in {"", said} else f'{name} is "{said}", not "{self.value}"'

    @staticmethod
    def _is_of_old(text: dict[str, Any], obj: KubeObject) -> bool:
        seen = text.get("observedGeneration")
        return isinstance(seen, int) and seen < obj["metadata"].get("generation", 0)


Rules = tuple[tuple[str, ReadyWhen], ...]
"""For each kind, as `Kind` or `Kind.group`, what its objects must say."""


def parse_ready_when(text: str) -> ReadyWhen:
    """Return what a text such as `condition=Ready` means.

    Raises:
        ValueError: It means nothing.
    """
    if found := _CONDITION.fullmatch(text):
        return ReadyWhen(condition=found[1], value=found[2] or "True")
    if found := _FIELD.fullmatch(text):
        return ReadyWhen(field=tuple(found[1].split(".")[1:]), value=found[2] or "")
    raise ValueError(text)


def rules_of(pairs: Iterable[tuple[str, str]]) -> Rules:
    """Return the rules that a service declares, by kind."""
    return tuple((kind, parse_ready_when(text)) for kind, text in pairs)


def is_meant(kind: str, obj: KubeObject) -> bool:
    """Whether a declared kind, `Kind` or `Kind.group`, is that of the object."""
    return kind in {obj.get("kind"), f"{obj.get('kind')}.{group(obj)}"}


def rule_for(obj: KubeObject, rules: Rules) -> ReadyWhen | None:
    """Return the rule that is declared for the object's kind."""
    return next((rule for kind, rule in rules if is_meant(kind, obj)), None)


def _value_at(obj: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj
