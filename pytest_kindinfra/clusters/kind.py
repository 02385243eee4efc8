"""kind by its command line, on Docker or podman.

`kind create` is called without `--wait`, since that polls without a pause and exits 0 on a
timeout (kind#2654), and with `--retain`, since otherwise a failed one takes its logs along.
Every call names the engine: kind keeps no record of it.
"""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.config import RUN_MOUNT, reached_at
from pytest_kindinfra.engines.common import inspected, remove_patiently
from pytest_kindinfra.engines.failures import node_image_in, remedy_of_pull
from pytest_kindinfra.engines.registry import HOSTS_DIR
from pytest_kindinfra.errors import (
    ClusterError,
    CommandError,
    NothingHereError,
    PortTakenError,
    ToolMissingError,
)
from pytest_kindinfra.protocols.cluster import ObservedCluster
from pytest_kindinfra.references import name_in_node, normalise
from pytest_kindinfra.system.files import write_private
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.programs import which

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.system.runner import Completed, Runner
    from pytest_kindinfra.system.timeline import Deadline


_BETWEEN_WAITS = 1.0


_BALANCER = "-external-load-balancer"


_PORT_TAKEN = re.compile("address already in use|port is already allocated", re.IGNORECASE)
"""As Docker and systems say it (moby, libnetwork/portallocator and cmd/docker-proxy; strerror)."""


_LABEL = "io.x-k8s.kind.cluster"


_PROVIDER = "KIND_EXPERIMENTAL_PROVIDER"


_DEFAULT_ENGINE = "docker"
"""The engine that kind takes where several answer, and nothing tells it which."""


_RUN_BIND = re.compile(rf"(?P<source>/.*):{re.escape(RUN_MOUNT)}(?::[^/:]*)?", re.DOTALL)
"""`SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`, as in `HostConfig.Binds`; a volume has no slash."""


_CTR = ("ctr", "--namespace", "k8s.io")


