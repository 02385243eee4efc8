"""Why objects do not get ready: one row for each reason of Kubernetes.

A row says where the reason is seen, for how long it may be there and still pass, and what to do.
Kubernetes tries everything again, so a reason alone (`ErrImagePull`) does not say whether a trouble
passes; only the message does. What is not known to be permanent counts as passing. Pure.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from pytest_kindinfra.model import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


# -- messages about failed pulls -------------------------------------------------------------------

_PULL_LOCALLY = (
    "pull it once on this machine (`docker pull {image}`): an image that the engine has is loaded "
    "into the kind nodes, which then need no registry"
)


_UNKNOWN_FIX = (
    "declare the image, have it in the engine of this machine (`docker pull {image}`), or correct "
    "its name"
)


class _PullFailure(NamedTuple):
    """A row of the table of failed pulls, found by the message.

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


_UNKNOWN_PULL = _PullFailure("unknown", "", permanent=False, fix=_UNKNOWN_FIX)


_ABSENT_FIX = (
    "the registry has no {image}: correct its name or tag, declare it under [images], or have it "
    "in the engine of this machine"
)


_DENIED_FIX = (
    "correct the image's name, or log in on this machine (`docker login`) and `docker pull "
    "{image}`: an image that the engine has is loaded into the kind nodes. Otherwise give the pod "
    "an imagePullSecret; in an existing cluster, [images] pull_secret = true does that"
)


# The order matters: a message about a failed connection may quote what a proxy or a token server
# said, and `denied` or `not found` decides only where nothing speaks for a passing failure.
PULL_FAILURES = (
    _PullFailure(
        "rate limit", r"(?<![:.\d])429\b|too ?many ?requests|rate limit", permanent=False,
        fix="the registry limits the number of pulls: log in on this machine (`docker login`) and "
        + _PULL_LOCALLY,
    ),
    _PullFailure(
        "proxy", r"proxyconnect|proxy authentication required", permanent=False,
        fix="the kind node uses the proxy of the environment in which kind created it: correct "
        "HTTP_PROXY, HTTPS_PROXY and NO_PROXY there, or " + _PULL_LOCALLY,
    ),
    _PullFailure(
        "certificate", r"x509|failed to verify certificate|tls: ",
        permanent=False,
        fix="the kind node does not trust the registry's certificate: mount its CA into the kind "
        "node (`extraMounts` and containerd's certs.d in the kind config), or " + _PULL_LOCALLY,
    ),
    _PullFailure(
        "plain http", r"http response to https client", permanent=False,
        fix="the registry speaks HTTP only: configure it for containerd in the kind config "
        "(certs.d/HOST/hosts.toml), or " + _PULL_LOCALLY,
    ),
    _PullFailure(
        "name resolution",
        r"no such host|server misbehaving|name resolution|name or service not known",
        permanent=False,
        fix="the kind node cannot resolve the registry's name. Correct it; or, without a network, "
        + _PULL_LOCALLY,
    ),
    _PullFailure(
        "refused connection", r"connection refused", permanent=False,
        fix="nothing listens at the registry's address as the kind node sees it, where localhost "
        "is the kind node itself. Declare the image under [images], correct its name, or "
        + _PULL_LOCALLY,
    ),
    _PullFailure(
        "network",
        r"network is unreachable|no route to host|time-?out|timed out|deadline exceeded"
        r"|connection reset|broken pipe|\beof\b|context canceled|short read|dial tcp",
        permanent=False,
        fix="the kind node does not reach the registry: check network, firewall and proxy, or "
        + _PULL_LOCALLY,
    ),
    _PullFailure(
        "registry", r"(?<![:.\d])5\d\d (internal|bad|service|gateway|not implemented)"
        r"|internal server error|bad gateway|service unavailable|temporarily unavailable",
        permanent=False, fix="the registry has a failure: try again later, or " + _PULL_LOCALLY,
    ),
    _PullFailure(
        "disk", r"no space left on device", permanent=False,
        fix="free space on the engine's disk (`docker system df`, `kindinfra gc --images`)",
    ),
    # The content store of containerd, not the registry.
    _PullFailure("content", r"content digest", permanent=False, fix=_PULL_LOCALLY),
    _PullFailure(
        "platform", r"no match for platform|no matching manifest", permanent=True,
        fix="the image does not exist for this machine's platform: choose a tag that does, or "
        "build it",
    ),
    _PullFailure(
        "denied",
        r"access denied|unauthorized|(?<![\w.-])denied(?!\.?[\w-])|forbidden|insufficient_scope"
        r"|authorization failed|authentication required|no basic auth",
        permanent=True, fix=_DENIED_FIX,
    ),
    _PullFailure(
        "absent", r"(manifest|name|repository)[ _]unknown|(?<![\w.-])not found(?!\.?[\w-])",
        permanent=True, fix=_ABSENT_FIX,
    ),
    _PullFailure(
        "name", r"invalid reference|couldn't parse image|failed to parse image", permanent=True,
        fix="correct the image's name in the manifest",
    ),
)  # fmt: skip


