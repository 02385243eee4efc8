"""What a failed build or pull says: the failing instruction, its output, and a remedy.

Engines' own frames around it are left out. Text that is not recognised stays as it is. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import last_lines

if TYPE_CHECKING:
    from collections.abc import Iterator


_KINDS: tuple[tuple[str, str], ...] = (
    (
        (
            r"proxyconnect|proxy authentication required|\b407\b"
            r"|(?:get|head) \"[^\"]*\": (?:forbidden|bad gateway|service unavailable)"
        ),
        (
            "correct the proxy that the engine uses (HTTPS_PROXY of dockerd or podman, not of this"
            " shell), or name the registry in its NO_PROXY"
        ),
    ),
    (
        r"toomanyrequests|too many requests|rate limit|\b429\b",
        (
            "the registry's rate limit is reached: wait, log in for a higher limit (`docker "
            "login`), or pull from a mirror"
        ),
    ),
    (
        r"x509:|certificate signed by|tls: failed to verify|certificate has expired",
        (
            "let the engine trust the registry's certificate authority"
            " (/etc/docker/certs.d/REGISTRY/ca.crt)"
        ),
    ),
    (
        r"http response to https client",
        'the registry speaks plain HTTP: name it in "insecure-registries" of the engine',
    ),
    (
        r"error getting credentials|docker-credential-",
        (
            'correct "credsStore" or "credHelpers" in ~/.docker/config.json: the '
            "helper that it names"
            " does not work here"
        ),
    ),
    (
        (
            r"no match(?:ing manifest)? for (?:platform|linux)|no child with platform"
            r"|no image found in (?:image index|manifest list)"
        ),
        "use an image for this machine's architecture, or set --platform",
    ),
    (
        r"no space left on device",
        "free space where the engine keeps its images",
    ),
    (
        r"short-name .* did not resolve|did not resolve to an alias",
        "write the name with its registry: docker.io/library/NAME",
    ),
    (
        (
            r"pull access denied|insufficient_scope|requested access to the resource is denied"
            r"|\bunauthorized\b|authentication required|authorization failed|no "
            r"basic auth credentials"
            r"|\b40[13]\b|forbidden|\bdenied\b"
        ),
        "correct the image's name; if the image is private, log in first: `docker login REGISTRY`",
    ),
    (
        (
            r"manifest unknown|manifest for .* not found|name unknown|repository .* not found"
            r"|name invalid|: not found|not found: manifest|\b404\b"
        ),
        "correct the image's name or tag: the registry has no such image",
    ),
    (
        (
            r"no such host|server misbehaving|connection refused|network is unreachable"
            r"|no route to host|i/o timeout|timed out|tls handshake timeout|connection reset"
            r"|context deadline exceeded|client\.timeout exceeded|temporary failure "
            r"in name resolution"
            r"|\beof\b|\b50[0234]\b"
        ),
        (
            "check that the engine can reach the registry (network, DNS, firewall); without a "
            "network, load the image"
            " beforehand: docker load -i FILE"
        ),
    ),
)


_NODE_IMAGE = re.compile(r'failed to pull image "(?P<name>[^"]+)"')


_BASE_IMAGE = (
    re.compile(
        r"failed to solve: (?:[^\n]*?\bfailed to resolve source metadata for )?"
        r"(?P<name>[\w.-]+(?::\d+)?[\w./-]*(?:[:@][\w:.-]+?)?): [^\n]*"
        r"(?:failed to |pull access denied|not found|unexpected status)[^\n]*"
    ),
    re.compile(r"initializing source (?:docker://)?(?P<name>[^\s\"]+?): [^\n]*"),
    re.compile(r'short-name "(?P<name>[^"]+)" did not resolve[^\n]*'),
)
"""BuildKit's last line, and buildah's; what a RUN instruction prints is neither."""


def remedy_of_pull(message: str) -> str:
    """Return what to do about a pull that failed, as an imperative without a full stop.

    Args:
        message: What the engine, BuildKit or the kubelet said of it.

    Returns:
        Empty if the message is none that is known.
    """
    said = message.lower()
    return next((remedy for pattern, remedy in _KINDS if re.search(pattern, said)), "")


def node_image_in(output: str) -> str:
    """Return the node image that kind could not pull, by what it printed; empty if that is fine."""
    found = _NODE_IMAGE.search(output)
    return found["name"] if found else ""


def base_image_in(output: str) -> tuple[str, str]:
    """Return the base image that a build could not pull, and the sentence that says so.

    Args:
        output: What the build printed.

    Returns:
        Two empty words if the build failed otherwise.
    """
    for pattern in _BASE_IMAGE:
        if found := pattern.search(output):
            return found["name"], found[0]
    return "", ""


_FRAME = re.compile(r"^\S.*?:(\d+)(?:-\d+)?\n-{20}\n((?:.*\n)*?)-{20}$", re.MULTILINE)


_FAILING_LINE = re.compile(r"^ *\d+ \| >>> ?(.*)$", re.MULTILINE)


_FAILED_STEP = re.compile(r"^#(\d+) ERROR: (.*)$", re.MULTILINE)


_ERROR = re.compile(r"^ERROR: (?:failed to (?:solve|build): )*(.*)$", re.MULTILINE)


_PODMAN_STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)$", re.MULTILINE)


_PODMAN_ERROR = re.compile(r"^Error: (.*)$", re.MULTILINE)


_LINES = 14


_CODE_LINES = 4


def buildkit_failure(output: str, *, dockerfile: str, program: str) -> str:
    """Return what a failed `docker buildx build` is about.

    Args:
        output: What it printed, with plain progress.
        dockerfile: The Dockerfile as the user knows it.
        program: The engine's program, for the remedy.
    """
    frames, errors = list(_FRAME.finditer(output)), _ERROR.findall(output)
    if not frames or not errors:
        return output + _builder_fix(output)
    code = _FAILING_LINE.findall(frames[-1][2])
    lines = [f"{dockerfile}:{frames[-1][1]}: {code[0].strip() if code else ''}"]
    lines += [f"  {line.strip()}" for line in code[1:_CODE_LINES]]
    lines += ["  ..."] if len(code) > _CODE_LINES else []
    failed = _FAILED_STEP.findall(output)
    if failed:
        printed = last_lines("\n".join(_printed_by(failed[-1][0], output)), _LINES)
        lines += [f"  | {line}" for line in printed.splitlines()]
    return "\n".join([*lines, errors[-1], *_pull_fix(output, program)])


_UNREACHABLE = re.compile(
    r"^ERROR: .*error while dialing"
    r"|^#\d+ \[internal\] (?:waiting for connection|booting buildkit)\n#\d+ ERROR",
    re.MULTILINE | re.IGNORECASE,
)
"""What buildx says of a builder that does not answer; it waits 20 s for one that is remote."""


_ENDED = re.compile(
    r"^ERROR: .*(?:code = Unavailable|error reading from server|transport is closing"
    r"|client connection is closing)",
    re.MULTILINE,
)
"""What buildx says of a lost connection to a builder (google.golang.org/grpc)."""


def _builder_fix(output: str) -> str:
    """Return what is wrong with the builder itself and what to do; empty if nothing is."""
    if _UNREACHABLE.search(output):
        return (
            "\nthe builder cannot be reached\n"
            "To fix: start the builder or correct its address (`docker buildx ls` shows both), or"
            " build without it"
        )
    if _ENDED.search(output):
        return (
            "\nthe builder ended, or the connection to it, before the build did\n"
            "To fix: see its state (`docker buildx ls`) and its log, start it and run again; or"
            " build with another one"
        )
    return ""


def podman_failure(output: str, *, dockerfile: str, program: str) -> str:
    """Return what a failed `podman build` is about; it names no line of the Dockerfile."""
    steps, errors = list(_PODMAN_STEP.finditer(output)), _PODMAN_ERROR.findall(output)
    if not steps or not errors:
        return output
    printed = output[steps[-1].end() :].partition("\nError: ")[0]
    shown = last_lines(printed, _LINES).splitlines()
    lines = [f"{dockerfile}: {steps[-1][1]}", *(f"  | {line}" for line in shown)]
    return "\n".join([*lines, errors[-1], *_pull_fix(output, program)])


def _printed_by(step: str, output: str) -> Iterator[str]:
    """Yield what one step printed; each line begins with the step's number and a time."""
    for line in output.splitlines():
        number, _, rest = line.partition(" ")
        time, _, text = rest.partition(" ")
        if number == f"#{step}" and re.fullmatch(r"\d+\.\d+", time):
            yield text


def _pull_fix(output: str, program: str) -> tuple[str, ...]:
    name, said = base_image_in(output)
    if not name:
        return ()
    works = f"`{program} pull {name}` works (name, network, proxy, login)"
    remedy = remedy_of_pull(said) or f"check that {works}, or load the image into the engine"
    return (f"To fix: {remedy}",)
