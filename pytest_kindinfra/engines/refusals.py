"""What a registry's answer means when the engine asks it for an image or pushes one. Pure."""

from __future__ import annotations

import re

from pytest_kindinfra.engines.failures import remedy_of_pull

_LACKS = re.compile(
    r"manifest unknown|name unknown|name_unknown|: not found\s*$|404 not found", re.IGNORECASE
)


_REFUSES = re.compile(
    r"denied|unauthorized|forbidden|authentication required|authorization failed|no basic auth"
    r"|insufficient_scope|\b40[13]\b",
    re.IGNORECASE,
)


_READS_ONLY = re.compile(
    r"read.?only|\b405\b|method not allowed|operation is unsupported", re.IGNORECASE
)


_UNREACHABLE = re.compile(
    r"no such host|server misbehaving|connection refused|network is unreachable|no route to host"
    r"|i/o timeout|timed out|handshake timeout|connection reset|deadline exceeded"
    r"|temporary failure in name resolution|\beof\b",
    re.IGNORECASE,
)


def lacks_image(output: str) -> bool:
    """Whether a registry answered that it does not have the image."""
    return bool(_LACKS.search(output)) and not _REFUSES.search(output)


def remedy_of_registry(output: str, host: str) -> str:
    """Return what to do about a registry of images that could not be asked or pushed to.

    Args:
        output: What the engine printed.
        host: The registry's host, with its port.
    """
    if _REFUSES.search(output):
        return (
            f"`docker login {host}` as a user who may pull and push there; a registry that makes no"
            " repositories by itself needs them to be created first"
        )
    if _READS_ONLY.search(output):
        return f"have {host} take pushes (it is read-only), or name another registry"
    if _UNREACHABLE.search(output):
        return (
            f"start the registry, correct its address, or let this machine reach {host} (network,"
            " DNS, firewall, proxy); or remove `registry`, and images are built here"
        )
    return remedy_of_pull(output) or f"check that a registry answers at {host}"
