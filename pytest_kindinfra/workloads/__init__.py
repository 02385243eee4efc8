"""Judges Kubernetes objects: is it ready, and if not, what keeps it from that.

Pure: it gets objects as the API server tells them, and knows neither the server nor time.
"""

from pytest_kindinfra.workloads.causes import (
    Cause,
    allowed_restarts,
    causes_in_events,
    causes_of,
    event_text,
    latest_event,
)
from pytest_kindinfra.workloads.pods import (
    REVISION,
    containers_of,
    describe_pod,
    own_pods,
    pods_wanted,
    waits_for_pods,
)
from pytest_kindinfra.workloads.readiness import Readiness, gates, readiness, started, title

__all__ = [
    "REVISION",
    "Cause",
    "Readiness",
    "allowed_restarts",
    "causes_in_events",
    "causes_of",
    "containers_of",
    "describe_pod",
    "event_text",
    "gates",
    "latest_event",
    "own_pods",
    "pods_wanted",
    "readiness",
    "started",
    "title",
    "waits_for_pods",
]
