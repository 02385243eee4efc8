"""The chart of a service, installed together with the NodePort services of its endpoints.

While helm runs, its hooks are watched: helm itself would wait until the time is up for a Job whose
image cannot be pulled.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.deploy.pullsecret import PullSecretPlaces
from pytest_kindinfra.deploy.records import Records
from pytest_kindinfra.deploy.release import Helming, install_release, recorded_objects
from pytest_kindinfra.errors import CommandError, KindInfraError, shortened
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.kube.discovery import UnknownKindError
from pytest_kindinfra.kube.objects import is_builtin, is_hook
from pytest_kindinfra.kube.rewrite import content_hash, rewrite
from pytest_kindinfra.kube.troubles import ServiceFailedError
from pytest_kindinfra.names import service_labels
from pytest_kindinfra.plan.helm import placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindinfra.deploy.renewal import Deployment
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject, Plan, Release


_RECORD: KubeObject = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": ""}}
"""In which helm keeps what it knows of a release."""


def own_objects(plan: Plan, service: str) -> tuple[KubeObject, ...]:
    """Return a service's objects but for those that its chart makes."""
    release = plan.releases.get(service)
    made = {id(obj) for obj in release.objects} if release else set()
    return tuple(obj for obj in plan.objects.get(service, ()) if id(obj) not in made)


def install(
    deployment: Deployment, release: Release, beside: Sequence[KubeObject]
) -> tuple[KubeObject, ...]:
    """Install the release, and return its objects as applied, each with its namespace.

    Args:
        deployment: The service on its way up.
        release: Its chart's.
        beside: Further objects for the release: the NodePort services of endpoints.

    Raises:
        ServiceFailedError: A hook cannot work, or helm failed; names the cause and the command.
        CancelledError: The run is ending.
    """
    context, kube = deployment.context, deployment.kube
    if release.namespace != deployment.namespace:
        # helm would make it too, and a hook that is a pod come before the service account.
        kube.ensure_namespace(release.namespace, deployment.deadline, {})
    records = Records(kube, release)
    records.refuse_foreign()
    rules = _rules(deployment, release, beside)
    _bring_pull_secret(deployment, release, rules)
    content = content_hash([rules])
    how = Helming(
        runner=context.tools.runner,
        kubeconfig=deployment.cluster.kubeconfig,
        folder=context.run.path / "helm" / deployment.service.name,
        deadline=deployment.deadline,
        labels=records.labels(content),
    )
    if not deployment.renewal.anew and records.is_deployed(content):
        # Helm has nothing to do: random values of the chart stay, and its hooks are done with.
        there = _recorded(release, how, kube)
        if there is not None:
            return there
    records.clear_cut_short()
    if isinstance(kube, SharedKube):
        for obj in (*release.objects, *beside, _RECORD):
            kube.announce(obj, release.namespace)
    hooks = _Hooks(deployment, release)
    try:
        made = install_release(release, rules=rules, how=how, watch=hooks.check)
    except CommandError as error:
        raise _explained(error, hooks.why()) from error
    except ServiceFailedError as error:
        head = f'a hook of release "{release.name}" failed for good, so helm was stopped'
        raise _headed(head, error) from error
    return tuple(_at_home(obj, release, kube) for obj in made)


def _rules(
    deployment: Deployment, release: Release, beside: Sequence[KubeObject]
) -> dict[str, Any]:
    """Return what becomes of the release's objects: the fields of `postrenderer.Rules`."""
    images, kube = deployment.images, deployment.kube
    labels = kube.labels if isinstance(kube, SharedKube) else {}
    pull = images.pull
    return {
        # Values with placeholders render to the reference of this run itself.
        "images": {**{one: one for one in images.declared.values()}, **images.written},
        "pin": sorted(images.loaded),
        "placeholders": dict(images.declared),
        "labels": {**service_labels(deployment.service.name), **labels},
        "content": release.content,
        "paths": [list(pair) for pair in deployment.service.images_at],
        "beside": list(beside),
        # Without one there is no key: the content of a release is a hash of all of this.
        **({"pull": {"name": pull.name, "registry": pull.registry}} if pull else {}),
    }


