"""Snapshots of kind nodes as images of a Docker engine, through the `docker` package.

A kind node is a container whose state is in `/etc`, in `/kind` and in the anonymous volume `/var`.
A snapshot is the node image with one more layer: `/etc` and `/kind` as they are, and archives of
what differs in `/var`. A restored kind node is made as kind made the first one: what `inspect` said
of that is the template. It must not know Kubernetes, nor what a snapshot is good for.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.engines import nodescripts
from pytest_kindinfra.errors import EngineError, PortTakenError, last_lines
from pytest_kindinfra.model import SNAPSHOT_LABEL
from pytest_kindinfra.protocols.snapshots import (
    NodeContainer,
    Packed,
    SnapshotNotes,
    StoredSnapshot,
)
from pytest_kindinfra.references import split

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from docker import APIClient

    from pytest_kindinfra.engines.host import EngineAddress
    from pytest_kindinfra.system.timeline import Deadline


_MAKING_LABEL = f"{SNAPSHOT_LABEL}.making"
"""On a container that is to become a snapshot: the lock of the run that makes it."""


_CALL_SECONDS = 300
"""For one call: making a container copies the node image's volume."""


_CLUSTER_LABEL = "io.x-k8s.kind.cluster"


_VOLUME = "/var"


_FOLDERS = ("/etc", "/kind")
"""What a kind node changes outside of its volume."""


_READ_AT = "/mnt"
"""Where the container that becomes a snapshot has the volume of the kind node."""


_ADMIN = "/etc/kubernetes/admin.conf"


_TAKEN = ("already in use", "already allocated")
"""Of a port, as Docker says it."""


_TEMPLATE = ("Hostname", "Env", "Tty", "StopSignal")
"""Fields of a container's `Config` that kind sets."""


_OF_THE_CLUSTER = ("Binds", "Mounts", "PortBindings", "ContainerIDFile", "VolumesFrom", "Links")
"""Fields of a container's `HostConfig` that are not in the template."""


