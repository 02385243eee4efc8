"""How soon a kind cluster can be used, as kind boots it and as `[cluster] tuning` does.

The variants take turns within one run. A cluster counts as usable when its DNS answers a query for
its own name from the kind node with the right address: before kube-proxy runs, a query to the
service's address leaves the node, and somebody else may answer it.

    tools/bench/boot.py [--rounds 5] [--node-image kindest/node:v1.34.4] [--json FILE]
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

from pytest_kindinfra.clusters.config import DNS_PATCH, PATCHES, dns_patch, kind_config

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE = r"""
query='\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00'
query+='\x08kube-dns\x0bkube-system\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01'
until test -e /etc/kubernetes/admin.conf; do sleep 0.1; done
while :; do
  exec 3<>/dev/udp/10.96.0.10/53
  printf "$query" >&3 2>/dev/null  # no line feed in it: bash would send two datagrams
  answer=$(timeout 0.3 dd bs=512 count=1 <&3 2>/dev/null | od -An -v -tx1 | tr -d ' \n')
  exec 3>&-
  case $answer in *0a60000a*) exit;; esac
  sleep 0.05
done
"""
CPU = """
cd /sys/fs/cgroup
cat cpuacct/cpuacct.usage 2>/dev/null || awk '/usage_usec/ {print $2 * 1000}' cpu.stat
"""
VARIANTS = {
    "plain": "as kind boots it",
    "tuned": "[cluster] tuning",
    "no-dns": "tuning without its patch of CoreDNS",
    "restart": "tuning with kubeadm's restart of the kubelet",
}
_SKIP = "- kubelet-finalize\n"
_LONGEST = 180
_FAILED = "kind create failed"


def boot(variant: str, node_image: str) -> dict[str, float]:
    """Make a cluster, return seconds from the start, and delete it."""
    name = f"bench-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "kind.json"
        config.write_text(json.dumps(config_of(variant, node_image, Path(folder))))
        command = ["kind", "create", "cluster", "--name", name, "--config", str(config)]
        command += ["--kubeconfig", f"{folder}/kubeconfig", "--wait", "0s"]
        start = time.monotonic()
        create = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            seconds = dict(watched(f"{name}-control-plane", create, start))
        finally:
            create.wait(_LONGEST)
            delete = ["kind", "delete", "cluster", "--name", name, "--kubeconfig"]
            subprocess.run([*delete, f"{folder}/kubeconfig"], check=True, capture_output=True)
    return seconds


def config_of(variant: str, node_image: str, run: Path) -> dict[str, object]:
    """Return what a run of ours gives to kind, or with `plain` nothing but the node image."""
    if variant == "plain":
        return kind_config(None, ports={}, node_image=node_image, tuning=False, folder=run)
    (run / PATCHES).mkdir()
    if variant != "no-dns":
        (run / PATCHES / DNS_PATCH).write_text(json.dumps(dns_patch({})))
    config = kind_config(None, ports={}, node_image=node_image, tuning=True, folder=run, run=run)
    if variant == "restart":
        patches = config["kubeadmConfigPatches"]
        config["kubeadmConfigPatches"] = [text.replace(_SKIP, "") for text in patches]
    return config


def watched(
    node: str, create: subprocess.Popen[bytes], start: float
) -> Iterator[tuple[str, float]]:
    """Yield what happened, and when."""
    within = ["docker", "exec", node, "bash", "-c"]
    while subprocess.run([*within, "true"], check=False, capture_output=True).returncode:
        if create.poll() is not None:
            raise SystemExit(_FAILED)
        time.sleep(0.1)
    probe = subprocess.Popen([*within, PROBE])
    if create.wait(_LONGEST):
        raise SystemExit(_FAILED)
    yield "kind returns", time.monotonic() - start
    probe.wait(_LONGEST)
    yield "DNS answers", time.monotonic() - start
    cpu = subprocess.run([*within, CPU], check=False, capture_output=True, text=True)
    if cpu.stdout.strip().isdecimal():
        yield "CPU seconds", int(cpu.stdout) / 1e9


def main() -> None:
    """Time the variants in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--node-image", default=os.environ.get("NODE_IMAGE", "kindest/node:v1.34.4")
    )
    parser.add_argument("--only", default=",".join(VARIANTS), help="variants, parted by commas")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(words.rounds):
        for variant in words.only.split(",")[:: 1 if number % 2 else -1]:
            for what, seconds in boot(variant, words.node_image).items():
                found.setdefault(what, {}).setdefault(variant, []).append(seconds)
                print(f"{number + 1} {variant:<6} {what:<24} {seconds:6.1f}", flush=True)
    first = words.only.split(",")[0]
    for what, by_variant in found.items():
        print(f"\n{what}")
        for variant, values in by_variant.items():
            low, middle, high = quartiles(values)
            part, least, most = ratio(values, by_variant[first])
            print(
                f"  {middle:6.1f} s ({low:.1f} to {high:.1f})  "
                f"ratio {part:.2f} ({least:.2f} to {most:.2f})  {VARIANTS[variant]}"
            )
    if words.json:
        words.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
