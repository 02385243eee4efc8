"""How long an image takes into a kind node after one byte of it was edited.

The image has 250 MB, of which 200 MB are a base that the kind node has. What is edited is a small
file on top (`small`), or one in a layer of 50 MB (`layer`). Each round builds an image of its own
for each contender and loads them in turns, so that what else the machine does hits all alike.
Needs Docker, kind and registry:2 (`make registry-image`); the registry stays (`kindinfra gc`).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from figures import quartiles, ratio

from pytest_kindinfra.clusters.kind import KindProvider
from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.engines.registry import DockerRegistry, close_registry, with_registry
from pytest_kindinfra.images.load import ImageLoader
from pytest_kindinfra.images.registry import RegistrySender
from pytest_kindinfra.state.memory import cache_folder
from pytest_kindinfra.system.runner import Runner
from pytest_kindinfra.system.timeline import Deadline, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.model import Load

_MEGABYTE = 1_000_000
_KIND, _SAVE, _REGISTRY = "kind load docker-image", "docker save alone", "registry"
_WAYS: dict[str, Load] = {"delta": "delta", "archive": "archive"}
_CONTENDERS = (_KIND, *_WAYS, _REGISTRY, _SAVE)
_runner = Runner()
_docker, _kind, _host = Docker(_runner), KindProvider(_runner), DockerRegistry(_runner)


def main() -> None:
    """Measure, print a table, and write JSON if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--edit", choices=("small", "layer"), default="small")
    parser.add_argument("--node-image", default="kindest/node:v1.34.4")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    name = f"bench-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            nodes = _create(name, given.node_image, Path(folder))
            seconds = _measure(name, nodes, Path(folder), rounds=given.rounds, edit=given.edit)
        finally:
            _kind.delete(name, kubeconfig=Path(folder) / "kubeconfig", deadline=Deadline.after(120))
            ids = _lines("docker", "image", "ls", "--quiet", f"{name}/*")
            _run("docker", "image", "rm", "--force", *ids, check=False)
            close_registry(
                _host, _kind, cache=cache_folder(), say=print, deadline=Deadline.after(60)
            )
    for line in _table(seconds):
        print(line)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"edit": given.edit, "seconds": seconds}, indent=1))


def _create(name: str, node_image: str, folder: Path) -> tuple[str, ...]:
    nodes = {"nodes": [{"role": "control-plane", "image": node_image}]}
    config = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", **with_registry(nodes)}
    deadline = Deadline.after(300)
    return _kind.create(name, config=config, kubeconfig=folder / "kubeconfig", deadline=deadline)


def _measure(
    name: str, nodes: tuple[str, ...], folder: Path, *, rounds: int, edit: str
) -> dict[str, list[float]]:
    (folder / "base").write_bytes(os.urandom(200 * _MEGABYTE))
    (folder / "layer").write_bytes(os.urandom(50 * _MEGABYTE))
    (folder / "small").write_bytes(bytes(4))
    deadline = Deadline.after(3600)
    registry = RegistrySender(
        _host.run(deadline), host=_host, engine=_docker, kind_nodes=_kind, folder=folder
    )
    first = _build(f"{name}/first:1", folder)
    for way in ("delta", _REGISTRY):  # what the kind node and the registry have beforehand
        _load(way, name, first, nodes, registry)
    seconds: dict[str, list[float]] = {one: [] for one in _CONTENDERS}
    for number in range(rounds):
        turn = number % len(_CONTENDERS)
        for way in (*_CONTENDERS[turn:], *_CONTENDERS[:turn]):
            _edit_one_byte(folder / edit, number)
            image = _build(f"{name}/{_word(way)}:{number}", folder)
            start = time.monotonic()
            _load(way, name, image, nodes, registry)
            seconds[way].append(time.monotonic() - start)
    return seconds


def _word(way: str) -> str:
    return way.replace(" ", "-")


def _edit_one_byte(file: Path, number: int) -> None:
    """Change one byte, to what it was in no image before."""
    with file.open("r+b") as opened:
        opened.seek(number % 4)
        byte = opened.read(1)[0]
        opened.seek(number % 4)
        opened.write(bytes([(byte + 1) % 256]))


def _build(reference: str, folder: Path) -> str:
    lines = ("FROM busybox", "COPY base /", "COPY layer /", "COPY small /")
    (folder / "Dockerfile").write_text("\n".join(lines))
    words = ("docker", "buildx", "build", "--load", "--provenance=false", "--quiet")
    _run(*words, "--tag", reference, str(folder))
    return reference


def _load(
    way: str, cluster: str, image: str, nodes: tuple[str, ...], registry: RegistrySender
) -> None:
    if way == _KIND:
        _run("kind", "load", "docker-image", "--name", cluster, image)
    elif way == _SAVE:
        subprocess.run(["docker", "save", image], check=True, stdout=subprocess.DEVNULL)
    else:
        loader = ImageLoader(
            nodes,
            engine=_docker,
            kind_nodes=_kind,
            runner=_runner,
            timeline=Timeline(),
            how=_WAYS.get(way, "auto"),
            sender=registry if way == _REGISTRY else None,
        )
        loader.load(image, image, Deadline.after(300))


def _table(seconds: dict[str, list[float]]) -> Iterator[str]:
    yield f"{'':<24} {'lower':>7} {'median':>7} {'upper':>7}   of kind load (90 %)"
    for way, values in seconds.items():
        low, middle, high = quartiles(values)
        of, least, most = ratio(values, seconds[_KIND])
        times = f"{low:>7.2f} {middle:>7.2f} {high:>7.2f}"
        yield f"{way:<24} {times}   {of:.2f} ({least:.2f} to {most:.2f})"


def _lines(*argv: str) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def _run(*argv: str, check: bool = True) -> None:
    subprocess.run(argv, check=check, capture_output=True, timeout=300)


if __name__ == "__main__":
    main()
