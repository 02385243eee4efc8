"""A kubeconfig of the user's, reduced to what one run uses of it, so that it holds still. Pure.

What `kubectl config use-context` changes in mid-run must not lead tests to another cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_FIX = "To fix: kubectl config use-context NAME, or give another file"


def current_context(config: Any) -> str:
    """Return the name of the context that is used.

    Raises:
        ClusterError: It is no kubeconfig, or has no current context.
    """
    if not isinstance(config, dict) or not isinstance(config.get("contexts"), list):
        msg = "it is no kubeconfig: it has no contexts"
        raise ClusterError(msg)
    name = config.get("current-context")
    if not name or not isinstance(name, str):
        msg = f"it has no current-context\n{_FIX}"
        raise ClusterError(msg)
    return name


def only_current(config: Any, folder: Path) -> dict[str, Any]:
    """Return a kubeconfig with the current context alone, which works in any folder.

    Args:
        config: What the file says.
        folder: Where the file is: relative paths in it start there.

    Raises:
        ClusterError: The current context, or what it names, is not in it.
    """
    name = current_context(config)
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
