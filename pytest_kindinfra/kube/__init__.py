"""The Kubernetes API: objects, apply, watch. The only user of the `kubernetes` client."""

from pytest_kindinfra.kube.apply import Outlook
from pytest_kindinfra.kube.backend import Backend
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.kube.discovery import UnknownKindError
from pytest_kindinfra.kube.failure import ServiceFailedError
from pytest_kindinfra.kube.forwards import Forward, Forwards
from pytest_kindinfra.kube.lease import LEASE, Holder, take
from pytest_kindinfra.kube.ours import RUN_LABEL, OurKube
from pytest_kindinfra.kube.ready import ReadyWait
from pytest_kindinfra.kube.refusals import Missing
from pytest_kindinfra.kube.removal import OurObjects, Scope, remove_all, remove_command

__all__ = [
    "LEASE",
    "RUN_LABEL",
    "ApiError",
    "Backend",
    "Forward",
    "Forwards",
    "Holder",
    "Kube",
    "Missing",
    "OurKube",
    "OurObjects",
    "Outlook",
    "ReadyWait",
    "Scope",
    "ServiceFailedError",
    "UnknownKindError",
    "remove_all",
    "remove_command",
    "take",
]
