"""The set-up: what is there is used, what is missing is made, errors name the remedy."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.tools.conftest import Machine

TOOLS = Path(__file__).parents[3] / "tools"
SETUP = TOOLS / "machine"
STAND_INS = {
    "python": "python:3.11-slim",
    "postgres": "postgres:15",
    "redis": "redis:7",
    "busybox": "busybox:latest",
}

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts are bash")


def test_a_failed_command_is_shown_with_its_code_last_lines_and_remedy(machine: Machine) -> None:
    result = machine.bash(
        "remedy='try harder' quietly bash -c 'echo lost; echo found; exit 7'; echo on"
    )

    assert result.returncode == 7
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "trial: failed with exit code 7: bash -c echo\\ lost\\;\\ echo\\ found\\;\\ exit\\ 7",
        "  | lost",
        "  | found",
        "To fix: try harder",
    ]


def test_a_function_that_is_run_quietly_stops_at_its_first_failure(machine: Machine) -> None:
    result = machine.bash("both() { false; echo second; }; quietly both")

    assert result.returncode == 1
    assert "second" not in result.stderr


def test_a_working_command_says_nothing(machine: Machine) -> None:
    result = machine.bash("quietly echo noise")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("docker", "env", "message", "remedy"),
    [
        (None, {}, "neither Docker nor podman is here", "install Docker"),
        ("exit 1", {}, "Docker is installed but does not answer", "start it"),
        ("echo permission denied; exit 1", {}, "may not use it", "usermod -aG docker somebody"),
        ("[ $1 = version ] && echo 26.1", {}, "lacks buildx", "docker-buildx"),
        (None, {"KINDINFRA_ENGINE": "podman"}, "asks for podman", "unset KINDINFRA_ENGINE"),
    ],
)
def test_without_an_engine_a_user_is_told_what_is_missing_and_what_to_do(
    machine: Machine, docker: str | None, env: dict[str, str], message: str, remedy: str
) -> None:
    if docker:
        machine.program("docker", docker)

    result = machine.run(SETUP / "engine", **env)

    assert result.returncode == 1
    assert message in result.stderr
    assert remedy in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("To fix: ")


def test_an_engine_that_answers_is_used_in_silence(with_docker: Machine) -> None:
    result = with_docker.run(SETUP / "engine")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_podman_is_used_where_it_is_the_only_engine(machine: Machine) -> None:
    machine.program("podman", "echo 4.3")

    assert machine.bash("find_engine").stdout == "podman\n"


def test_tools_on_path_are_left_alone(machine: Machine) -> None:
    for tool in ("kind", "kubectl", "helm"):
        machine.program(tool, "")

    result = machine.run(SETUP / "clients")

    assert (result.returncode, result.stderr, machine.calls) == (0, "", [])


def test_missing_tools_come_from_the_cache_without_go(machine: Machine) -> None:
    machine.program("kind", "echo mine")
    first = machine.run(SETUP / "clients")
    [kept] = machine.cache.glob("clients-*")
    for tool in ("kubectl", "helm"):
        (kept / f"{tool}.gz").write_bytes(gzip.compress(f"#!/bin/sh\necho {tool}".encode()))

    second = machine.run(SETUP / "clients")

    assert first.returncode == 1
    assert "To fix: install them, or Go" in first.stderr
    assert second.returncode == 0
    assert sorted(file.name for file in (machine.home / "tools").iterdir()) == ["helm", "kubectl"]
    assert machine.run(machine.home / "tools" / "helm").stdout == "helm\n"


def keep_stand_ins(machine: Machine, labels: str = "") -> None:
    """An archive with every stand-in, under the name that the script looks for."""
    recipe = machine.bash(
        f"part=trial; eval \"$(sed -n '/^standin_recipe/,/^}}/p' {SETUP}/base-images)\";"
        f" here={TOOLS}/base-images; bundle=$(host_ca_bundle); standin_recipe"
    ).stdout.strip()
    machine.cache.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"kindinfra/stand-in:{stage} {labels or recipe}\n" for stage in STAND_INS)
    (machine.cache / f"base-images-{recipe}.tar.zst").write_text(rows)


def images(machine: Machine) -> dict[str, str]:
    folder = machine.home / "images"
    return {file.name: file.read_text().strip() for file in folder.iterdir()}


def test_base_images_that_are_present_are_used_in_silence(with_docker: Machine) -> None:
    for name in STAND_INS.values():
        (with_docker.home / "images" / name).write_text("\n")

    result = with_docker.run(SETUP / "base-images")

    assert (result.returncode, result.stderr) == (0, "")
    assert {call.split()[1] for call in with_docker.calls} <= {"version", "image"}


def test_stand_ins_take_only_the_names_that_are_missing(with_docker: Machine) -> None:
    (with_docker.home / "images" / "postgres:15").write_text("\n")
    keep_stand_ins(with_docker)

    result = with_docker.run(SETUP / "base-images")

    found = images(with_docker)
    assert result.returncode == 0, result.stderr
    assert set(found) == set(STAND_INS.values())
    assert found["postgres:15"] == ""
    assert found["redis:7"] != ""
    assert (
        "stand-ins made of Debian packages are used for python:3.11-slim redis:7" in result.stderr
    )


def test_stand_ins_of_another_recipe_are_replaced(with_docker: Machine) -> None:
    for name in STAND_INS.values():
        (with_docker.home / "images" / name).write_text("old\n")
    keep_stand_ins(with_docker)

    result = with_docker.run(SETUP / "base-images")

    assert result.returncode == 0, result.stderr
    assert "old" not in images(with_docker).values()


def test_where_nothing_helps_the_message_says_who_can_make_stand_ins(with_docker: Machine) -> None:
    result = with_docker.run(SETUP / "base-images")

    assert result.returncode == 1
    assert "base images: python:3.11-slim cannot be pulled: Error: no such host" in result.stderr
    assert "only root on Debian can make stand-ins" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("To fix: ")


def test_a_node_image_of_somebody_else_is_used_as_it_is(with_docker: Machine) -> None:
    (with_docker.home / "images" / "kindest+node:v1.34.4").write_text("\n")

    result = with_docker.run(SETUP / "node-image")

    assert (result.returncode, result.stderr) == (0, "")


def test_a_node_image_comes_from_the_cache_under_its_public_name(with_docker: Machine) -> None:
    recipe = with_docker.run(TOOLS / "node-image" / "recipe").stdout.strip()
    with_docker.cache.mkdir(parents=True)
    (with_docker.cache / f"node-image-{recipe}.tar.zst").write_text(
        f"kindinfra/node:{recipe} {recipe}\n"
    )

    first = with_docker.run(SETUP / "node-image")
    second = with_docker.run(SETUP / "node-image")

    assert first.returncode == 0, first.stderr
    assert "loading kindest/node:v1.34.4 from the cache" in first.stderr
    assert images(with_docker) == {"kindest+node:v1.34.4": recipe}
    assert second.stderr == ""


def test_a_pull_that_nobody_answers_ends_within_seconds(machine: Machine) -> None:
    machine.program("docker", "exec sleep 60")

    result = machine.bash("engine=docker; pull image || echo gave up", registry_patience="1")

    assert result.stdout == "gave up\n"
    assert result.stderr == "trial: image cannot be pulled: no registry answers\n"


def test_a_pull_that_is_answered_may_take_its_time(machine: Machine) -> None:
    machine.program("docker", "echo 15: Pulling from library/postgres; sleep 2")

    result = machine.bash("engine=docker; pull postgres:15 && echo pulled", registry_patience="1")

    assert result.stdout == "pulled\n"


def test_who_cannot_install_podman_is_told_nothing_and_nothing_fails(with_docker: Machine) -> None:
    result = with_docker.run(SETUP / "podman")

    assert (result.returncode, result.stderr) == (0, "")
    assert with_docker.calls == ["id -u"]


def test_podman_takes_over_from_docker_only_what_it_lacks(with_docker: Machine) -> None:
    for name in (*STAND_INS.values(), "kindest+node:v1.34.4"):
        (with_docker.home / "images" / name).write_text("r1\n")
    with_docker.program(
        "podman",
        """
        case "$1 $2 ${@: -1}" in
        "image inspect docker.io/library/redis:7") exit 1 ;;
        "image inspect localhost/"*) exit 1 ;;
        "image inspect "*) echo r1 ;;
        esac""",
    )

    result = with_docker.run(SETUP / "podman")

    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("podman: taking over from Docker: redis:7\npodman: done in ")
    assert "docker save redis:7" in with_docker.calls
    assert "podman load --quiet" in with_docker.calls
