"""The Kubernetes objects that these tests apply to a real cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindinfra.model import KubeObject

GROUP = "tests.kindinfra.dev"


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def container(image: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": shell(script), **more}  # fmt: skip


def probe(script: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"command": shell(script)}, "periodSeconds": 1, **more}


def template(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    spec = {"terminationGracePeriodSeconds": 0, **pod}
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


def deployment(name: str, **pod: Any) -> KubeObject:
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template(name, pod)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def stateful_set(name: str, **pod: Any) -> KubeObject:
    made = deployment(name, **pod)
    return {**made, "kind": "StatefulSet", "spec": {**made["spec"], "serviceName": name}}


def daemon_set(name: str, **pod: Any) -> KubeObject:
    return {**deployment(name, **pod), "kind": "DaemonSet"}


def replica_set(name: str, **pod: Any) -> KubeObject:
    return {**deployment(name, **pod), "kind": "ReplicaSet"}


def job(name: str, **pod: Any) -> KubeObject:
    spec = {"backoffLimit": 0, "template": template(name, {"restartPolicy": "Never", **pod})}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def cron_job(name: str, **pod: Any) -> KubeObject:
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job(name, **pod)["spec"]}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}


def bare_pod(name: str, **pod: Any) -> KubeObject:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": template(name, pod)["spec"]}  # fmt: skip


def k8s_service(name: str, **spec: Any) -> KubeObject:
    spec = {"selector": {"app": name}, "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def config_map(name: str, **data: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def claim(name: str, **spec: Any) -> KubeObject:
    room = {"requests": {"storage": "1Mi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": room, **spec}
    meta = {"name": name}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def mount(claim_name: str) -> dict[str, Any]:
    """Return what a pod says to have a claim's volume."""
    return {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim_name}}]}


def widgets() -> KubeObject:
    """Return the definition of a kind with a status that somebody else writes."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
               "schema": {"openAPIV3Schema": schema}}  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [version],
        },
    }


def widget(name: str) -> KubeObject:
    meta = {"name": name}
    return {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": meta, "spec": {"size": 1}}


def api_service(namespace: str) -> KubeObject:
    """Return an aggregated API whose server is not there."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.missing.{GROUP}"},
        "spec": {
            "group": f"missing.{GROUP}",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "missing", "namespace": namespace},
        },
    }


def webhook(name: str, namespace: str, label: str) -> KubeObject:
    """Return a webhook whose server is not there, for what has that label set to `yes`."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": f"check.{GROUP}",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "failurePolicy": "Fail",
                "timeoutSeconds": 1,
                "objectSelector": {"matchLabels": {label: "yes"}},
                "clientConfig": {"service": {"name": "hook", "namespace": namespace}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"],
                           "resources": ["configmaps"]}],
            }
        ],
    }  # fmt: skip


def policy(name: str, namespace: str) -> tuple[KubeObject, KubeObject]:
    """Return a policy of the API server's own and its binding: ConfigMaps need a label `team`."""
    version = "admissionregistration.k8s.io/v1"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
              "resources": ["configmaps"]}]  # fmt: skip
    says = {"expression": "has(object.metadata.labels) && 'team' in object.metadata.labels",
            "message": "name the team"}  # fmt: skip
    home = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    spec = {"matchConstraints": {"resourceRules": rules}, "validations": [says]}
    return (
        {"apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
         "spec": spec},
        {"apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding",
         "metadata": {"name": name}, "spec": {
            "policyName": name, "validationActions": ["Deny"], "matchResources": home}},
    )  # fmt: skip
