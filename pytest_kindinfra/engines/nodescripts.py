"""Shell scripts that make the snapshot of a kind node, and that run in a restored one.

A kind node keeps its state in the volume `/var`, which no `docker commit` sees. So what differs
there from the node image is put into an archive, which the restored node unpacks before it boots.
It is an archive, since a layer of an image can hold no whiteouts and no `trusted.overlay`
attributes of containerd's own layers. The scripts are files in the folder `node`.
"""

from __future__ import annotations

from pathlib import Path

ENTRYPOINT = "/kindinfra-snapshot/entrypoint"
"""What a restored kind node starts with."""


ANSWERS = "/kindinfra-snapshot/answers"
"""The command that exits with 0 once the cluster's DNS service answers, or with 1."""


_UNIT = "/etc/systemd/system/kindinfra-lead.service"


LINKS = {
    "/etc/systemd/system/multi-user.target.wants/kindinfra-lead.service": (
        "../kindinfra-lead.service"
    )
}
"""Symbolic links of a restored kind node: path to target."""


_FOLDER = Path(__file__).with_name("node")


def pack_script() -> str:
    """Return the script that compares the node image's `/var` with the kind node's at `/mnt`."""
    return _text("pack.sh")


def scripts(entrypoint: str) -> dict[str, str]:
    """Return the files that a restored kind node has in addition to kind's: path to content.

    Args:
        entrypoint: The program of the node image that the container starts with.
    """
    return {
        ENTRYPOINT: _text("entrypoint.sh").replace("@ENTRYPOINT@", entrypoint),
        ANSWERS: _text("answers.sh"),
        "/kindinfra-snapshot/lead": _text("lead.sh"),
        _UNIT: _text("kindinfra-lead.service"),
    }


def _text(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")
