"""The user's kubeconfig: one file, several as in KUBECONFIG, or the service account of a pod.

Several files are merged as kubectl merges them: the first file that has a name wins, and relative
paths start at the file in which they are (kubernetes.io, "Organizing Cluster Access Using
kubeconfig Files").
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError, did_you_mean
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.plan.options import IN_CLUSTER, expand_path
from pytest_kindinfra.system.files import is_folder, is_there, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kindinfra.plan.options import Settings


_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


_TABLES = {"clusters": "cluster", "users": "user", "contexts": "context"}
"""The lists of a kubeconfig, with the key that holds what an entry of them says."""


_FIX = "To fix: kubectl config use-context NAME, or use another kubeconfig"


_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
"""What each container of a pod has in its environment."""


def all_files(value: Path, folder: Path) -> Path:
    """Return a kubeconfig by its full path; several with their full paths, as in KUBECONFIG.

    Args:
        value: What the user wrote; a path that exists is one file, whatever is in its name.
        folder: Where relative paths start.
    """
    whole = [str(value)] if is_there(folder / value) else str(value).split(os.pathsep)
    # Not resolved, since a link may be changed meanwhile.
    paths = [os.path.abspath(folder / expand_path(text)) for text in whole if text]  # noqa: PTH100
    return Path(os.pathsep.join(paths))


def option_words(settings: Settings) -> list[str]:
    """Return what a `kindinfra` command needs to find the cluster of the options of a run.

    What the declaration says of an existing cluster it finds by itself.
    """
    sources = settings.sources
    words = [f"--cluster-name={settings.cluster_name}"] if settings.cluster_name else []
    for key, value in (("kubeconfig", settings.kubeconfig), ("context", settings.context)):
        derived = key == "kubeconfig" and sources.get(key) == sources.get("context")
        if value and not derived and not sources[key].endswith(" [options]"):
            words.append(f"--{key}={value}")
    return words


def read_context(kubeconfig: Path, wanted: str | None = None) -> dict[str, Any]:
    """Return a kubeconfig with one context alone, which works in any folder.

    Args:
        kubeconfig: What `all_files` returned; a folder is that of a pod's service account.
        wanted: The context that was asked for; None means the current one.

    Raises:
        ClusterError: A file cannot be read, or does not have what is needed.
    """
    if wanted == IN_CLUSTER and not is_there(kubeconfig):
        raise ClusterError(_no_pod(f"{kubeconfig} does not exist"))
    if is_folder(kubeconfig):
        return only_context(merged({kubeconfig: _service_account(kubeconfig)}), wanted)
    if is_there(kubeconfig) or os.pathsep not in str(kubeconfig):
        return only_context(merged({kubeconfig: _read(kubeconfig)}), wanted)
    files = [Path(text) for text in str(kubeconfig).split(os.pathsep)]
    found: dict[Path, Any] = {}
    for file in filter(is_there, files):  # as kubectl, which leaves out those that are missing
        try:
            found[file] = _read(file)
        except ClusterError as error:
            msg = f"{file}: {error}"
            raise ClusterError(msg) from error
    if not found:
        msg = "none of these files exists"
        raise ClusterError(msg)
    return only_context(merged(found), wanted)


def merged(configs: Mapping[Path, Any]) -> dict[str, Any]:
    """Return several kubeconfigs as one, with full paths of the files that they name.

    Args:
        configs: File to what it says; the first one that has a name wins.

    Raises:
        ClusterError: One is no kubeconfig.
    """
    made: dict[str, Any] = {table: [] for table in _TABLES}
    for file, config in configs.items():
        if not isinstance(config, dict) or not isinstance(config.get("contexts") or [], list):
            msg = "it is no kubeconfig: it has no contexts"
            raise ClusterError(f"{file}: {msg}" if len(configs) > 1 else msg)
        for table, key in _TABLES.items():
            names = {one["name"] for one in made[table]}
            made[table] += [
                {"name": one["name"], key: _absolute(one.get(key) or {}, file.parent)}
                for one in _entries(config, table)
                if one["name"] not in names
            ]
        if current := config.get("current-context"):
            made.setdefault("current-context", current)
    if not made["contexts"]:
        msg = "it is no kubeconfig: it has no contexts"
        raise ClusterError(msg)
    return made


def only_context(config: Mapping[str, Any], wanted: str | None = None) -> dict[str, Any]:
    """Return a kubeconfig with one context alone.

    Args:
        config: What `merged` returned.
        wanted: The context that was asked for; None means the current one.

    Raises:
        ClusterError: The context, or what it names, is not in it.
    """
    name = _context_name(config, wanted)
    context = _named(config, "contexts", name)
    cluster = _named(config, "clusters", str(context.get("cluster")))
    users = []
    if user := context.get("user"):
        users = [{"name": user, "user": _named(config, "users", str(user))}]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context["cluster"], "cluster": cluster}],
        "users": users,
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }


def _context_name(config: Mapping[str, Any], wanted: str | None) -> str:
    names = [one["name"] for one in config["contexts"]]
    known = ", ".join(names)
    if wanted is not None:
        if wanted not in names:
            near = did_you_mean(wanted, names)
            has = f"{near} (it has: {known})" if near else f"; it has: {known}"
            msg = f'it has no context "{wanted}"{has}'
            raise ClusterError(msg)
        return wanted
    name = config.get("current-context")
    if not name or not isinstance(name, str):
        msg = f"it has no current-context; its contexts: {known}\n{_FIX}"
        raise ClusterError(msg)
    return name


def _entries(config: Mapping[str, Any], table: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of a list that have a name, each name once; what else there is is none."""
    seen: set[str] = set()
    found = config.get(table)
    for one in found if isinstance(found, list) else ():
        name = one.get("name") if isinstance(one, dict) else None
        if isinstance(name, str) and name not in seen:
            seen.add(name)
            yield one


