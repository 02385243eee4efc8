"""A compose file, read once: images, services, and manifests for those that have none. Pure.

Compose is no source of a declaration: what a service runs is written as a Deployment (a Job if
others wait for its end) and a k8s service, which are the user's own from then on.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_kindinfra.commands.init.draft import DraftImage, DraftService
from pytest_kindinfra.commands.init.scan import image_name, label
from pytest_kindinfra.images.expansion import expand
from pytest_kindinfra.kube.yaml import dump

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_LEVELS = {"service_started": "started", "service_healthy": "ready"}


_READ = frozenset(
    (
        *("image", "build", "command", "entrypoint", "environment"),
        *("ports", "expose", "healthcheck", "depends_on"),
    )
)
"""The keys of a service that the manifests have; a note names each other one."""


_BUILD_READ = frozenset(("context", "dockerfile", "target", "args"))


_TOP_LEVEL = frozenset(("services", "name", "version", "volumes", "networks", "configs", "secrets"))
"""Keys of the file that are read, or are named where a service uses them."""


_URL = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)[^\s'\"|;)]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compose:
    """What a compose file says.

    Attributes:
        images: Of the services that are built.
        services: With manifests of their own, which are in `files`.
        files: Path to text.
        needs: Service to what it depends on, with the level, for services that have manifests.
        notes: What could not be read.
    """

    images: tuple[DraftImage, ...] = ()
    services: tuple[DraftService, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_compose(document: Mapping[str, Any], *, folder: str, known: Iterable[str]) -> Compose:
    """Return what a compose file says.

    Args:
        document: The file.
        folder: Where manifests are to be put, relative to the declaration.
        known: Services that have manifests already, which stay as they are.
    """
    filled = {
        label(name): _filled(table)
        for name, table in (document.get("services") or {}).items()
        if isinstance(table, dict)
    }
    tables = {name: table for name, (table, _) in filled.items()}
    awaited = {
        label(need)
        for table in tables.values()
        for need, level in _depends_on(table)
        if level == "service_completed_successfully"
    }
    there = set(known)
    needs = {
        name: {
            label(need): "ready" if label(need) in awaited else _LEVELS.get(level, "ready")
            for need, level in _depends_on(table)
        }
        for name, table in tables.items()
    }
    new = {name: table for name, table in tables.items() if name not in there}
    images = {name: _image(name, table) for name, table in tables.items() if table.get("build")}
    return Compose(
        images=tuple(images.values()),
        services=tuple(
            replace(
                _service(name, table, f"{folder}/{name}.yaml", images, needs[name]),
                notes=tuple(_service_notes(f"{folder}/{name}.yaml", table, filled[name][1])),
            )
            for name, table in new.items()
        ),
        files={
            f"{folder}/{name}.yaml": _manifest(name, table, is_job=name in awaited)
            for name, table in new.items()
        },
        needs={name: needs[name] for name in tables if name in there},
        notes=tuple(
            f"the compose file's {key} was not read"
            for key in document
            if key not in _TOP_LEVEL and not str(key).startswith("x-")
        ),
    )


def _filled(table: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a service with its variables' defaults, and the texts that have no default.

    Arguments of builds stay as they are, since the declaration fills in variables there.
    """
    left: dict[str, None] = {}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(one) for key, one in value.items()}
        if isinstance(value, list):
            return [fill(one) for one in value]
        if not isinstance(value, str):
            return value
        expanded = expand(value, {})
        left.update(dict.fromkeys([value] if expanded.problems else []))
        return value if expanded.problems else expanded.text

    filled = {key: fill(one) for key, one in table.items() if key != "build"}
    build = table.get("build")
    if isinstance(build, dict):
        own = {key: fill(one) for key, one in build.items() if key != "args"}
        filled["build"] = own | {key: build[key] for key in ("args",) if key in build}
    elif build is not None:
        filled["build"] = fill(build)
    return filled, list(left)


def _service_notes(path: str, table: Mapping[str, Any], left: Iterable[str]) -> Iterator[str]:
    if unread := [str(key) for key in table if key not in _READ and not str(key).startswith("x-")]:
        yield f"{path} was made without the {', '.join(unread)} of the compose file: add them"
    for text in left:
        yield f"{path} has {text} as the compose file has it: write the value"
    if names := list(_without_value(table.get("environment"))):
        yield f"{path} lacks what compose takes from the shell: {', '.join(names)}"
    if ports := list(_unread_ports(table)):
        yield f"{path} was made without ports that are no single TCP ports: {', '.join(ports)}"


