"""An existing cluster: found by its kubeconfig before the run; never deleted."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import warnings
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from pytest_kindinfra.context import ExistingCluster
from pytest_kindinfra.errors import ClusterError, KindInfraError, StateError, did_you_mean
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.plan.exposure import exposed_by
from pytest_kindinfra.state.records import ObjectsApplied
from pytest_kindinfra.system.files import read_text, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.kube.cleanup import Scope
    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject, Plan
    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.protocols import ClusterCreator, KindNodes, Provider
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.system.timeline import Deadline


def scope_of(run: RunDirectory, *namespaces: str) -> Scope:
    """Return where a run has put objects, as far as it is known; `namespaces` are added."""
    from pytest_kindinfra.kube.cleanup import Scope

    try:
        applied = run.read(ObjectsApplied)
    except StateError:
        applied = None
    return Scope(
        namespaces=frozenset(applied.namespaces if applied else ()) | set(namespaces),
        resources=frozenset(applied.resources if applied else ()),
    )


_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


_FIX = "To fix: kubectl config use-context NAME, or use another kubeconfig"


def current_context(config: Any, wanted: str | None = None) -> str:
    """Return the name of the context that is used.

    Args:
        config: What the file says.
        wanted: The context that was asked for; None means the current one.

    Raises:
        ClusterError: It is no kubeconfig, or does not have the context, or no current one.
    """
    if not isinstance(config, dict) or not isinstance(config.get("contexts"), list):
        msg = "it is no kubeconfig: it has no contexts"
        raise ClusterError(msg)
    if wanted is not None:
        return _known_context(config, wanted)
    name = config.get("current-context")
    if not name or not isinstance(name, str):
        msg = f"it has no current-context\n{_FIX}"
        raise ClusterError(msg)
    return name


def _known_context(config: dict[str, Any], wanted: str) -> str:
    names = [str(one.get("name")) for one in config["contexts"] if isinstance(one, dict)]
    if wanted not in names:
        hint = did_you_mean(wanted, names) or f"; it has: {', '.join(names) or 'none'}"
        msg = f'it has no context "{wanted}"{hint}'
        raise ClusterError(msg)
    return wanted


def only_current(config: Any, folder: Path, wanted: str | None = None) -> dict[str, Any]:
    """Return a kubeconfig with the current context alone, which works in any folder.

    Args:
        config: What the file says.
        folder: Where the file is: relative paths in it start there.
        wanted: The context that was asked for; None means the current one.

    Raises:
        ClusterError: The current context, or what it names, is not in it.
    """
    name = current_context(config, wanted)
    context = _named(config, "contexts", "context", name)
    cluster = _named(config, "clusters", "cluster", str(context.get("cluster")))
    users = []
    if user := context.get("user"):
        found = _named(config, "users", "user", str(user))
        users = [{"name": user, "user": _absolute(found, folder)}]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context["cluster"], "cluster": _absolute(cluster, folder)}],
        "users": users,
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }


def _named(config: dict[str, Any], table: str, key: str, name: str) -> dict[str, Any]:
    for entry in config.get(table) or ():
        if entry.get("name") == name:
            return dict(entry.get(key) or {})
    msg = f'it has no {key} "{name}"\n{_FIX}'
    raise ClusterError(msg)


def _absolute(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the entry with its files by their full paths, as kubectl reads them."""
    made: dict[str, Any] = {key: str(folder / entry[key]) for key in _FILES if entry.get(key)}
    plugin = entry.get("exec")
    if isinstance(plugin, dict) and "/" in str(plugin.get("command")):
        made["exec"] = {**plugin, "command": str(folder / plugin["command"])}
    return {**entry, **made}


_NODE_OF_KIND = re.compile(r"(.+)-(?:control-plane|worker)\d*")


_MAKING = ("cluster_name", "node_image", "kind_config")


def find_existing(
    file: Path,
    creator: ClusterCreator,
    kind_nodes: KindNodes,
    deadline: Deadline,
    *,
    context: str | None = None,
) -> ExistingCluster:
    """Return the cluster of a kubeconfig, which must answer.

    Args:
        file: The user's kubeconfig.
        creator: Knows the kind clusters of this host.
        kind_nodes: Asks their kind nodes.
        deadline: When to give up.
        context: Which of its contexts; None means the current one.

    Raises:
        KindInfraError: The file is no good, or the cluster does not answer.
    """
    path = Path(os.path.abspath(file.expanduser()))  # noqa: PTH100 - a link may be changed meanwhile
    own = only_current(_read_kubeconfig(path), path.parent, context)
    nodes = _nodes(own)
    here = nodes and _name_here(nodes, creator, kind_nodes, deadline)
    return ExistingCluster(
        kubeconfig=path,
        context=context,
        name=here or str(own["current-context"]),
        nodes=tuple(nodes) if here else (),
        inside=is_inside(own["clusters"][0]["cluster"]),
    )


