"""A registry for the cluster, in a container, and what images are called in it.

The conventions are kind's (kind.sigs.k8s.io, "Local Registry"): pods name the address that the
host pushes to, and containerd in the kind nodes learns from a hosts.toml where that leads.
"""

from __future__ import annotations

import http.client
import json
from contextlib import ExitStack, suppress
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines.common import remove_patiently
from pytest_kindinfra.errors import ClusterError, CommandError
from pytest_kindinfra.model import REGISTRY_LABEL, Registry
from pytest_kindinfra.references import normalise, split
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import is_locked, locked_for_all_users
from pytest_kindinfra.state.memory import ImageUse, forget_use, note_use, read_uses
from pytest_kindinfra.system.files import free_port
from pytest_kindinfra.system.timeline import now, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.protocols import ClusterCreator, RegistryHost
    from pytest_kindinfra.system.runner import Runner
    from pytest_kindinfra.system.timeline import Deadline


CERTS = "certs.d"
"""The folder with a folder for each registry that is not where its name says."""


HOSTS_DIR = f"/etc/containerd/{CERTS}"
"""Where that folder is in a kind node."""


_CONFIG_PATH = f"""\
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{HOSTS_DIR}"
"""


_HELP = "https://kind.sigs.k8s.io/docs/user/local-registry/"


_ID_DIGITS = 12


_TAG_CHARACTERS = 100  # of 128, so that the id fits behind it


def pushed_name(address: str, reference: str, image_id: str) -> str:
    """Return what an image is called in the registry, where each content has a name of its own.

    Args:
        address: The registry's.
        reference: What the engine knows the image by; its domain is left out.
        image_id: The engine's id of it, `sha256:...`.
    """
    repository, version = split(normalise(reference))
    tag = version.partition("@")[0]
    tag = tag if ":" not in tag else ""  # a digest alone
    path = repository.partition("/")[2]
    digits = image_id.rpartition(":")[2][:_ID_DIGITS]
    return f"{address}/{path}:{'-'.join(filter(None, (tag[:_TAG_CHARACTERS], digits)))}"


def hosts_toml(registry: Registry) -> str:
    """Return the file that leads containerd from the registry's address to its container."""
    return f'[host."http://{registry.inside}"]\n'


def hosting_map(registry: Registry) -> KubeObject:
    """Return the ConfigMap that tells tools of the registry (kubernetes/enhancements, KEP-1755)."""
    lines = (
        f'host: "{registry.address}"',
        f'hostFromContainerRuntime: "{registry.inside}"',
        f'help: "{_HELP}"',
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
        "data": {"localRegistryHosting.v1": "".join(f"{line}\n" for line in lines)},
    }