def _named(config: Mapping[str, Any], table: str, name: str) -> dict[str, Any]:
    key = _TABLES[table]
    for entry in config[table]:
        if entry["name"] == name:
            return dict(entry[key])
    msg = f'it has no {key} "{name}"\n{_FIX}'
    raise ClusterError(msg)


def _absolute(entry: Any, folder: Path) -> dict[str, Any]:
    """Return the entry with its files by their full paths, as kubectl reads them."""
    if not isinstance(entry, dict):
        return {}
    made: dict[str, Any] = {key: str(folder / entry[key]) for key in _FILES if entry.get(key)}
    plugin = entry.get("exec")
    if isinstance(plugin, dict) and "/" in str(plugin.get("command")):
        made["exec"] = {**plugin, "command": str(folder / plugin["command"])}
    return {**entry, **made}


def _read(path: Path) -> Any:
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


def _service_account(folder: Path) -> dict[str, Any]:
    """Return the kubeconfig of a pod's service account.

    Token and certificate stay where they are, since the kubelet writes new ones there.

    Raises:
        ClusterError: The environment is not that of a pod, or the folder has no token.
    """
    host, port = os.environ.get(_HOST), os.environ.get(_PORT)
    if not host or not port:
        raise ClusterError(_no_pod(f"{_HOST} and {_PORT} are not set"))
    for name in ("token", "ca.crt"):
        if not is_there(folder / name):
            raise ClusterError(_no_pod(f"{folder} has no {name}"))
    context = {"cluster": IN_CLUSTER, "user": IN_CLUSTER}
    if is_there(folder / "namespace"):
        context["namespace"] = read_text(folder / "namespace").strip()
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    authority = {"server": server, "certificate-authority": str(folder / "ca.crt")}
    return {
        "clusters": [{"name": IN_CLUSTER, "cluster": authority}],
        "users": [{"name": IN_CLUSTER, "user": {"tokenFile": str(folder / "token")}}],
        "contexts": [{"name": IN_CLUSTER, "context": context}],
        "current-context": IN_CLUSTER,
    }


def _no_pod(why: str) -> str:
    return (
        f"there are no credentials of a pod: {why}\n"
        "To fix: run in a pod with a service account (automountServiceAccountToken), or name a "
        "kubeconfig that has this context by --kindinfra-kubeconfig"
    )
