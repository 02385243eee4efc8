"""The project that contenders bring up: images, manifests, and a set-up for each."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

from contents import make_up, take_example

if TYPE_CHECKING:
    from pathlib import Path

    from contents import Sizes

NAMES = tuple(f"bench-s{number}" for number in range(1, 6))
NEEDS = {NAMES[0]: (), NAMES[1]: (0,), NAMES[2]: (0,), NAMES[3]: (1,), NAMES[4]: (2, 3)}
LEVELS = (NAMES[:1], NAMES[1:3], NAMES[3:4], NAMES[4:])
"""Those whose needs are met once the levels before are ready."""

EDITED = NAMES[2]
NODE_PORTS = tuple(range(30041, 30046))
PORTS = tuple(range(28041, 28046))


def make_project(folder: Path, *, salt: str, edges: str, sizes: Sizes | None) -> None:
    """Write everything into `folder`.

    Args:
        folder: Empty.
        salt: What services answer; contents that depend on it were never built before.
        edges: How far a need must be, for those that know of needs: `ready` or `applied`.
        sizes: Of images that are made up; None for those of the example.
    """
    if sizes:
        make_up(folder, NAMES, salt, sizes)
    else:
        take_example(folder, NAMES, salt)
    for name in NAMES:
        (folder / "k8s").mkdir(exist_ok=True)
        (folder / "k8s" / f"{name}.yaml").write_text(_manifest(name))
    (folder / "kind.yaml").write_text(_kind_config())
    (folder / "kindinfra.toml").write_text(_declaration(edges))
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_ours.py").write_text(_OURS)


# It stays for a moment, so that the bench has its answers before the cluster is deleted.
_OURS = f"""
import time

import pytest

@pytest.mark.kindinfra{NAMES}
def test_all(kindinfra):
    time.sleep(2)
"""


def edit(folder: Path, salt: str) -> None:
    """Change what the service `EDITED` answers, and nothing else."""
    (folder / EDITED / "index.html").write_text(f"{EDITED} {salt}")


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
