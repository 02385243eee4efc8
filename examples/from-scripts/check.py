"""Ask the greeter on a cluster of its own, which is deleted whatever happens.

    python check.py

One call builds, loads and deploys, in parallel where possible.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.request import urlopen

from pytest_kindinfra import KindInfraError, Phase, build_and_deploy, create_cluster, resolve

HERE = Path(__file__).parent


def tell(phase: Phase, ended: bool) -> None:
    print(phase.name, "ended" if ended else "begins", flush=True)


def check_greeter() -> None:
    with create_cluster(resolve(folder=HERE), progress=tell) as stack:
        build_and_deploy(stack, "greeter")
        with urlopen(f"{stack.url('greeter')}/hello.txt", timeout=5) as answer:  # noqa: S310 - our own URL
            print("the greeter says:", answer.read().decode().strip())


if __name__ == "__main__":
    try:
        check_greeter()
    except KindInfraError as error:
        sys.exit(f"check: {error}")