class KindProvider:
    """The kind on PATH, with an engine whose program understands Docker's commands.

    Args:
        runner: Runs programs.
        program: The engine's program, which is also kind's name for it.
        kill_first: Kill kind nodes before they are deleted: the engine would ask them to end, and
            wait 10 s for systemd in there.
    """

    def __init__(
        self, runner: Runner, *, program: str = _DEFAULT_ENGINE, kill_first: bool = False
    ) -> None:
        self._runner = runner
        self._program = program
        self._kill_first = kill_first
        self._addresses: dict[tuple[str, bool], str] = {}
        self._asking = threading.Lock()

    def check(self, deadline: Deadline) -> str:
        """See `Provider.check`."""
        try:
            which("kind", fix=how_to_get("kind"))
        except ToolMissingError as error:
            raise NothingHereError(str(error)) from error
        return self._kind("version", "-q", deadline=deadline.within(20)).stdout.strip()

    def exists(self, name: str, deadline: Deadline) -> bool:
        """See `Provider.exists`; compares whole lines: `a-b` does not mean that `a` exists."""
        return name in self._kind("get", "clusters", deadline=deadline.within(30)).stdout.split()

    def observe(self, name: str, deadline: Deadline) -> ObservedCluster | None:
        """See `ClusterCreator.observe`."""
        listing = [self._program, "ps", "--all", "--quiet", "--filter", f"label={_LABEL}={name}"]
        ids = self._runner.run(listing, deadline=deadline.within(30)).stdout.split()
        if not ids:
            return None
        argv = [self._program, "inspect", "--format", "{{json .}}", *ids]
        result = self._runner.run(argv, deadline=deadline.within(30), check=False)
        return observed_cluster(inspected(result.stdout))

    def create(
        self, name: str, *, config: dict[str, Any], kubeconfig: Path, deadline: Deadline
    ) -> tuple[str, ...]:
        """See `ClusterCreator.create`."""
        folder = kubeconfig.parent
        file = folder / "kind.json"  # JSON is YAML, which is what kind reads
        write_private(file, json.dumps(config, indent=1))  # a registry's password may be in it
        kubeconfig.touch(mode=0o600)
        try:
            self._kind(
                *("create", "cluster", "--name", name, "--config", str(file)),
                *("--kubeconfig", str(kubeconfig), "--retain", "--wait", "0s"),
                deadline=deadline,
                what=f'creating cluster "{name}"',
                log=folder / "kind-create.log",
            )
        except CommandError as error:
            kind = PortTakenError if _PORT_TAKEN.search(error.output) else ClusterError
            fix = self._fix_of_node_image(error.output, deadline)
            raise kind(f"{error}\nTo fix: {fix}" if fix else str(error)) from error
        return self.nodes(name, deadline)

    def _fix_of_node_image(self, output: str, deadline: Deadline) -> str:
        """Return what to do about a node image that kind could not pull; empty if it could."""
        if not (wanted := node_image_in(output)):
            return ""
        others = [f"--kindinfra-node-image={one}" for one in self._node_images(deadline)]
        there = (
            f"use a node image that the engine has: {', or '.join(others)}; or " if others else ""
        )
        remedy = remedy_of_pull(output) or "read what the engine says about it"
        pull = f"{self._program} pull {wanted}"
        return f"{there}{remedy} (`{pull}` repeats only the pull)"

    def _node_images(self, deadline: Deadline) -> list[str]:
        """Return kind's node images that the engine has, the newest first."""
        argv = [self._program, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]
        printed = self._runner.run(argv, deadline=deadline.within(30), check=False).stdout
        names = (one.removeprefix("docker.io/") for one in printed.split())
        found = {one for one in names if one.startswith("kindest/node:") and "<none>" not in one}
        return sorted(found, key=_version, reverse=True)

    def image_ready_nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:
        """See `Provider.image_ready_nodes`; containerd is up long before the API server."""
        try:
            nodes = self.nodes(name, deadline)
        except CommandError:
            return ()
        return tuple(node for node in nodes if self._answers(node, deadline))

    def _answers(self, node: str, deadline: Deadline) -> bool:
        """Whether it does, in time; on a busy machine it may do at the next asking."""
        argv = [self._program, "exec", node, "ctr", "version"]
        try:
            return self._runner.run(argv, deadline=deadline.within(10), check=False).exit_code == 0
        except CommandError:
            return False

    def nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:
        """See `Provider.nodes`; kind lists the load balancer of several control planes too."""
        result = self._kind("get", "nodes", "--name", name, deadline=deadline.within(30))
        return tuple(name for name in result.stdout.split() if not name.endswith(_BALANCER))

    def images_in(self, node: str, deadline: Deadline) -> frozenset[str]:
        """See `KindNodes.images_in`."""
        return self._listed(node, "images", deadline)

    def blobs_in(self, node: str, deadline: Deadline) -> frozenset[str]:
        """See `KindNodes.blobs_in`; what is still being written is not listed."""
        return self._listed(node, "content", deadline)

    def _listed(self, node: str, what: str, deadline: Deadline) -> frozenset[str]:
        argv = [self._program, "exec", node, *_CTR, what, "list", "-q"]
        return frozenset(self._runner.run(argv, deadline=deadline.within(60)).stdout.split())

    def forget_images(self, node: str, references: Sequence[str], deadline: Deadline) -> None:
        """See `KindNodes.forget_images`: `ctr` lists an image before it has unpacked it."""
        names = map(name_in_node, references)
        argv = [self._program, "exec", node, *_CTR, "images", "remove", *names]
        self._runner.run(argv, deadline=deadline.within(60), check=False)

    def name_image(self, node: str, name: str, reference: str, deadline: Deadline) -> None:
        """See `KindNodes.name_image`; containerd's event tells the CRI the new name."""
        names = (normalise(name), name_in_node(reference))
        argv = [self._program, "exec", node, *_CTR, "images", "tag", "--force", *names]
        self._runner.run(argv, deadline=deadline.within(60))

    def pull(self, node: str, name: str, deadline: Deadline) -> str:
        """See `KindNodes.pull`; reads hosts.toml files whatever containerd's own config says."""
        words = ("images", "pull", "--hosts-dir", HOSTS_DIR, name)
        argv = [self._program, "exec", node, *_CTR, *words]
        return self._runner.run(argv, deadline=deadline, what=f"pulling {name} into {node}").stdout

    def import_command(self, node: str) -> tuple[str, ...]:
        """See `KindNodes.import_command`; as kind's own loader, less `--all-platforms`."""
        into = (self._program, "exec", "--privileged", "-i", node)
        return (*into, *_CTR, "images", "import", "--digests", "-")

    def node_address(self, node: str, deadline: Deadline, *, ipv6: bool = False) -> str:
        """See `KindNodes.node_address`; asked once, as each service's endpoints lead there."""
        with self._asking:
            if (node, ipv6) not in self._addresses:
                self._addresses[node, ipv6] = self._ask_address(node, deadline, ipv6=ipv6)
            return self._addresses[node, ipv6]

    def _ask_address(self, node: str, deadline: Deadline, *, ipv6: bool) -> str:
        fields = "{{.IPAddress}} {{.GlobalIPv6Address}}"
        networks = f"{{{{range .NetworkSettings.Networks}}}}{fields} {{{{end}}}}"
        argv = [self._program, "inspect", "--format", networks, node]
        found = self._runner.run(argv, deadline=deadline.within(30)).stdout.split()
        if not found:
            msg = f'kind node "{node}" has no address: its container is in no network, or ended'
            raise ClusterError(msg)
        return next((one for one in found if (":" in one) == ipv6), found[0])

    def machine_id(self, node: str, deadline: Deadline) -> str:
        """See `KindNodes.machine_id`."""
        argv = [self._program, "exec", node, "cat", "/etc/machine-id"]
        return self._runner.run(argv, deadline=deadline.within(30)).stdout.strip()

    def await_end(self, node: str, deadline: Deadline) -> str:
        """See `KindNodes.await_end`; an engine that only restarts keeps its containers if told to.

        `wait` ends when the container does, when it is removed, and when the engine goes.
        """
        while True:
            done = self._runner.run([self._program, "wait", node], deadline=deadline, check=False)
            if not self._runs(node, deadline):
                said = (done.stdout + done.stderr).strip()
                return f"exit code {said}" if said.isdecimal() else said
            deadline.pause(_BETWEEN_WAITS)

    def _runs(self, node: str, deadline: Deadline) -> bool:
        argv = [self._program, "inspect", "--format", "{{.State.Running}}", node]
        result = self._runner.run(argv, deadline=deadline.within(10), check=False)
        return result.stdout.strip() == "true"

    def run_directories(self, deadline: Deadline) -> dict[str, Path]:
        """See `ClusterCreator.run_directories`; they are mounted at `RUN_MOUNT`."""
        listing = [self._program, "ps", "--all", "--quiet", "--filter", f"label={_LABEL}"]
        ids = self._runner.run(listing, deadline=deadline.within(30)).stdout.split()
        if not ids:
            return {}
        argv = [self._program, "inspect", "--format", "{{json .}}", *ids]
        result = self._runner.run(argv, deadline=deadline.within(30), check=False)
        found = {
            item["Config"]["Labels"][_LABEL]: _run_folder_of(item)
            for item in inspected(result.stdout)
        }
        return {name: folder for name, folder in found.items() if folder}

    def export_logs(self, name: str, folder: Path, deadline: Deadline) -> None:
        """See `Provider.export_logs`."""
        self._kind("export", "logs", str(folder), "--name", name, deadline=deadline)

    def delete(self, name: str, *, kubeconfig: Path, deadline: Deadline) -> None:
        """See `Provider.delete`."""
        if self._kill_first:
            self._kill(name, deadline)
        remove_patiently(
            lambda: self._kind(
                *("delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)),
                deadline=deadline,
                what=f'deleting cluster "{name}"',
            ),
            deadline,
        )

    def _kill(self, name: str, deadline: Deadline) -> None:
        listing = [self._program, "ps", "--quiet", "--filter", f"label={_LABEL}={name}"]
        ids = self._runner.run(listing, deadline=deadline.within(30), check=False).stdout.split()
        if ids:
            argv = [self._program, "kill", "--signal", "KILL", *ids]
            self._runner.run(argv, deadline=deadline.within(30), check=False)

    def delete_command(self, name: str) -> Sequence[str]:
        """See `Provider.delete_command`."""
        command = ("kind", "delete", "cluster", "--name", name)
        which_engine = ("env", f"{_PROVIDER}={self._program}")
        return command if self._program == _DEFAULT_ENGINE else (*which_engine, *command)

    def _kind(
        self, *words: str, deadline: Deadline, what: str = "", log: Path | None = None
    ) -> Completed:
        argv = ["kind", *words]
        return self._runner.run(
            argv, deadline=deadline, what=what, env={_PROVIDER: self._program}, log=log
        )


def _version(reference: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", reference.partition(":")[2])]


def _run_folder_of(container: dict[str, Any]) -> Path | None:
    """Return the folder of this host that is mounted at `RUN_MOUNT`; None if nothing is.

    What the container was created with comes first (`Binds`, or `Mounts` of the host config): in a
    virtual machine (Docker Desktop, podman machine), `Mounts` shows the path in there.
    """
    host = container.get("HostConfig") or {}
    for bind in host.get("Binds") or ():
        if match := _RUN_BIND.fullmatch(bind):
            return Path(match["source"])
    for mount in host.get("Mounts") or ():
        if mount.get("Target") == RUN_MOUNT and mount.get("Source"):
            return Path(mount["Source"])
    for mount in container.get("Mounts") or ():
        if mount["Destination"] == RUN_MOUNT:
            return Path(mount["Source"])
    return None


def observed_cluster(containers: Sequence[dict[str, Any]]) -> ObservedCluster | None:
    """Return what `docker inspect` shows of one cluster; None if all its containers are gone."""
    if not containers:
        return None
    folders = [folder for item in containers if (folder := _run_folder_of(item))]
    names = sorted(item["Name"].removeprefix("/") for item in containers)
    bindings = [(item.get("HostConfig") or {}).get("PortBindings") or {} for item in containers]
    mapped = {
        int(port.partition("/")[0]): hosts[0]
        for binding in bindings
        for port, hosts in binding.items()
        if port.endswith("/tcp") and hosts and hosts[0]["HostPort"].isdecimal()
    }
    return ObservedCluster(
        nodes=tuple(name for name in names if not name.endswith(_BALANCER)),
        running=all(item["State"]["Running"] for item in containers),
        folder=folders[0] if folders else None,
        host_ports={port: int(one["HostPort"]) for port, one in mapped.items()},
        hosts={port: reached_at(one.get("HostIp") or "") for port, one in mapped.items()},
    )
