"""How to get kind, kubectl and helm on each platform."""

from __future__ import annotations

import platform
import sys

import pytest

from pytest_kindinfra.system.getting import how_to_get


def on(monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("aarch64", "arm64")])
def test_on_linux_the_file_for_this_processor_is_named(
    monkeypatch: pytest.MonkeyPatch, machine: str, arch: str
) -> None:
    on(monkeypatch, "linux", machine)

    assert how_to_get("kind") == (
        "install kind or put its folder on PATH: curl --create-dirs -fLo ~/.local/bin/kind "
        f'"https://github.com/kubernetes-sigs/kind/releases/latest/download/kind-linux-{arch}"'
        " && chmod +x ~/.local/bin/kind"
        " (https://kind.sigs.k8s.io/docs/user/quick-start/#installation)"
    )
    assert f"/bin/linux/{arch}/kubectl" in how_to_get("kubectl")
    assert "get-helm-3 | bash (https://helm.sh/" in how_to_get("helm")


@pytest.mark.parametrize("program", ["kind", "kubectl", "helm"])
def test_on_macos_by_homebrew(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    on(monkeypatch, "darwin", "arm64")

    assert f"on PATH: brew install {program} (https://" in how_to_get(program)


def test_elsewhere_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "freebsd14", "amd64")

    assert how_to_get("helm") == "install helm: https://helm.sh/docs/intro/install/"


def test_another_program_is_only_named() -> None:
    assert how_to_get("taplo") == "install taplo"
