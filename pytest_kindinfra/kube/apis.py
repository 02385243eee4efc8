"""The typed API classes of the `kubernetes` package, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubernetes.client import AppsV1Api as AppsV1Api  # noqa: PLC0414 - for those who annotate
    from kubernetes.client import BatchV1Api as BatchV1Api  # noqa: PLC0414
    from kubernetes.client import CoreV1Api as CoreV1Api  # noqa: PLC0414
    from kubernetes.client import CustomObjectsApi as CustomObjectsApi  # noqa: PLC0414


def core_api(client: Any) -> CoreV1Api:
    """Return the core API of an `ApiClient`."""
    from kubernetes.client import CoreV1Api

    return CoreV1Api(client)


def apps_api(client: Any) -> AppsV1Api:
    """Return the apps API of an `ApiClient`."""
    from kubernetes.client import AppsV1Api

    return AppsV1Api(client)


def batch_api(client: Any) -> BatchV1Api:
    """Return the batch API of an `ApiClient`."""
    from kubernetes.client import BatchV1Api

    return BatchV1Api(client)


def custom_api(client: Any) -> CustomObjectsApi:
    """Return the API of custom objects of an `ApiClient`."""
    from kubernetes.client import CustomObjectsApi

    return CustomObjectsApi(client)
