"""`helm` and `kubectl kustomize` as far as the plugin can tell them from the real ones.

A chart's templates are files of JSON, one object each, in which `{{ .Values.KEY }}` is replaced. A
release's objects go through the post-renderer to the test's cluster; hooks are run and waited for.
Like helm 3 it shows hooks to no post-renderer, and like helm 4 it wants a plugin for one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.fake_programs import (
        Failure,
        ask,
        behave,
        behaviour,
        read,
        value,
        values,
        write,
    )
else:
    from fake_programs import Failure, ask, behave, behaviour, read, value, values, write

HOOK_LIMIT = 60.0


def version(folder: str, _words: list[str]) -> None:
    """Print the version."""
    behave(folder, "helm version")
    print(_version(folder))  # noqa: T201


def environment(folder: str, _words: list[str]) -> None:
    """Print where plugins are."""
    behave(folder, "helm env")
    print("/users/plugins")  # noqa: T201


def template(folder: str, words: list[str]) -> None:
    """Print what a chart makes of the values."""
    behave(folder, f"template {words[1]}")
    print(_stream(_rendered(words[2], words)))  # noqa: T201


def show(folder: str, words: list[str]) -> None:
    """Print a chart's description; it has no CRDs."""
    behave(folder, "show")
    if words[1] == "chart":
        print(read(words[2], "Chart.yaml"))  # noqa: T201


def dependency(folder: str, words: list[str]) -> None:
    """Have what the chart depends on."""
    behave(folder, "dependency")
    os.makedirs(f"{words[2]}/charts/lib", exist_ok=True)  # noqa: PTH103


def upgrade(folder: str, words: list[str]) -> None:
    """Install a release: hooks that come before, what is no hook, hooks that come after."""
    release, chart = words[2], words[3]
    objects = _rendered(chart, words)
    if "--dry-run=server" in words:
        print(json.dumps(_shown(objects)))  # noqa: T201
        return
    behave(folder, f"upgrade {release}")
    plain = [obj for obj in objects if not _hook(obj)]
    if "--post-renderer" in words:
        shown = objects if _version(folder).startswith("v4") else plain
        made = _post_rendered(value(words, "--post-renderer"), shown, folder)
        plain = [obj for obj in made if not _hook(obj)]
        objects = [*plain, *(obj for obj in (*made, *objects) if _hook(obj))]
    hooks = {str(obj["metadata"]["name"]): obj for obj in reversed(objects) if _hook(obj)}
    namespace = value(words, "--namespace")
    for obj in hooks.values():
        if _hook(obj).startswith("pre-install"):
            _run_hook(folder, obj, namespace)
    for obj in plain:
        _apply(folder, obj, namespace)
    for obj in hooks.values():
        if _hook(obj).startswith("post-install"):
            _run_hook(folder, obj, namespace)
    _record(folder, release, words, plain)


def get(folder: str, words: list[str]) -> None:
    """Print the objects of a release, without hooks."""
    behave(folder, f"get {words[2]}")
    print(read(f"{folder}/releases", words[2]))  # noqa: T201


def kustomize(folder: str, words: list[str]) -> None:
    """Print the files of a folder and of those beside it that its kustomization names."""
    behave(folder, "kubectl kustomize")
    about = read(words[1], "kustomization.yaml")
    folders = [words[1], *(f"{words[1]}/{name}" for name in re.findall(r"\.\./\w+", about))]
    texts = [
        read(place, name)
        for place in folders
        for name in sorted(os.listdir(place))  # noqa: PTH208
        if name != "kustomization.yaml"
    ]
    print("\n---\n".join(texts))  # noqa: T201


def _record(folder: str, release: str, words: list[str], objects: list[dict[str, Any]]) -> None:
    """Keep the objects, and a Secret that says that the release is deployed."""
    os.makedirs(f"{folder}/releases", exist_ok=True)  # noqa: PTH103
    write(f"{folder}/releases/{release}", _stream(objects))
    labels = {"owner": "helm", "name": release, "version": "1", "status": "deployed"}
    for word in words:
        if word.startswith("--labels="):
            name, _, text = word.removeprefix("--labels=").partition("=")
            labels[name] = text
    meta = {"name": f"sh.helm.release.v1.{release}.v1", "labels": labels}
    record = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
    _apply(folder, record, value(words, "--namespace"))


def _version(folder: str) -> str:
    return str(behaviour(folder, "helm version").get("prints", "v3.19.2"))


def _rendered(chart: str, words: list[str]) -> list[dict[str, Any]]:
    given = _values(words)

    def put_in(match: re.Match[str]) -> str:
        return json.dumps(given[match[1]])[1:-1] if isinstance(given[match[1]], str) else "?"

    found: list[dict[str, Any]] = []
    for name in sorted(os.listdir(f"{chart}/templates")):  # noqa: PTH208
        text = read(f"{chart}/templates", name)
        found += _parsed(re.sub(r"{{ \.Values\.(\w+) }}", put_in, text))
    return found


def _values(words: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for file in values(words, "--values"):
        folder, _, name = file.rpartition("/")
        given |= json.loads(read(folder, name))
    return given


def _stream(objects: list[dict[str, Any]]) -> str:
    return "".join(f"---\n{json.dumps(obj)}\n" for obj in objects)


def _hook(obj: dict[str, Any]) -> str:
    return str((obj["metadata"].get("annotations") or {}).get("helm.sh/hook", ""))


def _shown(objects: list[dict[str, Any]]) -> dict[str, Any]:
    hooks = [{"manifest": json.dumps(obj)} for obj in objects if _hook(obj)]
    return {"manifest": _stream([obj for obj in objects if not _hook(obj)]), "hooks": hooks}


def _post_rendered(
    renderer: str, objects: list[dict[str, Any]], folder: str
) -> list[dict[str, Any]]:
    if _version(folder).startswith("v4"):
        plugins = os.environ["HELM_PLUGINS"].split(":")
        renderer = next(f"{one}/{renderer}/post-render" for one in plugins)
    done = subprocess.run(
        [renderer], input=_stream(objects), capture_output=True, text=True, check=False
    )
    if done.returncode:
        msg = f"Error: error while running post render: {done.stderr}"
        raise Failure(msg)
    return list(_parsed(done.stdout))


def _parsed(text: str) -> Iterator[dict[str, Any]]:
    yield from (json.loads(part) for part in re.split(r"(?m)^---$", text) if part.strip())


def _apply(folder: str, obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    return ask(folder, {"do": "apply", "object": obj, "namespace": namespace})


def _run_hook(folder: str, obj: dict[str, Any], namespace: str) -> None:
    """Apply a hook, and wait for its end as helm does: for a failure's cause it does not look."""
    late = time.monotonic() + HOOK_LIMIT
    path = _apply(folder, obj, namespace)["path"]
    while time.monotonic() < late:
        status = ask(folder, {"do": "status", "path": path})
        for condition in status.get("conditions") or ():
            if condition["type"] == "Complete":
                return
            if condition["type"] == "Failed":
                msg = f"Error: failed pre-install: job {obj['metadata']['name']} failed"
                raise Failure(msg)
        time.sleep(0.02)
    msg = "Error: failed pre-install: timed out waiting for the condition"
    raise Failure(msg)


ACTS = {
    "helm version": version,
    "helm env": environment,
    "helm template": template,
    "helm show": show,
    "helm dependency": dependency,
    "helm upgrade": upgrade,
    "helm get": get,
    "kubectl kustomize": kustomize,
}