def _bring_pull_secret(deployment: Deployment, release: Release, rules: Mapping[str, Any]) -> None:
    """Have the Secret before helm makes the first pod, which may be a hook's."""
    if (pull := deployment.images.pull) is None:
        return
    images, placeholders = rules["images"], rules["placeholders"]
    places = PullSecretPlaces(pull, deployment.kube, deployment.deadline)
    for obj in release.objects:
        made = rewrite(obj, images=images, placeholders=placeholders, namespace=None, labels={})
        places.serve(made, release.namespace)


def _recorded(release: Release, how: Helming, kube: Kube) -> tuple[KubeObject, ...] | None:
    """Return the objects of an installed release, if each of them exists."""
    try:
        objects = [_at_home(obj, release, kube) for obj in recorded_objects(release, how=how)]
        paths = [kube.path_of(obj, namespace=release.namespace) for obj in objects]
        return tuple(objects) if all(kube.get(path) for path in paths) else None
    except UnknownKindError:  # its CRD is gone, and so is the object
        return None


class _Hooks:
    """A release's hooks while helm runs them."""

    def __init__(self, deployment: Deployment, release: Release) -> None:
        self._kube = deployment.kube
        self._deadline = deployment.deadline
        self._namespace = release.namespace
        self._restarts = deployment.service.restarts
        self._patience = deployment.service.patience
        hooks = [obj for obj in release.objects if is_hook(obj) and is_builtin(obj)]
        there = {self._path(obj): obj for obj in hooks}
        # Those of an earlier time say nothing of this one: helm replaces them.
        self._old = {path: one["metadata"]["uid"] for path in there if (one := self._get(path))}
        self._hooks = there
        self._judges = {
            path: deployment.kube.judge(
                [obj], namespace=self._namespace, restarts=self._restarts, patience=self._patience
            )
            for path, obj in there.items()
        }

    def check(self) -> None:
        """Raise if a hook cannot work."""
        for path, judge in self._judges.items():
            if self._is_new(path):
                judge.check()

    def why(self) -> ServiceFailedError | None:
        """Return what is wrong with the hooks, if anything is."""
        try:
            self.check()
            # Missing ones have not been run, or are done with.
            late = [
                obj
                for path, obj in self._hooks.items()
                if self._get(path) is not None and self._is_new(path)
            ]
            self._kube.wait_ready(
                late,
                namespace=self._namespace,
                deadline=self._deadline.within(0.0),
                restarts=self._restarts,
                patience=self._patience,
            )
        except ServiceFailedError as error:
            return error
        except KindInfraError:  # the cluster does not answer: helm's own words must do
            return None
        return None

    def _path(self, obj: KubeObject) -> str:
        return self._kube.path_of(obj, namespace=self._namespace)

    def _get(self, path: str) -> KubeObject | None:
        with suppress(KindInfraError):
            return self._kube.get(path)
        return None

    def _is_new(self, path: str) -> bool:
        if path not in self._old:
            return True
        now = self._get(path)
        return now is not None and now["metadata"]["uid"] != self._old[path]


def _explained(error: CommandError, cause: ServiceFailedError | None) -> KindInfraError:
    """Return helm's failure with what its hooks died of."""
    return error if cause is None else _headed(str(error), cause)


def _headed(head: str, cause: ServiceFailedError) -> ServiceFailedError:
    first = head.partition("\n")[0]
    short = shortened(f"{first}:\n{cause.short}")
    return ServiceFailedError(f"{head}:\n{cause}", short=short, cause=cause.cause)


def _at_home(obj: KubeObject, release: Release, kube: Kube) -> KubeObject:
    """Return an object with the namespace that helm put it into."""
    try:
        return placed(obj, release.namespace) if kube.is_namespaced(obj) else obj
    except KindInfraError:  # of a kind that does not exist any more
        return obj