_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What Kubernetes mounts into each container of a pod."""


_API_SERVICE = ("kubernetes.default.svc", "kubernetes.default", "kubernetes")


def is_inside(cluster: dict[str, Any], account: Path = _ACCOUNT) -> bool:
    """Whether this process runs in a pod of a cluster.

    A pod of another cluster was given another certificate authority.

    Args:
        cluster: What a kubeconfig says of it.
        account: Where pods have their service account's credentials.
    """
    try:
        given = (account / "ca.crt").read_bytes().strip()
        own = _authority(cluster).strip()
    except (OSError, binascii.Error):
        return False
    host = urlsplit(str(cluster.get("server"))).hostname or ""
    inner = (*_API_SERVICE, os.environ.get("KUBERNETES_SERVICE_HOST"))
    return own in given if own else host.removesuffix(".cluster.local") in inner


def _authority(cluster: dict[str, Any]) -> bytes:
    """Return the certificates that a kubeconfig trusts; none if it names none."""
    if data := cluster.get("certificate-authority-data"):
        return base64.b64decode(str(data))
    file = cluster.get("certificate-authority")
    return Path(str(file)).read_bytes() if file else b""


def _read_kubeconfig(path: Path) -> Any:
    """Return what a kubeconfig says.

    Raises:
        ClusterError: It cannot be read.
    """
    try:
        return next(iter(load_documents(read_text(path))), None)
    except OSError as error:
        msg = f"it cannot be read: {error.strerror}"
        raise ClusterError(msg) from error
    except ValueError as error:  # no UTF-8, or no YAML
        msg = f"it cannot be read: {error}"
        raise ClusterError(msg) from error


@contextmanager
def _opened(config: dict[str, Any]) -> Iterator[Reader]:
    """Give the API of the cluster of a kubeconfig, in the block."""
    with TemporaryDirectory(prefix="kindinfra-") as folder, warnings.catch_warnings():
        kubeconfig = Path(folder) / "kubeconfig"
        write_private(kubeconfig, json.dumps(config))  # JSON is YAML
        # Of what the client imports; tests may have made warnings errors.
        warnings.simplefilter("ignore")
        from pytest_kindinfra.kube.reader import Reader

        with closing(Reader(kubeconfig)) as reader:
            yield reader


def _nodes(config: dict[str, Any]) -> dict[str, str]:
    """Return the names of the cluster's nodes with their machines' ids; none if we may not ask."""
    with _opened(config) as reader:
        found = _listed_nodes(reader)
    return {
        node["metadata"]["name"]: (node.get("status", {}).get("nodeInfo") or {}).get(
            "machineID", ""
        )
        for node in found
    }


def _listed_nodes(reader: Reader) -> list[KubeObject]:
    from pytest_kindinfra.kube.client import ApiError

    try:
        return list(reader.list_("/api/v1/nodes"))
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        return []


def _name_here(
    nodes: dict[str, str], creator: ClusterCreator, kind_nodes: KindNodes, deadline: Deadline
) -> str:
    """Return kind's name for the cluster of these nodes, empty if they are not of this host.

    They are of this host if it has kind nodes of these names with the machine ids that the
    cluster knows: clusters named "kind" are on every second laptop.

    Args:
        nodes: The cluster's nodes: name to machine id.
        creator: Knows the kind clusters of this host.
        kind_nodes: Asks their kind nodes.
        deadline: When to give up.
    """
    match = _NODE_OF_KIND.fullmatch(next(iter(nodes)))
    try:
        creator.check(deadline)
        if not match or not creator.exists(match[1], deadline):
            return ""
        same = set(creator.nodes(match[1], deadline)) == set(nodes) and all(
            kind_nodes.machine_id(node, deadline) == machine for node, machine in nodes.items()
        )
    except KindInfraError:
        return ""  # no kind, or no engine, here
    return match[1] if same else ""


def problems_of_options(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each option that counts only where the run creates a cluster.

    Those that say how to make one may be in the file or the environment for other runs.
    """
    for key in _MAKING:
        if settings.kubeconfig and settings.sources.get(key, "").startswith("--"):
            yield (
                f"{settings.sources[key]} is for a cluster that the run creates, but "
                f"{settings.sources['kubeconfig']} names an existing one: remove one of the two"
            )
    if settings.kubeconfig and settings.reuse:
        yield (
            f"{settings.sources['reuse']} keeps services for the next run, but a run's objects in "
            f"the cluster of {settings.sources['kubeconfig']} are always deleted: drop one of them"
        )


