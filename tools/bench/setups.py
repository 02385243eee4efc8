"""The same system brought up by scripts, by other plugins and by us, in turns within one run.

A project is generated: a base image that is large and costs processor time, services that start
from it, and edges between them. Each contender gets it with contents that nobody built yet (cold),
and then the same with a new cluster (warm). Time ends when every service has answered on its port
of this host with the right text, which this program asks itself. Method: as many rounds as asked
for, contenders in another order each time; ratios are of medians, with an interval from pairs.

    tools/bench/setups.py [--rounds 3] [--only best,ours] [--edges applied] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from contenders import CONTENDERS, Contender
from figures import quartiles, ratio
from generated import PORTS, Sizes, make_project

ROOT = Path(__file__).parents[2]
_LONGEST = 600.0
_EVERY = 0.05
_PATIENCE = 0.15
"""Seconds for an answer: a connection that came before kube-proxy's rules hangs for one second."""
_GRACE = 30.0
"""Seconds between the end of a script and its services' answers."""


@dataclass(frozen=True)
class Bench:
    """One generated project, and what it is brought up with."""

    folder: Path
    salt: str
    node_image: str
    peers: Path

    def run(self, contender: Contender) -> float:
        """Return the seconds until all has answered; the cluster is gone afterwards."""
        name = f"bench-{secrets.token_hex(3)}"
        variables = {
            "CLUSTER": name,
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "PORTS": " ".join(map(str, PORTS)),
            "NODE_IMAGE": self.node_image,
            "KINDINFRA_NODE_IMAGE": self.node_image,
            "KIND": shutil.which("kind") or "kind",
            "KUBECTL": shutil.which("kubectl") or "kubectl",
        }
        start = time.monotonic()
        with (self.folder / f"{contender.name}.log").open("w") as log:
            process = subprocess.Popen(
                contender.command(self.peers),
                cwd=self.folder,
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                return self._until_answered(process, start)
            finally:
                _end(process)
                _delete_clusters(name)

    def _until_answered(self, process: subprocess.Popen[bytes], start: float) -> float:
        waiting, ended = set(PORTS), _LONGEST
        while waiting:
            waiting = {port for port in waiting if not _answers(port, self.salt)}
            passed = time.monotonic() - start
            if process.poll() is not None:
                ended = min(ended, passed)
            if waiting and (process.poll() or passed > min(_LONGEST, ended + _GRACE)):
                logs = "".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
                msg = f"{logs}\nfailed after {passed:.0f} s"
                raise SystemExit(msg)
            time.sleep(_EVERY)
        return time.monotonic() - start


def _answers(port: int, text: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/")
        return text in connection.getresponse().read().decode()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end by itself, which for a plugin includes the deletion of its cluster."""
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _delete_clusters(name: str) -> None:
    subprocess.run(["kind", "delete", "cluster", "--name", name], check=True, capture_output=True)


def _remove_images() -> None:
    """Remove what was built for the bench, so that disks do not fill; caches stay."""
    listed = subprocess.run(
        ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    ours = [name for name in listed.stdout.split() if "/bench-" in name]
    if ours:
        subprocess.run(["docker", "image", "rm", *ours], check=True, capture_output=True)


def measure(words: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return seconds by state (cold, warm) and contender, one for each round."""
    found: dict[str, dict[str, list[float]]] = {"cold": {}, "warm": {}}
    names = words.only.split(",") if words.only else list(CONTENDERS)
    for number in range(words.rounds):
        for name in random.sample(names, len(names)):
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                salt = secrets.token_hex(8)
                make_project(Path(folder), salt=salt, edges=words.edges, sizes=words.sizes)
                bench = Bench(Path(folder), salt, words.node_image, words.peers)
                for state in ("cold", "warm"):
                    seconds = bench.run(CONTENDERS[name])
                    found[state].setdefault(name, []).append(seconds)
                    print(f"{number + 1} {state} {name:<16} {seconds:6.1f}", flush=True)
            _remove_images()
    return found


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """Print medians, quartiles, and how ours compares."""
    for state, by_name in found.items():
        print(f"\n{state}: seconds until every endpoint has answered")
        for name, values in sorted(by_name.items(), key=lambda item: quartiles(item[1])[1]):
            low, middle, high = quartiles(values)
            line = f"  {middle:6.1f} ({low:.1f} to {high:.1f})  {CONTENDERS[name].about}"
            if "ours" in by_name and name != "ours":
                part, least, most = ratio(by_name["ours"], values)
                line += f"; ours takes {part:.2f} of it ({least:.2f} to {most:.2f})"
            print(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="contenders, parted by commas: " + ", ".join(CONTENDERS))
    parser.add_argument("--edges", choices=("ready", "applied"), default="ready")
    parser.add_argument("--node-image", default="kindest/node:v1.34.4")
    parser.add_argument("--peers", type=Path, default=ROOT / ".tools/peers/bin/python")
    parser.add_argument("--base-mb", type=int, default=200)
    parser.add_argument("--own-mb", type=int, default=50)
    parser.add_argument("--burn", type=float, default=3.0, help="CPU seconds of each build")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    words.sizes = Sizes(base_mb=words.base_mb, own_mb=words.own_mb, burn=words.burn)
    found = measure(words)
    show(found)
    if words.json:
        words.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
