"""The same one step after another, as a script that moves over call by call has it.

python step_by_step.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.request import urlopen

from pytest_kindinfra import (
    KindInfraError,
    build_images,
    create_cluster,
    delete_cluster,
    deploy_service,
    load_images,
    resolve,
)

HERE = Path(__file__).parent


def check_greeter() -> None:
    plan = resolve(folder=HERE)
    images = build_images(plan)  # was: docker build, once for each
    stack = create_cluster(plan)  # was: kind create cluster
    try:
        load_images(stack, images)  # was: kind load docker-image
        (endpoint,) = deploy_service(stack, "greeter")  # was: kubectl apply, kubectl wait
        with urlopen(f"{endpoint.url}/bye.txt", timeout=5) as answer:  # noqa: S310 - our own URL
            print("the greeter says:", answer.read().decode().strip())
    finally:
        delete_cluster(stack)


if __name__ == "__main__":
    try:
        check_greeter()
    except KindInfraError as error:
        sys.exit(f"step by step: {error}")
