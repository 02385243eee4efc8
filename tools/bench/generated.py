"""The project that contenders bring up: images, manifests, and a set-up for each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAMES = tuple(f"bench-s{number}" for number in range(1, 6))
NEEDS = {NAMES[0]: (), NAMES[1]: (0,), NAMES[2]: (0,), NAMES[3]: (1,), NAMES[4]: (2, 3)}
LEVELS = (NAMES[:1], NAMES[1:3], NAMES[3:4], NAMES[4:])
"""Those whose needs are met once the levels before are ready."""

EDITED = NAMES[2]
NODE_PORTS = tuple(range(30041, 30046))
PORTS = tuple(range(28041, 28046))


@dataclass(frozen=True)
class Sizes:
    """Megabytes of the layers that all share and of each image's own; CPU seconds of a build."""

    base_mb: int
    own_mb: int
    burn: float


def make_project(folder: Path, *, salt: str, edges: str, sizes: Sizes) -> None:
    """Write everything into `folder`.

    Args:
        folder: Empty.
        salt: What services answer; contents that depend on it were never built before.
        edges: How far a need must be, for those that know of needs: `ready` or `applied`.
        sizes: Of images.
    """
    _base(folder / "base", salt, sizes)
    for name in NAMES:
        _service(folder / name, name, salt, sizes)
        (folder / "k8s").mkdir(exist_ok=True)
        (folder / "k8s" / f"{name}.yaml").write_text(_manifest(name))
    (folder / "kind.yaml").write_text(_kind_config())
    (folder / "kindinfra.toml").write_text(_declaration(edges))
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_ours.py").write_text(_OURS)


_OURS = f"""
import pytest

@pytest.mark.kindinfra{NAMES}
def test_all(kindinfra): ...
"""


def edit(folder: Path, salt: str) -> None:
    """Change what the service `EDITED` answers, and nothing else."""
    (folder / EDITED / "index.html").write_text(f"{EDITED} {salt}")


def _base(folder: Path, salt: str, sizes: Sizes) -> None:
    folder.mkdir()
    (folder / "blob").write_bytes(os.urandom(sizes.base_mb * 1_000_000))
    (folder / "burn.py").write_text(_burning(sizes.burn))
    (folder / "salt").write_text(salt)
    (folder / "Dockerfile").write_text(
        "FROM python:3.11-slim\nCOPY blob burn.py salt /\nRUN python3 /burn.py\n"
    )


def _burning(seconds: float) -> str:
    return (
        f"import time\nend = time.process_time() + {seconds}\n"
        "while time.process_time() < end:\n    pass\n"
    )


def _service(folder: Path, name: str, salt: str, sizes: Sizes) -> None:
    folder.mkdir()
    (folder / "blob").write_bytes(os.urandom(sizes.own_mb * 1_000_000))
    (folder / "index.html").write_text(f"{name} {salt}")
    (folder / "Dockerfile").write_text(
        dedent("""\
            FROM bench-base
            COPY blob /
            RUN python3 /burn.py
            COPY index.html /www/
            CMD ["python3", "-m", "http.server", "8080", "--directory", "/www"]
        """)
    )


def _manifest(name: str) -> str:
    node_port = NODE_PORTS[NAMES.index(name)]
    return dedent(f"""\
        apiVersion: apps/v1
        kind: Deployment
        metadata: {{name: {name}}}
        spec:
          selector: {{matchLabels: {{app: {name}}}}}
          template:
            metadata: {{labels: {{app: {name}}}}}
            spec:
              terminationGracePeriodSeconds: 0
              containers:
              - name: main
                image: localhost/{name}:dev
                imagePullPolicy: IfNotPresent
                readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
        ---
        apiVersion: v1
        kind: Service
        metadata: {{name: {name}}}
        spec:
          type: NodePort
          selector: {{app: {name}}}
          ports: [{{port: 80, targetPort: 8080, nodePort: {node_port}}}]
    """)


def _kind_config() -> str:
    mappings = "\n".join(
        f"  - {{containerPort: {inner}, hostPort: {outer}, listenAddress: 127.0.0.1}}"
        for inner, outer in zip(NODE_PORTS, PORTS, strict=True)
    )
    start = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n"
    return f"{start}  extraPortMappings:\n{mappings}\n"


def _declaration(edges: str) -> str:
    tables = ['[cluster]\nconfig = "kind.yaml"', '[images.bench-base]\ncontext = "base"']
    for name in NAMES:
        tables.append(f'[images.{name}]\ncontext = "{name}"\nneeds = ["bench-base"]')
        level = "" if edges == "ready" else f":{edges}"
        needs = [f"{NAMES[number]}{level}" for number in NEEDS[name]]
        tables.append(
            f'[services.{name}]\nmanifests = ["k8s/{name}.yaml"]\nneeds = {needs}\n'
            'endpoints.http = { port = 80, path = "/" }'
        )
    return "\n\n".join(tables) + "\n"
