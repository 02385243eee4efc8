"""What messages of the kubelet, containerd and the scheduler mean; most were seen on a cluster."""

from __future__ import annotations

import math

import pytest

from pytest_kindinfra.kube.reasons import REASONS, Sight, is_shortage, pull_failure

REF = "127.0.0.1:5911/x:1"
HEAD = f'failed to pull and unpack image "{REF}": failed to resolve reference "{REF}": '
ASKED = HEAD + 'failed to do request: Head "https://x.io/v2/x/manifests/1": '
ANSWERED = HEAD + "unexpected status from HEAD request to http://127.0.0.1:5911/v2/x/manifests/1: "
COPYING = HEAD + (
    "failed to copy: httpReadSeeker: failed open: unexpected status code "
    "https://registry-1.docker.io/v2/x/manifests/sha256:8d0bff43429: "
)

MESSAGES = [
    (ANSWERED + "503 Service Unavailable", "registry"),
    (ANSWERED + "500 Internal Server Error", "registry"),
    (ANSWERED + "502 Bad Gateway", "registry"),
    (ANSWERED + "429 Too Many Requests", "rate limit"),
    (COPYING + "429 Too Many Requests - Server message: toomanyrequests: denied", "rate limit"),
    ("Status 429 trying to pull: <title>Error 429 (Too Many Requests)!!1</title>", "rate limit"),
    (ASKED + "dial tcp 127.0.0.1:1: connect: connection refused", "refused connection"),
    (ASKED + "dial tcp: lookup x.io on 172.18.0.1:53: no such host", "name resolution"),
    (ASKED + "dial tcp: lookup denied.example on 10.0.0.1:53: no such host", "name resolution"),
    (ASKED + "dial tcp: lookup x.io: Temporary failure in name resolution", "name resolution"),
    (ASKED + "dial tcp 10.1.1.1:443: i/o timeout", "network"),
    (ASKED + "net/http: TLS handshake timeout", "network"),
    (ASKED + "dial tcp 10.1.1.1:443: connect: network is unreachable", "network"),
    (ASKED + "dial tcp 10.1.1.1:443: connect: no route to host", "network"),
    (ASKED + "read tcp 10.0.0.1:4->10.1.1.1:443: read: connection reset by peer", "network"),
    (ASKED + "EOF", "network"),
    (HEAD + "failed to copy: unexpected EOF", "network"),
    ("rpc error: code = DeadlineExceeded desc = context deadline exceeded", "network"),
    (ASKED + "proxyconnect tcp: dial tcp 10.0.0.9:3128: connect: connection refused", "proxy"),
    (ASKED + "proxyconnect tcp: dial tcp: lookup proxy on 10.0.0.1:53: no such host", "proxy"),
    (ASKED + "Proxy Authentication Required", "proxy"),
    (ASKED + "tls: failed to verify certificate: x509: certificate signed by unknown authority",
     "certificate"),
    (ASKED + "http: server gave HTTP response to HTTPS client", "plain http"),
    (HEAD + "write /var/lib/containerd/io: no space left on device", "disk"),
    ("content digest sha256:8d0b: not found", "content"),
    (HEAD + "no match for platform in manifest: not found", "platform"),
    (ANSWERED + "401 Unauthorized", "denied"),
    (ANSWERED + "403 Forbidden", "denied"),
    (HEAD + "pull access denied, repository does not exist or may require authorization: "
     "server message: insufficient_scope: authorization failed", "denied"),
    (HEAD + "failed to authorize: failed to fetch anonymous token: unexpected status from GET "
     "request to https://ghcr.io/token?scope=x: 403 Forbidden: denied: requested access", "denied"),
    ("rpc error: code = NotFound desc = " + HEAD + f"{REF}: not found", "absent"),
    (ANSWERED + "404 Not Found: manifest unknown", "absent"),
    ('couldn\'t parse image name "X": invalid reference format', "name"),
    ('Back-off pulling image "not-found/denied:1"', "unknown"),
    (ANSWERED + "400 Bad Request", "unknown"),
    ("", "unknown"),
]  # fmt: skip
PERMANENT = {"platform", "denied", "absent", "name"}


def pull_is_permanent(message: str, *, has_pull_secrets: bool) -> bool:
    sight = Sight(message, 3.0, has_pull_secrets=has_pull_secrets)
    return REASONS["ErrImagePull"].grace(sight) == 0.0


@pytest.mark.parametrize(("message", "kind"), MESSAGES)
def test_a_pull_that_fails_for_good_is_told_from_one_that_may_pass(message: str, kind: str) -> None:
    failure = pull_failure(message)

    assert failure.kind == kind
    assert pull_is_permanent(message, has_pull_secrets=False) == (kind in PERMANENT)


def test_each_kind_of_failed_pull_has_a_remedy_of_its_own() -> None:
    fixes = {kind: pull_failure(message).fix for message, kind in MESSAGES}

    assert len(set(fixes.values())) == len(fixes)
    assert [fix for fix in fixes.values() if "{" in fix.format(image="x.io/x:1")] == []


def test_a_denied_pull_may_wait_for_the_secret_that_the_pod_names() -> None:
    assert not pull_is_permanent(ANSWERED + "401 Unauthorized", has_pull_secrets=True)
    assert pull_is_permanent(f"{REF}: not found", has_pull_secrets=True)


def test_a_digest_that_was_not_found_may_be_found_next_time() -> None:
    message = HEAD.replace(REF, "x.io/x@sha256:aaaa") + "x.io/x@sha256:aaaa: not found"

    assert not pull_is_permanent(message, has_pull_secrets=False)


@pytest.mark.parametrize(
    ("message", "short"),
    [
        ("1 Insufficient cpu. preemption: 1 No preemption victims found for incoming pod.", True),
        ("1 Insufficient cpu. preemption: 1 Preemption is not helpful for scheduling.", False),
        ("1 Insufficient memory.", True),
        ("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1", True),
        ("node(s) didn't match Pod's node affinity/selector", False),
    ],
)
def test_what_other_pods_may_give_back_is_a_shortage(message: str, *, short: bool) -> None:
    assert is_shortage(message) == short


@pytest.mark.parametrize(
    ("taint", "boots"),
    [
        ("node.kubernetes.io/not-ready: ", True),
        ("node.kubernetes.io/network-unavailable: ", True),
        ("node.cilium.io/agent-not-ready: ", True),
        ("node.cloudprovider.kubernetes.io/uninitialized: true", True),
        ("node.kubernetes.io/disk-pressure: ", False),
        ("node.kubernetes.io/memory-pressure: ", False),
        ("dedicated: gpu", False),
    ],
)
def test_a_kind_node_that_boots_is_known_by_its_taint(taint: str, *, boots: bool) -> None:
    sight = Sight(f"0/1 nodes are available: 1 node(s) had untolerated taint {{{taint}}}", 3.0)

    assert REASONS["Unschedulable"].grace(sight) == (math.inf if boots else 3.0)


def test_every_row_of_the_table_says_where_its_word_comes_from() -> None:
    assert [row.word for row in REASONS.values() if not (row.seen and row.source)] == []
    assert list(REASONS) == [row.word for row in REASONS.values()]
