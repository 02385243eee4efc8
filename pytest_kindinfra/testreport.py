"""What goes into the report of a failed test: what the stack's pods said and did meanwhile.

Asked for only when a test has failed, in the process that ran it. It never fails a test itself.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.buildsecrets import build_secrets
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.happenings import Moment, happenings
from pytest_kindinfra.redaction import Redactor, credentials_in
from pytest_kindinfra.selection import needs_of
from pytest_kindinfra.timeline import Deadline
from pytest_kindinfra.view import Stack

if TYPE_CHECKING:
    import pytest

    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.model import KubeObject

SERVICE_LABEL = "dev.kindinfra/service"
SECONDS = 10.0
"""A test that failed is not held up for longer than about this."""


def sections(
    item: pytest.Item, run: RunDirectory, since: float, *, shared: bool
) -> list[tuple[str, str]]:
    """Return titles and texts for the report of a failed test, without secrets.

    Args:
        item: The test.
        run: Where the cluster is found.
        since: When its services were there, in seconds since the epoch.
        shared: The cluster has pods of other runs too, in other namespaces.
    """
    stack = Stack(run, waits=False)
    try:
        redact = _redactor(item, stack).text
        pods = [*_own_pods(item, stack.api), *_pods_of_services(item, stack, shared=shared)]
        found = happenings(
            stack.api, pods, Moment(since), redact=redact, deadline=Deadline.after(SECONDS)
        )
        return [(f"kindinfra {title}", text) for title, text in found]
    except Exception as error:  # noqa: BLE001 - the test's own failure is what must be seen
        return [("kindinfra logs", f"not to be had: {error}")]
    finally:
        stack.close()


def _own_pods(item: pytest.Item, kube: Kube) -> list[KubeObject]:
    """Return the pods in the test's own namespace, if it has one."""
    namespace = getattr(item, "funcargs", {}).get("kindinfra_namespace")
    return kube.list_(f"/api/v1/namespaces/{namespace}/pods") if namespace else []


def _pods_of_services(item: pytest.Item, stack: Stack, *, shared: bool) -> list[KubeObject]:
    """Return the pods of all services, those first that the test names."""
    named = needs_of(item) or ()
    where = f"/namespaces/{stack.namespace}" if shared else ""
    pods = stack.api.list_(f"/api/v1{where}/pods", labelSelector=SERVICE_LABEL)
    return sorted(pods, key=lambda pod: pod["metadata"]["labels"][SERVICE_LABEL] not in named)


def _redactor(item: pytest.Item, stack: Stack) -> Redactor:
    """Return one that knows the kubeconfig's secrets and those of builds."""
    from pytest_kindinfra.planning import read_declaration

    redactor = Redactor(credentials_in(stack.kubeconfig.read_text("utf-8")))
    with suppress(KindInfraError):
        for image in read_declaration(item.config.rootpath).images:
            redactor.learn(build_secrets(image, folder=item.config.rootpath))
    return redactor