# References, URLs, hosts with a path and quoted texts: their words say nothing about the failure.
_NAMES = re.compile(r'"[^"]*"|\S+/\S+|\bsha256:\S+')


def pull_failure(message: str) -> _PullFailure:
    """Return which kind of failure a message about a pull describes."""
    plain = _NAMES.sub(" ", message).lower()
    # An answer quoted as a whole, such as a page of the registry, is all there is to read.
    for text in (plain, message.lower()) if not plain.strip(" :") else (plain,):
        for failure in PULL_FAILURES:
            if re.search(failure.pattern, text):
                return failure
    return _UNKNOWN_PULL


def is_bare_back_off(message: str) -> bool:
    """Whether a pull that backs off is reported without what failed."""
    return not message or bool(re.fullmatch(r'Back-off pulling image "[^"]*"', message))


# -- how long a reason may be there ----------------------------------------------------------------


class Sight(NamedTuple):
    """A reason as it was seen once.

    Attributes:
        message: Kubernetes' sentence.
        patience: Seconds for what may pass by itself.
        image: The container's image, for remedies.
        has_pull_secrets: The pod names secrets for pulls: they may come later, and the kubelet
            pulls without them until then.
        has_mounts: The container mounts something, which may bring a missing file later.
    """

    message: str = ""
    patience: float = PATIENCE
    image: str = ""
    has_pull_secrets: bool = False
    has_mounts: bool = False


def _permanent(_sight: Sight) -> float:
    return 0.0


def _patience(sight: Sight) -> float:
    return sight.patience


def _unless(pattern: str, *, grace: float = 0.0) -> Callable[[Sight], float]:
    """Return a grace that is the patience, unless the message has the pattern in lower case."""
    compiled = re.compile(pattern)
    return lambda sight: grace if compiled.search(sight.message.lower()) else sight.patience


def _of_pull(sight: Sight) -> float:
    failure = pull_failure(sight.message)
    if failure.kind == "denied" and sight.has_pull_secrets:
        return sight.patience
    # By digest, containerd 2 looks among the blobs once the manifest did not answer in time, so
    # "not found" and "unauthorized" may be about that second place.
    by_digest = "@sha256:" in sight.message and failure.kind in {"denied", "absent"}
    return 0.0 if failure.permanent and not by_digest else sight.patience


# Of the command or the working directory: elsewhere a file may be missing since the engine is busy.
_no_command = _unless(
    r"(exec:? |chdir to cwd).*(executable file not found|no such file or directory"
    r"|permission denied|exec format error|(is|not) a directory)"
)


def _of_start(sight: Sight) -> float:
    return sight.patience if sight.has_mounts else _no_command(sight)


CLAIM_GRACE = 5.0
"""An event about the claim, which comes later, says more than that it is not bound."""


_BOOTING = re.compile(r"\{[^}]*(not-ready|unreachable|network-unavailable|uninitialized)")


def _of_scheduling(sight: Sight) -> float:
    if _BOOTING.search(sight.message):  # a kind node, or its network plugin, is not up yet
        return math.inf
    return sight.patience + (CLAIM_GRACE if "PersistentVolumeClaim" in sight.message else 0.0)


_SHORTAGE = re.compile(
    r"insufficient |too many pods|free ports for the requested|exceeded quota"
    r"|volume node affinity conflict|exceed max volume count"
)


def is_shortage(message: str) -> bool:
    """Whether something is used up that other pods give back when they end."""
    text = message.lower()
    # What the scheduler says when a kind node without any pod would be too small as well.
    too_big = "preemption is not helpful" in text and "no preemption victims" not in text
    return bool(_SHORTAGE.search(text)) and not too_big


# -- the table -------------------------------------------------------------------------------------


