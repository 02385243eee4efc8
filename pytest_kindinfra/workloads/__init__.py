"""Judges Kubernetes objects: is it ready, and if not, what keeps it from that.

Pure: it gets objects as the API server tells them, and knows neither the server nor time.
"""

from pytest_kindinfra.workloads.backing import (
    SERVICE_NAME,
    is_backed,
    is_k8s_service,
    lack_of_pods,
)
from pytest_kindinfra.workloads.cause import Cause
from pytest_kindinfra.workloads.causes import Limits, causes_of, limits_of
from pytest_kindinfra.workloads.events import (
    causes_in_events,
    event_text,
    latest_event,
    latest_warning,
)
from pytest_kindinfra.workloads.messages import is_bare_back_off
from pytest_kindinfra.workloads.pods import (
    REVISION,
    containers_of,
    crashes,
    describe_pod,
    frees_resources,
    has_probes,
    observed,
    old_pods,
    own_pods,
    pods_wanted,
    waits_for_pods,
)
from pytest_kindinfra.workloads.readiness import Readiness, gates, readiness, started, title

__all__ = [
    "REVISION",
    "SERVICE_NAME",
    "Cause",
    "Limits",
    "Readiness",
    "causes_in_events",
    "causes_of",
    "containers_of",
    "crashes",
    "describe_pod",
    "event_text",
    "frees_resources",
    "gates",
    "has_probes",
    "is_backed",
    "is_bare_back_off",
    "is_k8s_service",
    "lack_of_pods",
    "latest_event",
    "latest_warning",
    "limits_of",
    "observed",
    "old_pods",
    "own_pods",
    "pods_wanted",
    "readiness",
    "started",
    "title",
    "waits_for_pods",
]
