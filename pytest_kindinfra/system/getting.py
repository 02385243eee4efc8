"""How to get the programs that a run may need: one line for each platform, and a page."""

from __future__ import annotations

import platform
import sys
from typing import NamedTuple


class _Ways(NamedTuple):
    """The commands that install a program, and the page that says more."""

    linux: str
    darwin: str
    page: str


_INTO = "~/.local/bin"


def _download(program: str, url: str) -> str:
    return f'curl --create-dirs -fLo {_INTO}/{program} "{url}" && chmod +x {_INTO}/{program}'


_WAYS = {
    "kind": _Ways(
        linux=_download(
            "kind",
            "https://github.com/kubernetes-sigs/kind/releases/latest/download/kind-linux-{arch}",
        ),
        darwin="brew install kind",
        page="https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    ),
    "kubectl": _Ways(
        linux=_download(
            "kubectl",
            "https://dl.k8s.io/release/$(curl -fLs https://dl.k8s.io/release/stable.txt)"
            "/bin/linux/{arch}/kubectl",
        ),
        darwin="brew install kubectl",
        page="https://kubernetes.io/docs/tasks/tools/",
    ),
    "helm": _Ways(
        linux="curl -fsSL https://raw.githubusercontent.com/helm/helm/main/scripts/get-helm-3"
        " | bash",
        darwin="brew install helm",
        page="https://helm.sh/docs/intro/install/",
    ),
}


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def how_to_get(program: str) -> str:
    """Return how to install a program here, as an imperative: the command, then the page.

    Args:
        program: kind, kubectl or helm; for any other the sentence says no more than its name.
    """
    if (ways := _WAYS.get(program)) is None:
        return f"install {program}"
    command = {"linux": ways.linux, "darwin": ways.darwin}.get(sys.platform)
    if command is None:
        return f"install {program}: {ways.page}"
    machine = platform.machine()
    shown = command.replace("{arch}", _ARCHITECTURES.get(machine, machine))
    return f"install {program} or put its folder on PATH: {shown} ({ways.page})"
