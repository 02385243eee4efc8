"""What the command-line engines share: flags of builds, answers of `inspect`."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.model import IMAGE_LABEL
from pytest_kindinfra.protocols import OwnImage

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from pytest_kindinfra.protocols import BuildRequest


def inspected(printed: str) -> list[dict[str, Any]]:
    """Return the objects, in the order in which they were printed."""
    if printed.lstrip().startswith("["):
        found: list[dict[str, Any]] = json.loads(printed)
        return found
    return [json.loads(line) for line in printed.splitlines() if line.strip()]


def given_by_environment(request: BuildRequest, *, read: re.Pattern[str]) -> dict[str, str]:
    """Return the build arguments that come by the environment, so that no `ps` has them.

    `--build-arg NAME` without a value means the variable NAME (docs.docker.com, `docker buildx
    build`, `--build-arg`; tried with buildx 0.13 and podman 4.3).

    Args:
        request: What is to be built.
        read: Names that the program and what it starts read for themselves.
    """
    return {
        name: value
        for name, value in request.build_args.items()
        if name in request.unshown and (os.environ.get(name) == value or not read.fullmatch(name))
    }


def build_flags(request: BuildRequest, *, elsewhere: dict[str, str]) -> Iterator[str]:
    """Give the flags that both know: names, label, stage and arguments.

    Args:
        request: What is to be built.
        elsewhere: Arguments whose values are in the environment.
    """
    yield from ("--tag", request.reference, "--file", os.fspath(request.dockerfile))
    yield from ("--label", f"{IMAGE_LABEL}={request.name}")
    if request.target:
        yield from ("--target", request.target)
    for name, value in sorted(request.build_args.items()):
        yield from ("--build-arg", name if name in elsewhere else f"{name}={value}")


def shown_dockerfile(request: BuildRequest) -> str:
    """Return the Dockerfile that the user wrote, as its path from the project's folder."""
    path = request.source or request.dockerfile
    inside = request.folder is not None and path.is_relative_to(request.folder)
    return os.fspath(path.relative_to(request.folder) if inside and request.folder else path)


def own_image(item: dict[str, Any]) -> OwnImage:
    """Return an inspected image with our label; podman does not say when it was last named."""
    times = (item["Created"], item.get("Metadata", {}).get("LastTagTime") or item["Created"])
    return OwnImage(
        name=item["Config"]["Labels"][IMAGE_LABEL],
        references=tuple(item.get("RepoTags") or ()),
        since=max(datetime.fromisoformat(time).timestamp() for time in times),
    )


def names_of(item: dict[str, object]) -> list[str]:
    """Return every name under which an inspected image can be asked for, less its id."""
    names: list[str] = []
    for key in ("RepoTags", "RepoDigests"):
        value = item.get(key)
        names += value if isinstance(value, list) else []
    return names
