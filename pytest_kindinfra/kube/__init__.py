"""The Kubernetes API: objects, apply, watch. The only user of the `kubernetes` client."""

from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.kube.discovery import UnknownKindError
from pytest_kindinfra.kube.failure import ServiceFailedError
from pytest_kindinfra.kube.ready import ReadyWait

__all__ = ["ApiError", "Kube", "ReadyWait", "ServiceFailedError", "UnknownKindError"]