class DockerSnapshots:
    """See `protocols.Snapshots`; nothing is imported or asked before the first call.

    Args:
        address: Where the `docker` command finds its engine.
    """

    def __init__(self, address: Callable[[], EngineAddress]) -> None:
        self._address = address
        self._known: APIClient | None = None

    def kind_of_engine(self, deadline: Deadline) -> str:
        """See `Snapshots.kind_of_engine`."""
        with self._engine(deadline) as engine:
            info = engine.info()
        secure = " ".join(sorted(info.get("SecurityOptions") or ()))
        words = (info["Architecture"], f"cgroup{info['CgroupVersion']}", info["Driver"], secure)
        return " ".join(words)

    def all(self, deadline: Deadline) -> list[StoredSnapshot]:
        """See `Snapshots.all`."""
        with self._engine(deadline) as engine:
            found = engine.images(filters={"label": SNAPSHOT_LABEL})
            items = [_image(engine, one["Id"]) for one in found]
        stored = [self._stored(item) for item in items]
        return sorted(stored, key=lambda one: one.notes.made if one.notes else 0.0, reverse=True)

    def find(self, reference: str, deadline: Deadline) -> StoredSnapshot | None:
        """See `Snapshots.find`."""
        from docker.errors import ImageNotFound

        with self._engine(deadline) as engine, suppress(ImageNotFound):
            return self._stored(_image(engine, reference))
        return None

    def image_id(self, reference: str, deadline: Deadline) -> str | None:
        """See `Snapshots.image_id`."""
        from docker.errors import ImageNotFound

        with self._engine(deadline) as engine, suppress(ImageNotFound):
            return str(_image(engine, reference)["Id"])
        return None

    def pack(self, node: str, own: Container[str], *, lock: Path, deadline: Deadline) -> Packed:
        """See `Snapshots.pack`; the node is paused for as long as files that change are read."""
        with self._engine(deadline) as engine:
            item = engine.inspect_container(node)
            template = self._template(engine, item, own)
            base = template["image_id"]
            container = self._helper(engine, base, volume=_volume_of(item), lock=lock)
            packed = Packed(
                container=container,
                node_image=template["image"],
                node_image_id=base,
                template=template,
            )
            try:
                files = nodescripts.scripts(template["entrypoint"][0])
                engine.put_archive(container, "/", _archive(files, nodescripts.LINKS))
                with _paused(engine, node):
                    self._copy_folders(engine, node, container)
                    _run_helper(engine, container, deadline)
            except BaseException:
                self.discard(packed)
                raise
            return packed

    def _helper(self, engine: APIClient, image: str, *, volume: str, lock: Path) -> str:
        """Make a container of the node image, in whose layer the snapshot grows."""
        made = engine.create_container(
            image,
            entrypoint=["/bin/bash", "-c"],
            command=[nodescripts.pack_script()],
            labels={_MAKING_LABEL: str(lock)},
            host_config=engine.create_host_config(
                binds=[f"{volume}:{_READ_AT}:ro"],
                network_mode="none",
                cap_add=["SYS_ADMIN"],  # to read trusted.overlay attributes
            ),
        )
        return str(made["Id"])

    def _copy_folders(self, engine: APIClient, node: str, container: str) -> None:
        for folder in _FOLDERS:
            stream, _ = engine.get_archive(node, folder)
            engine.put_archive(container, "/", b"".join(stream))

    def keep(
        self, packed: Packed, reference: str, notes: SnapshotNotes, deadline: Deadline
    ) -> None:
        """See `Snapshots.keep`; the layers of images are read now, while the node goes on."""
        repository, tag = split(reference)
        words = [nodescripts.ENTRYPOINT, *packed.template["entrypoint"][1:]]
        labels = {SNAPSHOT_LABEL: json.dumps(asdict(notes), sort_keys=True)}
        try:
            with self._engine(deadline) as engine:
                _run_helper(engine, packed.container, deadline)
                engine.commit(
                    packed.container,
                    repository=repository,
                    tag=tag,
                    changes=[f"ENTRYPOINT {json.dumps(words)}", "CMD []"],
                    conf={"Labels": labels, "Env": packed.template["config"]["Env"]},
                )
        finally:
            self.discard(packed)

    def discard(self, packed: Packed) -> None:
        """See `Snapshots.discard`."""
        from docker.errors import DockerException

        with suppress(DockerException, OSError):
            _remove_helper(self._client(), packed.container)

    def remove_unfinished(self, lock: Path, deadline: Deadline) -> None:
        """See `Snapshots.remove_unfinished`."""
        with self._engine(deadline) as engine:
            label = {"label": f"{_MAKING_LABEL}={lock}"}
            for one in engine.containers(all=True, filters=label):
                _remove_helper(engine, one["Id"])

    def restore(self, snapshot: StoredSnapshot, node: NodeContainer, deadline: Deadline) -> bytes:
        """See `Snapshots.restore`."""
        if snapshot.notes is None:
            msg = f'snapshot "{snapshot.reference}" does not say how it was made'
            raise EngineError(msg)
        template = snapshot.notes.container
        with self._engine(deadline) as engine:
            config = _config_of(template, node, snapshot.id)
            container = _created(engine, config, node.name)
            admin = _only_file(engine.get_archive(container, _ADMIN)[0])
            engine.start(container)
        return admin

    def run_in(self, node: str, words: Sequence[str], deadline: Deadline) -> tuple[int, str]:
        """See `Snapshots.run_in`."""
        with self._engine(deadline) as engine:
            made = engine.exec_create(node, [*words])
            printed = engine.exec_start(made["Id"])
            code = engine.exec_inspect(made["Id"])["ExitCode"]
        return int(code or 0), printed.decode("utf-8", "replace").strip()

    def remove(self, snapshot: StoredSnapshot, deadline: Deadline) -> None:
        """See `Snapshots.remove`."""
        with self._engine(deadline) as engine:
            engine.remove_image(snapshot.reference or snapshot.id)

    def _stored(self, item: Mapping[str, Any]) -> StoredSnapshot:
        names = item.get("RepoTags") or ()
        notes = _notes((item["Config"].get("Labels") or {}).get(SNAPSHOT_LABEL, ""))
        return StoredSnapshot(
            reference=names[0] if names else "",
            id=item["Id"],
            size=self._beyond_base(item),
            notes=notes,
        )

    def _beyond_base(self, item: Mapping[str, Any]) -> int:
        """Return the bytes of the last layer, which is the snapshot's own."""
        layers: Any = self._client().history(item["Id"])  # type: ignore[no-untyped-call]
        return int(layers[0]["Size"]) if layers else 0

    def _template(
        self, engine: APIClient, item: Mapping[str, Any], own: Container[str]
    ) -> dict[str, Any]:
        """Return how to make a container like this one, less what is of its cluster alone.

        A kind node that was restored itself has the template that it was made by, so that a
        snapshot of it is no snapshot upon a snapshot.
        """
        from docker.errors import ImageNotFound

        config, host = item["Config"], item["HostConfig"]
        labels = dict(config.get("Labels") or {})
        if notes := _notes(labels.get(SNAPSHOT_LABEL, "")):
            with suppress(ImageNotFound):
                _image(engine, notes.node_image_id)
                return notes.container
            return {**notes.container, "image_id": item["Image"]}
        return {
            "image": config["Image"],
            "image_id": item["Image"],
            "entrypoint": _image(engine, item["Image"])["Config"]["Entrypoint"],
            "config": {key: config[key] for key in _TEMPLATE if config.get(key) is not None},
            "labels": {key: one for key, one in labels.items() if key.startswith("io.x-k8s.kind.")},
            "host": {key: one for key, one in host.items() if one and key not in _OF_THE_CLUSTER},
            "binds": [one for one in host.get("Binds") or () if one.split(":")[1] not in own],
            "network": host["NetworkMode"],
        }

    def _client(self) -> APIClient:
        if self._known is None:
            self._known = _connect(self._address())
        return self._known

    @contextmanager
    def _engine(self, deadline: Deadline) -> Iterator[APIClient]:
        """Give the engine's client; what it complains about becomes one of the plugin's errors."""
        from docker.errors import DockerException

        deadline.check()
        try:
            yield self._client()
        except (DockerException, OSError) as error:
            said = last_lines(str(getattr(error, "explanation", None) or error), 2)
            kind = PortTakenError if any(one in said for one in _TAKEN) else EngineError
            msg = f"the Docker engine: {said}"
            raise kind(msg) from error