def with_registry(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a kind config under which containerd reads hosts.toml files; `config` stays as it is.

    Node images of kind v0.27 and newer do that by themselves, and the patch does no harm there.
    Where the user's patches mention registries, no patch is added: containerd takes mirrors or a
    path, not both.
    """
    made = dict(config or {})
    own = list(made.get("containerdConfigPatches") or ())
    if not any("registry" in str(patch) for patch in own):
        made["containerdConfigPatches"] = [*own, _CONFIG_PATH]
    return made


NAME = "kindinfra-registry"


_IMAGE = "registry:2"


_PORT = 5000


_STARTS_IN = 20.0


_ASKS_EVERY = 0.05


_ANSWERS_IN = 5.0


_HERE = "127.0.0.1"


_HERE_6 = "::1"


_LONGEST_MANIFEST = 4 << 20
"""Bytes: what registries take at most (opencontainers/distribution-spec)."""


_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)


class DockerRegistry:
    """Registries in containers of the Docker engine that `docker` on PATH talks to."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def find(self, address: str, deadline: Deadline) -> Registry:
        """See `RegistryHost.find`."""
        port = address.rpartition(":")[2]
        for item in self._containers("--filter", f"publish={port}", deadline=deadline):
            for inside, published in (item["NetworkSettings"]["Ports"] or {}).items():
                if any(one["HostPort"] == port for one in published or ()):
                    number = int(inside.partition("/")[0])
                    name = item["Name"].removeprefix("/")
                    return self._answering(name, address, number, deadline)
        msg = (
            f'[cluster] registry = "{address}": no container of the engine publishes this port\n'
            f"To fix: docker run --detach --publish={_HERE}:{port}:{_PORT} {_IMAGE}, or remove the"
            " key to use a registry that the plugin starts"
        )
        raise ClusterError(msg)

    def run(self, deadline: Deadline) -> Registry:
        """See `RegistryHost.run`."""
        if not (found := self._own_containers(deadline)):
            self._start(deadline)
            found = self._own_containers(deadline)
        elif not found[0]["State"]["Running"]:
            self._docker("start", NAME, deadline=deadline)
            found = self._own_containers(deadline)
        published = found[0]["NetworkSettings"]["Ports"][f"{_PORT}/tcp"][0]["HostPort"]
        return self._answering(NAME, f"localhost:{published}", _PORT, deadline)

    def open_to(self, node: str, registry: Registry, folder: Path, deadline: Deadline) -> None:
        """See `RegistryHost.open_to`; the words of kind's own script, less the shell."""
        missing = self._networks(node, deadline) - self._networks(registry.container, deadline)
        for network in sorted(missing):
            self._join(network, registry.container, deadline)
        place = folder / CERTS / registry.address
        place.mkdir(parents=True, exist_ok=True)
        (place / "hosts.toml").write_text(hosts_toml(registry))
        # The folder may exist, with other registries in it; this one is added.
        self._docker("cp", str(folder / CERTS), f"{node}:/etc/containerd/", deadline=deadline)

    def digest_of(self, name: str, image_id: str, deadline: Deadline) -> str | None:
        """See `RegistryHost.digest_of`; the API is opencontainers/distribution-spec's.

        The id of an image is the digest of its config, which names the content of each layer; with
        the containerd image store it is that of its manifest or index.
        """
        address, _, rest = name.partition("/")
        path, _, tag = rest.rpartition(":")
        status, body = _ask(address, f"/v2/{path}/manifests/{tag}", deadline)
        if status != HTTPStatus.OK:
            return None
        digest = f"sha256:{sha256(body).hexdigest()}"
        return digest if image_id in {digest, _config_of(body)} else None

    def remove(self, deadline: Deadline) -> bool:
        """See `RegistryHost.remove`."""
        there = bool(self._own_containers(deadline))
        if there:
            remove_patiently(
                lambda: self._docker("rm", "--force", "--volumes", NAME, deadline=deadline),
                deadline,
            )
        return there

    def _start(self, deadline: Deadline) -> None:
        # On a port that is named: Docker draws another one for what it drew itself at each start,
        # and whenever the container joins a network.
        with ExitStack() as sockets:
            port = free_port(sockets)
        words = (
            "--label",
            f"{REGISTRY_LABEL}=true",
            "--publish",
            f"{_HERE}:{port}:{_PORT}",
            _IMAGE,
        )
        try:
            self._docker("run", "--detach", "--name", NAME, *words, deadline=deadline)
        except CommandError as error:
            if any(
                one["State"]["Running"] for one in self._own_containers(deadline)
            ):  # another run's
                return
            with suppress(CommandError):  # made, but not listening; one that runs is not removed
                self._docker("rm", "--volumes", NAME, deadline=deadline)
            msg = f"{error}\nTo fix: docker pull {_IMAGE}, or set your own registry in [cluster]"
            raise ClusterError(msg) from error

    def _answering(self, container: str, address: str, port: int, deadline: Deadline) -> Registry:
        """Return the registry once it answers."""
        said: list[int | None] = []

        def answers() -> bool:
            said.append(_ask(address, "/v2/", deadline)[0])
            return said[-1] in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}

        answered = wait_until(answers, deadline.within(_STARTS_IN), every=_ASKS_EVERY)
        if said[-1:] == [HTTPStatus.UNAUTHORIZED]:
            msg = (
                f'the registry at "{address}" (container "{container}") asks for a password, which'
                " kind nodes do not have\n"
                "To fix: use a registry of this host without a password, or remove the key"
            )
            raise ClusterError(msg)
        if not answered:
            msg = (
                f'the registry at "{address}" (container "{container}") does not answer\n'
                f"To fix: docker logs {container}"
            )
            raise ClusterError(msg)
        return Registry(container=container, address=address, port=port)

    def _join(self, network: str, container: str, deadline: Deadline) -> None:
        """Join a network; another run may do so at the same moment."""
        try:
            self._docker("network", "connect", network, container, deadline=deadline)
        except CommandError:
            if network not in self._networks(container, deadline):
                raise

    def _networks(self, container: str, deadline: Deadline) -> set[str]:
        form = "{{json .NetworkSettings.Networks}}"
        return set(
            json.loads(self._docker("inspect", "--format", form, container, deadline=deadline))
        )

    def _own_containers(self, deadline: Deadline) -> list[dict[str, Any]]:
        return self._containers("--all", "--filter", f"label={REGISTRY_LABEL}", deadline=deadline)

    def _containers(self, *which: str, deadline: Deadline) -> list[dict[str, Any]]:
        ids = self._docker("ps", "--quiet", *which, deadline=deadline).split()
        if not ids:
            return []
        printed = self._docker("inspect", "--format", "{{json .}}", *ids, deadline=deadline)
        return [json.loads(line) for line in printed.splitlines() if line]

    def _docker(self, *words: str, deadline: Deadline) -> str:
        return self._runner.run(["docker", *words], deadline=deadline.within(120)).stdout