def problems_of_images(
    plan: Plan, existing: ExistingCluster, registry: str | None
) -> Iterator[str]:
    """Yield a sentence for each image that cannot get into the cluster, without a registry."""
    if existing.nodes or registry:
        return
    for image in plan.images:
        if image.prebuilt is None:
            yield (
                f'[images.{image.name}] cannot be loaded into "{existing.name}", which is no '
                'kind cluster of this host\n  To fix: set [images] registry = "HOST/PREFIX" or '
                "--kindinfra-registry to a registry that the cluster pulls from, or push it there "
                f'and set [images.{image.name}] prebuilt = "REGISTRY/{image.name}:TAG"'
            )


_SOME_SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kindinfra"}}


def problems_of_rights(plan: Plan, existing: ExistingCluster, namespace: str) -> Iterator[str]:
    """Yield a sentence if the user lacks rights that the run's objects need; it names all of them.

    Args:
        plan: Has the objects.
        existing: The cluster.
        namespace: Where objects go that name none.

    Raises:
        KindInfraError: The cluster does not answer any more.
    """
    path = existing.kubeconfig
    objects = [
        (obj, plan.namespaces.get(service.name, namespace))
        for service in plan.services
        for obj in plan.objects.get(service.name, ())
    ]
    ways = {
        exposed_by(spec, existing=True, inside=existing.inside)
        for service in plan.services
        for spec in service.endpoints
    }
    if "node-port" in ways:  # some get a further k8s service
        objects.append((_SOME_SERVICE, namespace))
    with _opened(only_current(_read_kubeconfig(path), path.parent, existing.context)) as reader:
        from pytest_kindinfra.kube.rights import missing_rights, rights_for, shown

        rights = rights_for(reader, objects, namespace, forwards="port-forward" in ways)
        lines = shown(missing_rights(reader, rights))
    if lines:
        listed = "".join(f"\n    {line}" for line in lines)
        yield (
            f'rights are missing in "{existing.name}":{listed}\n  To fix: have them granted by a'
            " Role (a ClusterRole for the whole cluster), or use another user; `kubectl auth can-i"
            f" --list --namespace {namespace}` shows what this user may do"
        )


def remove_expired_in(existing: ExistingCluster, at: float, deadline: Deadline) -> list[str]:
    """Delete what runs left in a cluster and has expired; see `kube.cleanup.remove_expired`."""
    path = existing.kubeconfig
    with _opened(only_current(_read_kubeconfig(path), path.parent, existing.context)) as reader:
        from pytest_kindinfra.kube.cleanup import remove_expired

        return remove_expired(reader, at, deadline)


class _Objects(Protocol):
    """What a run put into a cluster."""

    def remove(self, kubeconfig: Path, deadline: Deadline) -> None:
        """Delete all of it.

        Raises:
            CommandError: Something could not be deleted.
        """
        ...

    def remove_command(self) -> Sequence[str]:
        """Return what a person types to delete it."""
        ...


class Existing:
    """One existing cluster, as the provider of a run.

    Args:
        kind: Knows the kind clusters of this host.
        objects: What the run puts into the cluster.
        nodes: Its kind nodes; none if it is not a kind cluster of this host.
    """

    def __init__(self, kind: Provider, objects: _Objects, nodes: Sequence[str]) -> None:
        self._kind = kind
        self._objects = objects
        self._nodes = tuple(nodes)

    def check(self, deadline: Deadline) -> str:
        """See `Provider.check`; kind is needed for its kind nodes only."""
        return self._kind.check(deadline) if self._nodes else ""

    def exists(self, name: str, deadline: Deadline) -> bool:
        """See `Provider.exists`: it was there before the run."""
        del name, deadline
        return True

    def nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:
        """See `Provider.nodes`."""
        del name, deadline
        return self._nodes

    def image_ready_nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:
        """See `Provider.image_ready_nodes`."""
        return self._kind.image_ready_nodes(name, deadline) if self._nodes else ()

    def export_logs(self, name: str, folder: Path, deadline: Deadline) -> None:
        """See `Provider.export_logs`."""
        if self._nodes:
            self._kind.export_logs(name, folder, deadline)

    def delete(self, name: str, *, kubeconfig: Path, deadline: Deadline) -> None:
        """See `Provider.delete`: the objects of this run go, the cluster stays."""
        del name
        self._objects.remove(kubeconfig, deadline)

    def delete_command(self, name: str) -> Sequence[str]:
        """See `Provider.delete_command`."""
        del name
        return self._objects.remove_command()
