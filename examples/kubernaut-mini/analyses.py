"""AIAnalysis objects, made and read with the Kubernetes API."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kindinfra import Stack

_WHAT = ("kubernaut.ai", "v1alpha1")
_PLURAL = "aianalyses"
_ENDS = frozenset({"Completed", "ApprovalRequired", "Failed"})


def spec(**changes: object) -> dict[str, Any]:
    """Return what an analysis is about; every one is a remediation of its own."""
    incident = {
        "remediationId": f"remediation-{uuid.uuid4().hex[:12]}",
        "environment": "staging",
        "signal": {"type": "OOMKilled", "severity": "critical"},
        "target": {"kind": "Deployment", "name": "checkout", "namespace": "shop"},
    }
    return incident | changes


class Analyses:
    """The objects that one test makes in one namespace."""

    def __init__(self, kindinfra: Stack, namespace: str) -> None:
        self._stack = kindinfra
        self._api = kindinfra.custom
        self._namespace = namespace
        self._names: list[str] = []

    def create(self, wanted: Mapping[str, Any]) -> str:
        """Make an object and return its name, which no other has."""
        name = f"analysis-{uuid.uuid4().hex[:12]}"
        body = {
            "apiVersion": "/".join(_WHAT),
            "kind": "AIAnalysis",
            "metadata": {"name": name},
            "spec": wanted,
        }
        self._api.create_namespaced_custom_object(*_WHAT, self._namespace, _PLURAL, body)
        self._names.append(name)
        return name

    def status(self, name: str) -> Mapping[str, Any]:
        """Return an object's status as it is now."""
        item = self._api.get_namespaced_custom_object(*_WHAT, self._namespace, _PLURAL, name)
        return cast("Mapping[str, Any]", cast("Mapping[str, Any]", item).get("status", {}))

    def settled(self, name: str) -> Mapping[str, Any]:
        """Wait until the controller is done with an object and return its status."""

        def ended() -> Mapping[str, Any]:
            status = self.status(name)
            assert status.get("phase") in _ENDS
            return status

        return self._stack.eventually(ended, timeout=10)

    def settle(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make an object and wait for the end of it."""
        return self.settled(self.create(wanted))

    def delete_all(self) -> None:
        """Remove what was made, for a cluster that is kept."""
        for name in self._names:
            self._api.delete_namespaced_custom_object(*_WHAT, self._namespace, _PLURAL, name)
