"""Shell scripts that make the snapshot of a kind node, and that run in a restored one.

A kind node keeps its state in the volume `/var`, which no `docker commit` sees. So what differs
there from the node image is copied: blobs of images as the files that they are, the rest as two
archives, since a layer of an image can hold no whiteouts and no `trusted.overlay` attributes of
containerd's own layers. The restored node unpacks the state before it boots, and the layers of
images meanwhile, since no pod of the system needs them. The scripts are files in the folder `node`.
"""

from __future__ import annotations

from pathlib import Path

ENTRYPOINT = "/kindinfra-snapshot/entrypoint"
"""What a restored kind node starts with."""


ANSWERS = "/kindinfra-snapshot/answers"
"""The command that exits with 0 once the cluster's DNS service answers and all images are there, or
with 1 and says what is missing."""


HOPELESS = 2
"""What `ANSWERS` exits with if that will never be there."""


_UNITS = ("kindinfra-lead.service", "kindinfra-layers.service")


_SYSTEMD = "/etc/systemd/system"


LINKS = {f"{_SYSTEMD}/multi-user.target.wants/{unit}": f"../{unit}" for unit in _UNITS}
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
        "/kindinfra-snapshot/unpack": _text("unpack.sh"),
        **{f"{_SYSTEMD}/{unit}": _text(unit) for unit in _UNITS},
    }


def _text(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")