def _depends_on(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    depends = table.get("depends_on") or ()
    for name in depends:
        how = depends[name] if isinstance(depends, dict) else None
        yield name, str((how or {}).get("condition", "service_started"))


def _image(name: str, table: Mapping[str, Any]) -> DraftImage:
    build = table["build"]
    given = build if isinstance(build, dict) else {"context": build}
    context = str(given.get("context", ".")).removeprefix("./") or "."
    keys: dict[str, Any] = {"context": context}
    if dockerfile := given.get("dockerfile"):
        keys["dockerfile"] = dockerfile if context == "." else f"{context.rstrip('/')}/{dockerfile}"
    if target := given.get("target"):
        keys["target"] = str(target)
    if arguments := dict(_pairs(given.get("args"))):
        keys["build_args"] = arguments
    notes = tuple(
        f"made without the {key} of its build in the compose file: add it"
        for key in given
        if key not in _BUILD_READ
    )
    return DraftImage(name=image_name(name), keys=keys, notes=notes)


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    """Yield names and values of a table, or of a list of `NAME=VALUE`, where there is a value."""
    if isinstance(value, dict):
        for name, text in value.items():
            if text is not None:
                yield str(name), str(text).lower() if isinstance(text, bool) else str(text)
    for one in value if isinstance(value, list) else ():
        name, equals, text = str(one).partition("=")
        if equals:
            yield name, text


def _service(
    name: str,
    table: Mapping[str, Any],
    path: str,
    images: Mapping[str, DraftImage],
    needs: Mapping[str, str],
) -> DraftService:
    keys: dict[str, Any] = {"image": images[name].name} if name in images else {}
    health = _http_check(table)
    endpoints = {}
    for port in _ports(table):
        own = {"port": port}
        if health and health[0] == port:
            endpoints["http"] = own | {"path": health[1]}
        else:
            title = "tcp" if "tcp" not in endpoints else f"tcp-{port}"
            endpoints[title] = own | {"scheme": "tcp"}
    return DraftService(
        name=name,
        keys={**keys, "manifests": [path]},
        needs=dict(needs),
        endpoints=endpoints,
    )


def _ports(table: Mapping[str, Any]) -> list[int]:
    """Return the ports of the container, each once."""
    return list(dict.fromkeys(port for _, port in _written_ports(table) if port))


def _unread_ports(table: Mapping[str, Any]) -> Iterator[str]:
    yield from (text for text, port in _written_ports(table) if not port)


def _written_ports(table: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield each port as the file has it, and its number; 0 for a range and for UDP."""
    for one in (*(table.get("ports") or ()), *(table.get("expose") or ())):
        mapped = one if isinstance(one, dict) else {}
        text = f"{mapped.get('target', '')}/{mapped.get('protocol', 'tcp')}" if mapped else str(one)
        number, _, protocol = text.rpartition(":")[2].partition("/")
        yield text, int(number) if number.isdecimal() and protocol in {"", "tcp"} else 0


def _without_value(environment: Any) -> Iterator[str]:
    if isinstance(environment, dict):
        yield from (str(name) for name, text in environment.items() if text is None)
    for one in environment if isinstance(environment, list) else ():
        if "=" not in str(one):
            yield str(one)


def _check_words(table: Mapping[str, Any]) -> list[str]:
    """Return the command of the health check, none without one."""
    check = table.get("healthcheck") or {}
    test = None if check.get("disable") is True else check.get("test")
    if isinstance(test, str):
        return ["sh", "-c", test]
    words = [str(one) for one in test or ()]
    if words[:1] == ["CMD-SHELL"]:
        return ["sh", "-c", *words[1:]]
    return words[1:] if words[:1] == ["CMD"] else []


def _http_check(table: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return port and path of a health check that asks a URL of the container itself."""
    found = _URL.search(" ".join(_check_words(table)))
    if not found:
        return None
    url = urlsplit(found[0])
    return (url.port or 80), (url.path or "/")


def _probe(table: Mapping[str, Any]) -> dict[str, Any]:
    words = _check_words(table)
    if not words:
        ports = _ports(table)
        return {"tcpSocket": {"port": ports[0]}} if ports else {}
    http = _http_check(table)
    how = {"httpGet": {"path": http[1], "port": http[0]}} if http else {"exec": {"command": words}}
    return {**how, "periodSeconds": 1, "timeoutSeconds": 5}


def _manifest(name: str, table: Mapping[str, Any], *, is_job: bool) -> str:
    image = image_name(name) if table.get("build") else str(table.get("image", name))
    container: dict[str, Any] = {"name": name, "image": image}
    if words := _words(table.get("entrypoint")):
        container["command"] = words
    if words := _words(table.get("command")):
        container["args"] = words
    if settings := [{"name": key, "value": text} for key, text in _pairs(table.get("environment"))]:
        container["env"] = settings
    ports = _ports(table)
    if ports:
        container["ports"] = [{"containerPort": port} for port in ports]
    if not is_job and (probe := _probe(table)):
        container["readinessProbe"] = probe
    objects = [_workload(name, container, is_job=is_job)]
    if not is_job:
        objects.append(_k8s_service(name, ports))
    head = "# Written by `kindinfra init` from the compose file.\n"
    return head + "---\n".join(_yaml(obj) for obj in objects)


def _yaml(obj: dict[str, Any]) -> str:
    return dump(json.loads(json.dumps(obj)))


def _words(value: Any) -> list[str]:
    """Return the words of a command; compose splits a text as a shell does, and calls no shell."""
    if isinstance(value, str):
        return shlex.split(value)
    return [str(one) for one in value or ()]


def _workload(name: str, container: dict[str, Any], *, is_job: bool) -> dict[str, Any]:
    labels = {"app": name}
    pod: dict[str, Any] = {"containers": [container]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    if is_job:
        pod["restartPolicy"] = "Never"
        spec: dict[str, Any] = {"template": template}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _k8s_service(name: str, ports: list[int]) -> dict[str, Any]:
    """Return what other pods find a service's pods by; without ports it is only a name for them."""
    spec: dict[str, Any] = {"selector": {"app": name}}
    if ports:
        spec["ports"] = [{"name": f"port-{port}", "port": port} for port in ports]
    else:
        spec["clusterIP"] = "None"
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