def _config_of(manifest: bytes) -> str:
    """Return the digest of the config that a manifest names; empty if it names none."""
    try:
        return str(json.loads(manifest)["config"]["digest"])
    except (ValueError, LookupError, TypeError):  # an index, or nothing that an engine pushed
        return ""


def _ask(address: str, path: str, deadline: Deadline) -> tuple[int | None, bytes]:
    """Return the status of an answer and its beginning; no status if there was no answer."""
    # By either family: a port may be published on [::1] alone.
    answers = (_ask_at(host, address, path, deadline) for host in (_HERE, _HERE_6))
    return next((one for one in answers if one[0] is not None), (None, b""))


def _ask_at(host: str, address: str, path: str, deadline: Deadline) -> tuple[int | None, bytes]:
    port = int(address.rpartition(":")[2])
    connection = http.client.HTTPConnection(
        host, port, timeout=max(0.1, min(_ANSWERS_IN, deadline.left))
    )
    try:
        connection.request("GET", path, headers={"Accept": _MANIFESTS, "Host": address})
        answer = connection.getresponse()
        return answer.status, answer.read(_LONGEST_MANIFEST)
    except (OSError, http.client.HTTPException):
        return None, b""
    finally:
        connection.close()


_OTHERS_TAKE = 60.0
"""Seconds for which other runs are waited for: starting the registry takes a second or two."""


_USE = "the plugin's registry"
"""Under which the run that used it last is noted, next to the uses of images."""


def open_registry(
    host: RegistryHost,
    *,
    address: str | None,
    cache: Path | None,
    run: Path,
    say: Callable[[str], object],
    deadline: Deadline,
) -> Registry:
    """Return a registry that answers.

    Args:
        host: Who finds and runs registries.
        address: That of the user's registry; None means this project's own.
        cache: The cache folder, which records that the run uses this project's own.
        run: The run directory.
        say: Gets a sentence about waiting for other runs of this host.
        deadline: When to give up.

    Raises:
        ClusterError: There is none, and none can be started.
    """
    if address:
        return host.find(address, deadline)
    soon = deadline.within(_OTHERS_TAKE)
    with locked_for_all_users("registry", soon, say=say):
        if cache:
            note_use(cache, [_USE], ImageUse(run=run, at=now()))
        return host.run(deadline)


def close_registry(
    host: RegistryHost,
    creator: ClusterCreator,
    *,
    cache: Path,
    say: Callable[[str], object],
    deadline: Deadline,
) -> bool:
    """Remove this project's registry unless a cluster of a run, or a live run, may use it.

    It stays as well if another process may just be starting it.

    Returns:
        Whether it was there and is gone.
    """
    soon = deadline.within(_OTHERS_TAKE)
    with locked_for_all_users("registry", soon, say=say) as alone:
        if not alone:
            return False
        last = read_uses(cache).get(_USE)
        if creator.run_directories(deadline) or (last and is_locked(RunDirectory(last.run).lock)):
            return False
        forget_use(cache, _USE)
        return host.remove(deadline)
