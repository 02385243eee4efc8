"""`kindinfra pull` against a real registry: what it pulls, and what it says of what it cannot."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.e2e.runs import registry, run_printed
from tests.e2e.test_charts_of_repositories import call

if TYPE_CHECKING:
    from pathlib import Path

POD = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: %s}]}}"


def declare(folder: Path, image: str) -> None:
    (folder / "kindinfra.toml").write_text('[services.db]\nmanifests = ["db.yaml"]\n')
    (folder / "db.yaml").write_text(POD % f"'{image}'")


def test_an_image_is_pulled_saved_and_loaded_again(tmp_path: Path) -> None:
    with registry() as address:
        image = f"{address}/shop/db:1"
        call("docker", "tag", "busybox", image)
        call("docker", "push", "--quiet", image)
        call("docker", "image", "rm", image)
        declare(tmp_path, image)
        try:
            done = run_printed("kindinfra pull --save=out", folder=tmp_path)

            assert done.returncode == 0, done.stdout + done.stderr
            assert f"{image}: pulled in " in done.stdout
            assert call("docker", "image", "inspect", image)
            call("docker", "image", "rm", image)
            call("bash", "-c", f"cd {tmp_path} && {done.stdout.splitlines()[-1].strip()}")
            assert call("docker", "image", "inspect", image)
        finally:
            subprocess.run(["docker", "image", "rm", image], capture_output=True, check=False)


def test_an_image_that_the_registry_does_not_have_is_told_with_a_remedy(tmp_path: Path) -> None:
    with registry() as address:
        declare(tmp_path, f"{address}/shop/db:2")

        done = run_printed("kindinfra pull", folder=tmp_path)

    assert done.returncode == 1, done.stdout
    assert (
        f'{address}/shop/db:2: not pulled\npulling "{address}/shop/db:2": exit code 1'
        in done.stdout
    )
    assert "To fix: correct the image's name or tag" in done.stdout
