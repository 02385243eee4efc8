"""`kindinfra dev`: up and tests again after each change that matters."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Running

TESTED = "from story import note; note('tested')"


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True)
    project.service("other")
    return project


def times(project: Project) -> int:
    return project.told_in_order("tested").count("tested")


def until_tested(running: Running, shop: Project, often: int) -> None:
    running.until(lambda: times(shop) == often)


def test_a_change_brings_it_up_again_and_runs_the_command(shop: Project) -> None:
    running = shop.begin_command("dev", "api", "--", sys.executable, "-c", TESTED)
    running.until_said("watching ")
    assert times(shop) == 1

    shop.write("api/main.py", "print(1)\n")
    running.until(lambda: times(shop) == 2)
    text = (shop.folder / "api.yaml").read_text()
    shop.write("api.yaml", text.replace("port: 8080}}", "port: 8080}, periodSeconds: 3}", 1))
    running.until(lambda: times(shop) == 3)
    running.signal(signal.SIGINT)
    run = running.finish()

    assert run.code == 130
    assert len(run.calls("build api")) == 2
    assert len(run.calls("create")) == 1
    assert "kindinfra: changed: api/main.py" in run.out
    assert "kindinfra: changed: api.yaml" in run.out
    assert len(shop.standing()) == 1


def test_each_save_is_seen_of_an_editor_that_replaces_the_file(shop: Project) -> None:
    running = shop.begin_command("dev", "api", "--", sys.executable, "-c", TESTED)
    running.until_said("watching ")
    text = (shop.folder / "api.yaml").read_text()

    for seconds in (3, 4):
        new = text.replace("port: 8080}}", f"port: 8080}}, periodSeconds: {seconds}}}", 1)
        shop.write("api.yaml.new", new).replace(shop.folder / "api.yaml")
        until_tested(running, shop, seconds - 1)
    running.signal(signal.SIGINT)

    assert running.finish().out.count("kindinfra: changed: api.yaml") == 2


def test_a_manifest_outside_of_the_folder_is_watched(shop: Project) -> None:
    """Its absolute path was a NotImplementedError of pathlib."""
    elsewhere = shop.fakes / "elsewhere"
    elsewhere.mkdir()
    outside = (shop.folder / "other.yaml").rename(elsewhere / "other.yaml")
    text = (shop.folder / "kindinfra.toml").read_text()
    shop.write("kindinfra.toml", text.replace("'other.yaml'", f"'{elsewhere}/*.yaml'"))
    running = shop.begin_command("dev", "other", "--", sys.executable, "-c", TESTED)
    running.until_said("watching ")

    changed = outside.read_text().replace("port: 8080}}", "port: 8080}, periodSeconds: 3}", 1)
    outside.write_text(changed)
    running.until(lambda: times(shop) == 2)
    running.signal(signal.SIGINT)

    assert f"kindinfra: changed: {outside}" in running.finish().out


def test_the_base_of_a_kustomization_is_watched(shop: Project) -> None:
    shop.install("kubectl")
    shop.manifest("app", image="quay.io/app:1")
    base = shop.folder / "base" / "app.yaml"
    base.parent.mkdir()
    (shop.folder / "app.yaml").rename(base)
    shop.write("base/kustomization.yaml", "resources: [app.yaml]\n")
    shop.write("overlay/kustomization.yaml", "resources: [../base]\n")
    shop.declare("[services.app]\nkustomize = 'overlay'\n")
    running = shop.begin_command("dev", "app", "--", sys.executable, "-c", TESTED)
    running.until_said("watching ")

    base.write_text(base.read_text().replace("port: 8080}}", "port: 8080}, periodSeconds: 3}", 1))
    running.until(lambda: times(shop) == 2)
    running.signal(signal.SIGINT)

    assert "kindinfra: changed: base/app.yaml" in running.finish().out


def test_the_help_says_what_is_run_and_how_to_run_another_command(project: Project) -> None:
    text = " ".join(project.command("dev", "--help").stdout.split())

    assert "[-- CMD ...]" in text
    assert "After --: the command to run after each change" in text
    assert "(default: pytest --lf --kindinfra-reuse)" in text


def test_what_fails_is_shown_and_the_next_change_mends_it(shop: Project) -> None:
    running = shop.begin_command("dev", "api", "--", sys.executable, "-c", TESTED)
    running.until_said("watching ")

    good = (shop.folder / "kindinfra.toml").read_text()
    shop.write("kindinfra.toml", good + "\n[services.odd]\nkeys = 1\n")
    running.until_said('has an unknown key "keys"')
    shop.behave("build api", exit=1, complains="no compiler")
    shop.write("api/main.py", "print(1)\n")
    shop.write("kindinfra.toml", good)
    running.until_said("the tests were not run; waiting for changes")
    shop.behave("build api")
    shop.write("api/main.py", "print(2)\n")
    running.until(lambda: times(shop) == 2)
    running.signal(signal.SIGINT)

    assert running.finish().code == 130


def test_without_its_extra_it_says_what_to_install(shop: Project) -> None:
    shop.write("nowhere/watchfiles.py", "raise ImportError")

    done = shop.command("dev", PYTHONPATH=str(shop.folder / "nowhere"))

    assert done.returncode == 1
    assert done.stderr == (
        'kindinfra: kindinfra dev needs watchfiles\nTo fix: pip install "pytest-kindinfra[dev]"\n'
    )


def test_pytest_is_run_with_reuse_if_no_command_is_given(shop: Project) -> None:
    shop.tests("@pytest.mark.kindinfra('api')\ndef test_it(): note('in')\n")
    running = shop.begin_command("dev", "api", PYTHONPATH=str(shop.folder))
    running.until_said("the tests ended with exit code 0")
    running.signal(signal.SIGINT)
    run = running.finish()

    assert len(run.calls("create")) == 1
    assert run.at("in")