Seen = Literal["waiting", "not started", "crash", "lost", "condition", "event"]
"""Where a reason is seen: a container waits and says why, it ended before it ran, it ended or backs
off, it was not there any more; an object's condition or phase says it, or only an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reason:
    """A row of the table.

    Attributes:
        word: Kubernetes' word.
        seen: Where.
        source: Where Kubernetes or containerd declares the word.
        grace: Returns the seconds for which it may be there and still pass; 0 if permanent.
        fix: What to do, or a function that says it by the message; empty if nothing is known.
        family: What stays the same while the reason changes, since the kubelet tries again; empty
            means the word.
        shortage: Its message may say that something is used up that other pods give back.
    """

    word: str
    seen: tuple[Seen, ...]
    source: str
    grace: Callable[[Sight], float] = _permanent
    fix: str | Callable[[Sight], str] = ""
    family: str = ""
    shortage: bool = False


def _fix_of_pull(sight: Sight) -> str:
    return pull_failure(sight.message).fix.format(image=sight.image)


_IMAGE_FIX = "declare the image, have it in the engine of this machine, or correct its name"


_CONFIG_FIX = "add what is missing to the service's manifests, or to those of one that it needs"


_START_FIX = "correct the container's command"


_CRASH_FIX = "see the log; `restarts = N` of the service allows more restarts"


_IMAGES = "kubernetes: pkg/kubelet/images/types.go"


_CONTAINERS = "kubernetes: pkg/kubelet/kuberuntime/kuberuntime_container.go"


_SYNC = "kubernetes: pkg/kubelet/container/sync_result.go"


_EVENTS = "kubernetes: pkg/kubelet/events/event.go"


_CRI = "containerd: internal/cri/server/helpers.go"


_ROWS = (
    _Reason(
        word="ErrImagePull", seen=("waiting",), family="pull", grace=_of_pull, fix=_fix_of_pull,
        source=_IMAGES,
    ),
    _Reason(
        word="ImagePullBackOff", seen=("waiting",), family="pull", grace=_of_pull,
        fix=_fix_of_pull, source=_IMAGES,
    ),
    _Reason(
        word="RegistryUnavailable", seen=("waiting",), family="pull", grace=_of_pull,
        fix=_fix_of_pull, source="kubernetes: staging/src/k8s.io/cri-api/pkg/errors/errors.go",
    ),
    _Reason(
        word="ImageInspectError", seen=("waiting",), family="pull", grace=_of_pull,
        fix=_fix_of_pull, source=_IMAGES,
    ),
    _Reason(
        word="ErrImageNeverPull", seen=("waiting",), family="never pull", fix=_IMAGE_FIX,
        source=_IMAGES,
    ),
    _Reason(
        word="InvalidImageName", seen=("waiting",), family="name",
        fix="correct the image's name in the manifest", source=_IMAGES,
    ),
    _Reason(  # a missing Secret may come
        word="CreateContainerConfigError", seen=("waiting",), family="config",
        grace=_unless(r"runasnonroot"), fix=_CONFIG_FIX, source=_CONTAINERS,
    ),
    _Reason(
        word="CreateContainerError", seen=("waiting",), family="create",
        grace=_unless(
            r"no command specified|no users found|unable to find (user|group)|runasnonroot"
        ),
        fix="correct the container's command or mounts", source=_CONTAINERS,
    ),
    _Reason(
        word="RunContainerError", seen=("waiting",), family="start", grace=_of_start,
        fix=_START_FIX, source=_SYNC,
    ),
    _Reason(
        word="StartError", seen=("not started",), family="start", grace=_of_start,
        fix=_START_FIX, source=_CRI,
    ),
    _Reason(
        word="ContainerCannotRun", seen=("not started",), family="start", grace=_of_start,
        source="Docker's shims for the kubelet (dockershim, cri-dockerd)",
    ),
    _Reason(
        word="PostStartHookError", seen=("crash",), fix="see the hook's message",
        source=_CONTAINERS,
    ),
    _Reason(word="CrashLoopBackOff", seen=("crash",), fix=_CRASH_FIX, source=_SYNC),
    _Reason(word="Error", seen=("crash",), fix=_CRASH_FIX, source=_CRI),
    _Reason(
        word="Completed", seen=("crash",), fix="give the container a command that does not end",
        source=_CRI,
    ),
    _Reason(
        word="OOMKilled", seen=("crash",), fix="raise the container's memory limit", source=_CRI
    ),
    # How a container ended that was not there any more when the kind node came back.
    _Reason(word="Unknown", seen=("lost",), source=_CRI),
    _Reason(
        word="ContainerStatusUnknown", seen=("lost",),
        source="kubernetes: pkg/kubelet/container/runtime.go",
    ),
    _Reason(
        word="Unschedulable", seen=("condition",), grace=_of_scheduling, shortage=True,
        fix="ask for less, or remove what no kind node offers",
        source="kubernetes: staging/src/k8s.io/api/core/v1/types.go",
    ),
    _Reason(
        word="Lost", seen=("condition",),
        source="kubernetes: staging/src/k8s.io/api/core/v1/types.go",
    ),
    _Reason(  # a quota or an account may come
        word="FailedCreate", seen=("condition", "event"), shortage=True,
        grace=_unless(r"violates podsecurity|\bis invalid\b|invalid value", grace=1.0),
        fix="correct what the message names, or add it to the service or one that it needs",
        source="kubernetes: pkg/controller/controller_utils.go",
    ),
    _Reason(
        word="FailedMount", seen=("event",), grace=_patience, fix=_CONFIG_FIX, source=_EVENTS
    ),
    _Reason(word="FailedAttachVolume", seen=("event",), grace=_patience, source=_EVENTS),
    _Reason(
        word="FailedCreatePodSandBox", seen=("event",), grace=_patience,
        fix="see the message; the network plugin of the cluster may not run", source=_EVENTS,
    ),
    _Reason(
        word="ProvisioningFailed", seen=("event",), grace=_patience,
        fix="name a storage class that the cluster has, or leave it out",
        source="kubernetes: pkg/controller/volume/events/event.go",
    ),
)  # fmt: skip


REASONS = {row.word: row for row in _ROWS}


_WORDS = {
    place: frozenset(row.word for row in _ROWS if place in row.seen) for place in get_args(Seen)
}


def reasons_seen(place: Seen) -> frozenset[str]:
    """Return the words that are seen at a place."""
    return _WORDS[place]