def _connect(address: EngineAddress) -> APIClient:
    import docker

    if address.url and address.source != "DOCKER_HOST":
        return docker.APIClient(base_url=address.url, timeout=_CALL_SECONDS)
    return docker.from_env(timeout=_CALL_SECONDS).api


def _image(engine: APIClient, reference: str) -> dict[str, Any]:
    """Return what the engine says of an image; the package has no types for it."""
    found: dict[str, Any] = engine.inspect_image(reference)  # type: ignore[no-untyped-call]
    return found


def _created(engine: APIClient, config: dict[str, Any], name: str) -> str:
    """Make a container and return its id; the package has no types for it."""
    made: Any = engine.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
    return str(made["Id"])


def _remove_helper(engine: APIClient, container: str) -> None:
    """Remove the container that was to become a snapshot, and the volume that it read.

    The volume is that of the kind node, and goes with it, unless the kind node went first. The
    engine removes no volume that a container still has.
    """
    from docker.errors import APIError

    mounts = engine.inspect_container(container)["Mounts"]
    engine.remove_container(container, v=True, force=True)
    for mount in mounts:
        if mount["Type"] == "volume" and mount["Destination"] == _READ_AT:
            with suppress(APIError):
                engine.remove_volume(mount["Name"])


def _run_helper(engine: APIClient, container: str, deadline: Deadline) -> None:
    """Have the container that becomes the snapshot read the next part of the node's volume."""
    engine.start(container)
    ended = engine.wait(container, timeout=int(_seconds(deadline)))
    if code := ended["StatusCode"]:
        printed = engine.logs(container).decode("utf-8", "replace")
        msg = f"copying {_VOLUME} ended with exit code {code}: {last_lines(printed, 2)}"
        raise EngineError(msg)


@contextmanager
def _paused(engine: APIClient, node: str) -> Iterator[None]:
    engine.pause(node)
    try:
        yield
    finally:
        engine.unpause(node)


def _seconds(deadline: Deadline) -> float:
    return 600.0 if math.isinf(deadline.left) else max(deadline.left, 1.0)


def _volume_of(item: Mapping[str, Any]) -> str:
    for mount in item["Mounts"]:
        if mount["Destination"] == _VOLUME and mount["Type"] == "volume":
            return str(mount["Name"])
    msg = f"the kind node has no volume at {_VOLUME}"
    raise EngineError(msg)


def _config_of(template: Mapping[str, Any], node: NodeContainer, image: str) -> dict[str, Any]:
    """Return what the engine's API wants to make the container of a kind node."""
    bindings = {
        port: [{"HostIp": address, "HostPort": str(number) if number > 0 else ""}]
        for port, (address, number) in node.ports.items()
    }
    binds = [*template["binds"], *node.binds]
    return {
        **template["config"],
        "Image": image,
        "Labels": {**template["labels"], _CLUSTER_LABEL: node.cluster},
        "Volumes": {_VOLUME: {}},
        "ExposedPorts": {port: {} for port in node.ports},
        "HostConfig": {**template["host"], "Binds": binds, "PortBindings": bindings},
        "NetworkingConfig": {"EndpointsConfig": {template["network"]: {}}},
    }


def _notes(label: str) -> SnapshotNotes | None:
    """Return what a label says; None if it is no label of this version."""
    try:
        said = json.loads(label)
        lists = {key: tuple(said[key]) for key in ("images", "credentials")}
        return SnapshotNotes(**{**said, **lists})
    except (ValueError, TypeError, KeyError):
        return None


def _archive(files: Mapping[str, str], links: Mapping[str, str]) -> bytes:
    """Return a tar archive of root's files and links."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
        for path, target in links.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return written.getvalue()


def _only_file(stream: Iterator[bytes]) -> bytes:
    """Return the content of the one file in an archive."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        found = archive.extractfile(archive.getmembers()[0])
        return found.read() if found else b""
