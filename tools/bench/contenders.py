"""Who brings the generated project up: scripts, other plugins, and ours with and without parts.

Scripts get CLUSTER, KUBECONFIG and NODE_IMAGE in their environment and run in the project. What
do is what people write; `best` is the best that we could write in a shell. With EDGES=ready in
they keep the order of needs as we do; else they apply everything and wait then.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from generated import EDITED, LEVELS, NAMES

HERE = Path(__file__).parent
_NAMES = " ".join(NAMES)
_START = f"set -euo pipefail; names='{_NAMES}'\n"
_CREATE = "kind create cluster -q --name $CLUSTER --config kind.yaml --image $NODE_IMAGE"
_BASE = "docker build -q -t bench-base base"
_BUILD = "docker build -q -t localhost/$name:dev $name"
_LOAD = "kind load docker-image -q --name $CLUSTER localhost/$name:dev"
_STATUS = "kubectl rollout status deployment/$name"
_SERIAL = f"""
{_CREATE} --wait 120s
for name in $names; do {_LOAD}; done
if test $EDGES = applied; then kubectl apply -f k8s; for name in $names; do {_STATUS}; done
else for name in $names; do kubectl apply -f k8s/$name.yaml; {_STATUS}; done; fi
"""
_AVAILABLE = "kubectl wait --for=condition=Available --timeout=300s deployment"
_LEVELS = " ".join(",".join(level) for level in LEVELS)
_SIDE_BY_SIDE = f"""
pids=; for name in $names; do {_BUILD} & pids+=" $!"; done
for pid in $pids; do wait $pid; done
"""
_EDIT = f"""
name={EDITED}; {_BASE}; {_BUILD}; {_LOAD}
kubectl rollout restart deployment/$name; kubectl rollout status deployment/$name
"""
_UNTUNED = "grep -q tuning kindinfra.toml || sed -i '1a tuning = false' kindinfra.toml"
SHELL = {
    "serial": f"{_BASE}; for name in $names; do {_BUILD}; done; {_SERIAL}",
    "builds": f"{_BASE}; {_SIDE_BY_SIDE} {_SERIAL}",
    "best": f"""
        {_CREATE} & create=$!
        {_BASE}; {_SIDE_BY_SIDE}
        wait $create
        kind load docker-image -q --name $CLUSTER $(printf 'localhost/%s:dev ' $names)
        if test $EDGES = applied; then kubectl apply -f k8s; {_AVAILABLE} --all
        else for level in {_LEVELS}; do
            for name in ${{level//,/ }}; do echo -f k8s/$name.yaml; done | xargs kubectl apply
            {_AVAILABLE} ${{level//,/ }}
        done; fi
    """,
}


@dataclass(frozen=True)
class Contender:
    """One way to bring the project up.

    Attributes:
        name: For options and files.
        about: For people.
        options: Of pytest with our plugin; None for others.
        tuning: Ours only: of the boot.
        checkout: Ours only: the folder of the version; None for the one that is installed.
    """

    name: str
    about: str
    options: tuple[str, ...] | None = None
    tuning: bool = True
    checkout: Path | None = None

    @property
    def snapshots(self) -> bool:
        """Whether a snapshot changes what it does."""
        return self.options is not None and "snapshot=off" not in self.options

    def edit_command(self) -> list[str]:
        """Return the argv that brings an edited image into the cluster that is there."""
        if self.name in SHELL:
            return ["bash", "-c", _START + _EDIT]
        return self.kept_command()

    def kept_command(self) -> list[str]:
        """Return the argv after which the cluster $CLUSTER stays."""
        if self.name in SHELL:
            return ["bash", "-c", _START + SHELL[self.name]]
        kept = '--kindinfra-reuse --kindinfra-cluster-name="$CLUSTER"'
        return ["bash", "-c", f'exec "$@" {kept}', "ours", *self.command(Path())]

    def command(self, peers: Path) -> list[str]:
        """Return the argv.

        Args:
            peers: A Python with the other plugins (requirements: `peers/requirements.txt`).
        """
        if self.name in SHELL:
            return ["bash", "-c", _START + SHELL[self.name]]
        quietly = ["-m", "pytest", "-q", "-s", "-c", "pytest.ini"]
        if self.options is None:
            return [str(peers), *quietly, str(HERE / "peers" / f"test_{self.name}.py")]
        options = [f"--kindinfra-{option}" for option in self.options]
        version = ["env", f"PYTHONPATH={self.checkout}"] if self.checkout else []
        ours = [*version, sys.executable, *quietly, "-p", "no:xdist", *options, "test_ours.py"]
        return ours if self.tuning else ["bash", "-c", f'{_UNTUNED}; exec "$@"', "ours", *ours]


EDITORS = ("best", "serial", "ours", "other")
"""Those of whom it is known how they take an edit without a new cluster."""

CONTENDERS = {
    one.name: one
    for one in (
        Contender("serial", "shell, one step after another"),
        Contender("builds", "shell, builds side by side, then one after another (DD-E2E-001)"),
        Contender("best", "shell, as good as we can write it"),
        Contender("pytest_kind", "pytest-kind"),
        Contender("pytest_kubernetes", "pytest-kubernetes"),
        Contender("ours", "ours", ()),
        Contender("ours_archive", "ours, whole archives", ("load=archive",)),
        Contender("ours_one_build", "ours, one build at a time", ("build-jobs=1",)),
        Contender("ours_booted", "ours, without a snapshot", ("snapshot=off",)),
        Contender("ours_plain_boot", "ours, without tuning of the boot", (), tuning=False),
    )
}


def other_version(checkout: Path) -> Contender:
    """Return the contender that runs the plugin of another checkout with our dependencies."""
    return Contender("other", f"ours, of {checkout.name}", (), checkout=checkout)
