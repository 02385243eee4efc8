"""What the messages of the kubelet, containerd and the API server mean.

Kubernetes tries everything again, so its reasons (`ErrImagePull`, `CreateContainerConfigError`)
do not say whether a trouble passes; only the message does. What is not known to be permanent
counts as passing. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PULL_LOCALLY = (
    "pull it once on this machine (`docker pull {image}`): an image that the engine has is loaded "
    "into the kind nodes, which then need no registry"
)


UNKNOWN_FIX = (
    "declare the image, have it in the engine of this machine (`docker pull {image}`), or correct "
    "its name"
)


class PullFailure(NamedTuple):
    """A kind of failed pull.

    Attributes:
        kind: What failed, in a word or two.
        pattern: Matches its messages, in lower case and without references and URLs.
        permanent: Trying again does not help.
        fix: What to do, with `{image}` for the reference.
    """

    kind: str
    pattern: str
    permanent: bool
    fix: str


UNKNOWN = PullFailure("unknown", "", permanent=False, fix=UNKNOWN_FIX)


_ABSENT_FIX = (
    "the registry has no {image}: correct its name or tag, declare it under [images], or have it "
    "in the engine of this machine"
)


_DENIED_FIX = (
    "correct the image's name, or log in on this machine (`docker login`) and `docker pull "
    "{image}`: an image that the engine has is loaded into the kind nodes. Otherwise give the pod "
    "an imagePullSecret"
)


# The order matters: a message about a failed connection may quote what a proxy or a token server
# said, and `denied` or `not found` decides only where nothing speaks for a passing failure.
PULL_FAILURES = (
    PullFailure(
        "rate limit", r"(?<![:.\d])429\b|too ?many ?requests|rate limit", permanent=False,
        fix="the registry limits the number of pulls: log in on this machine (`docker login`) and "
        + PULL_LOCALLY,
    ),
    PullFailure(
        "proxy", r"proxyconnect|proxy authentication required", permanent=False,
        fix="the kind node uses the proxy of the environment in which kind created it: correct "
        "HTTP_PROXY, HTTPS_PROXY and NO_PROXY there, or " + PULL_LOCALLY,
    ),
    PullFailure(
        "certificate", r"x509|failed to verify certificate|tls: ",
        permanent=False,
        fix="the kind node does not trust the registry's certificate: mount its CA into the kind "
        "node (`extraMounts` and containerd's certs.d in the kind config), or " + PULL_LOCALLY,
    ),
    PullFailure(
        "plain http", r"http response to https client", permanent=False,
        fix="the registry speaks HTTP only: configure it for containerd in the kind config "
        "(certs.d/HOST/hosts.toml), or " + PULL_LOCALLY,
    ),
    PullFailure(
        "name resolution",
        r"no such host|server misbehaving|name resolution|name or service not known",
        permanent=False,
        fix="the kind node cannot resolve the registry's name. Correct it; or, without a network, "
        + PULL_LOCALLY,
    ),
    PullFailure(
        "refused connection", r"connection refused", permanent=False,
        fix="nothing listens at the registry's address as the kind node sees it, where localhost "
        "is the kind node itself. Declare the image under [images], correct its name, or "
        + PULL_LOCALLY,
    ),
    PullFailure(
        "network",
        r"network is unreachable|no route to host|time-?out|timed out|deadline exceeded"
        r"|connection reset|broken pipe|\beof\b|context canceled|short read|dial tcp",
        permanent=False,
        fix="the kind node does not reach the registry: check network, firewall and proxy, or "
        + PULL_LOCALLY,
    ),
    PullFailure(
        "registry", r"(?<![:.\d])5\d\d (internal|bad|service|gateway|not implemented)"
        r"|internal server error|bad gateway|service unavailable|temporarily unavailable",
        permanent=False, fix="the registry has a failure: try again later, or " + PULL_LOCALLY,
    ),
    PullFailure(
        "disk", r"no space left on device", permanent=False,
        fix="free space on the engine's disk (`docker system df`, `kindinfra gc --images`)",
    ),
    # The content store of containerd, not the registry.
    PullFailure("content", r"content digest", permanent=False, fix=PULL_LOCALLY),
    PullFailure(
        "platform", r"no match for platform|no matching manifest", permanent=True,
        fix="the image does not exist for this machine's platform: choose a tag that does, or "
        "build it",
    ),
    PullFailure(
        "denied",
        r"access denied|unauthorized|(?<![\w.-])denied(?!\.?[\w-])|forbidden|insufficient_scope"
        r"|authorization failed|authentication required|no basic auth",
        permanent=True, fix=_DENIED_FIX,
    ),
    PullFailure(
        "absent", r"(manifest|name|repository)[ _]unknown|(?<![\w.-])not found(?!\.?[\w-])",
        permanent=True, fix=_ABSENT_FIX,
    ),
    PullFailure(
        "name", r"invalid reference|couldn't parse image|failed to parse image", permanent=True,
        fix="correct the image's name in the manifest",
    ),
)  # fmt: skip


# References, URLs, hosts with a path and quoted texts: their words say nothing about the failure.
_NAMES = re.compile(r'"[^"]*"|\S+/\S+|\bsha256:\S+')


_PERMANENT_CONFIG = re.compile(r"runasnonroot")


_PERMANENT_CREATE = re.compile(
    r"no command specified|no users found|unable to find (user|group)|runasnonroot"
)


# Of the command or the working directory: elsewhere a file may be missing since the engine is busy.
_PERMANENT_START = re.compile(
    r"(exec:? |chdir to cwd).*(executable file not found|no such file or directory"
    r"|permission denied|exec format error|(is|not) a directory)"
)


_PERMANENT_POD = re.compile(r"violates podsecurity|\bis invalid\b|invalid value")


_BOOTING = re.compile(r"\{[^}]*(not-ready|unreachable|network-unavailable|uninitialized)")


_SHORTAGE = re.compile(
    r"insufficient |too many pods|free ports for the requested|exceeded quota"
    r"|volume node affinity conflict|exceed max volume count"
)


def pull_failure(message: str) -> PullFailure:
    """Return which kind of failure a message about a pull tells of."""
    plain = _NAMES.sub(" ", message).lower()
    # An answer quoted as a whole, such as a page of the registry, is all there is to read.
    for text in (plain, message.lower()) if not plain.strip(" :") else (plain,):
        for failure in PULL_FAILURES:
            if re.search(failure.pattern, text):
                return failure
    return UNKNOWN


def is_bare_back_off(message: str) -> bool:
    """Whether a pull that backs off is told without what failed."""
    return not message or bool(re.fullmatch(r'Back-off pulling image "[^"]*"', message))


def pull_is_permanent(message: str, *, has_pull_secrets: bool) -> bool:
    """Whether it does not help to pull again.

    Args:
        message: What the kubelet said.
        has_pull_secrets: The pod names secrets for pulls: they may come later, and the kubelet
            pulls without them until then.
    """
    failure = pull_failure(message)
    if failure.kind == "denied" and has_pull_secrets:
        return False
    # By digest, containerd 2 looks among the blobs once the manifest did not answer in time, so
    # "not found" and "unauthorized" may be about that second place.
    by_digest = "@sha256:" in message and failure.kind in {"denied", "absent"}
    return failure.permanent and not by_digest


def config_is_permanent(message: str) -> bool:
    """Whether a container's configuration cannot become right; a missing Secret may come."""
    return bool(_PERMANENT_CONFIG.search(message.lower()))


def create_is_permanent(message: str) -> bool:
    """Whether containerd can never create the container."""
    return bool(_PERMANENT_CREATE.search(message.lower()))


def start_is_permanent(message: str, *, has_mounts: bool) -> bool:
    """Whether a container's command can never be started: a volume may get the file later."""
    return not has_mounts and bool(_PERMANENT_START.search(message.lower()))


def pod_is_refused(message: str) -> bool:
    """Whether the API server can never accept the pods: a quota or an account may come."""
    return bool(_PERMANENT_POD.search(message.lower()))


def node_boots(message: str) -> bool:
    """Whether a pod fits nowhere since a kind node, or its network plugin, is not up yet."""
    return bool(_BOOTING.search(message))


def is_shortage(message: str) -> bool:
    """Whether something is used up that other pods give back when they end."""
    text = message.lower()
    # What the scheduler says when a kind node without any pod would be too small as well.
    too_big = "preemption is not helpful" in text and "no preemption victims" not in text
    return bool(_SHORTAGE.search(text)) and not too_big
