"""Each failure of a pull has its own remedy."""

from __future__ import annotations

import pytest

from pytest_kindinfra.engines.failures import base_image_in, node_image_in, remedy_of_pull

HUB = "https://registry-1.docker.io/v2/"
OFFLINE = "check that the engine can reach the registry"
NAME = "correct the image's name or tag"
DENIED = "`docker login REGISTRY`"
LIMIT = "rate limit"
PROXY = "proxy that the engine uses"
TRUST = "trust the registry's certificate authority"


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (
            f'Get "{HUB}": dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host',
            OFFLINE,
        ),
        (f'Get "{HUB}": dial tcp 127.0.0.1:443: connect: connection refused', OFFLINE),
        (f'Get "{HUB}": net/http: TLS handshake timeout', OFFLINE),
        (f'Get "{HUB}": net/http: request canceled (Client.Timeout exceeded)', OFFLINE),
        (f'Get "{HUB}": dial tcp 52.1.1.1:443: i/o timeout', OFFLINE),
        ("received unexpected HTTP status: 503 Service Unavailable", OFFLINE),
        ("manifest for python:3.99 not found: manifest unknown: manifest unknown", NAME),
        ("docker.io/library/python:3.99: not found", NAME),
        ("quay.io/nobody/nothing:1: name unknown: repository name not known", NAME),
        (
            (
                "pull access denied for x/y, repository does not exist or may require "
                "'docker login': "
                "denied: requested access to the resource is denied"
            ),
            DENIED,
        ),
        (
            (
                "pull access denied, repository does not exist or may require authorization: "
                "server message: insufficient_scope: authorization failed"
            ),
            DENIED,
        ),
        ("unexpected status from HEAD request to https://ghcr.io/v2/x: 403 Forbidden", DENIED),
        ("unauthorized: authentication required", DENIED),
        ("toomanyrequests: You have reached your unauthenticated pull rate limit.", LIMIT),
        ("unexpected status code https://r/v2/x: 429 Too Many Requests", LIMIT),
        (f'Get "{HUB}": proxyconnect tcp: dial tcp 10.0.0.1:3128: connection refused', PROXY),
        (f'Get "{HUB}": Proxy Authentication Required', PROXY),
        (f'Get "{HUB}": x509: certificate signed by unknown authority', TRUST),
        (
            'Get "https://10.0.0.2:5000/v2/": http: server gave HTTP response to HTTPS client',
            '"insecure-registries"',
        ),
        (f'Get "{HUB}": Forbidden', PROXY),
        (f'Head "{HUB}library/python/manifests/3": Bad Gateway', PROXY),
        (f'Get "{HUB}": EOF', OFFLINE),
        (f'Get "{HUB}": dial tcp 52.1.1.1:443: connect: operation timed out', OFFLINE),
        (
            (
                "Error: initializing source docker://busybox:1: pinging container registry "
                f'registry-1.docker.io: Get "{HUB}": dial tcp: lookup registry-1.docker.io: '
                "Temporary failure in name resolution"
            ),
            OFFLINE,
        ),
        (
            "reading manifest 1.99 in docker.io/library/busybox: manifest unknown",
            NAME,
        ),
        (
            (
                "unable to retrieve auth token: invalid username/password: unauthorized: "
                "incorrect username or password"
            ),
            DENIED,
        ),
        ("toomanyrequests: Rate exceeded", LIMIT),
        (
            (
                'error getting credentials - err: exec: "docker-credential-desktop": '
                "executable file "
                "not found in $PATH"
            ),
            '"credsStore"',
        ),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "architecture"),
        (
            "python:3: failed to resolve: no match for platform in manifest: not found",
            "architecture",
        ),
        ("write /var/lib/docker/tmp/x: no space left on device", "free space"),
        ('short-name "python:3" did not resolve to an alias', "with its registry"),
        ("something that nobody has seen", ""),
    ],
)
def test_a_remedy_is_that_of_its_kind(message: str, remedy: str) -> None:
    found = remedy_of_pull(message)

    assert remedy in found if remedy else found == ""


def test_kind_names_the_node_image() -> None:
    output = (
        " ✗ Ensuring node image (kindest/node:v1.33.1)\n"
        'ERROR: failed to create cluster: failed to pull image "kindest/node:v1.33.1@sha256:05": '
        'command "docker pull kindest/node:v1.33.1@sha256:05" failed with error: exit status 1\n'
    )

    assert node_image_in(output) == "kindest/node:v1.33.1@sha256:05"
    assert node_image_in("ERROR: failed to create cluster: something else") == ""


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (
            (
                "ERROR: failed to solve: python:3.99: failed to resolve source metadata for "
                "docker.io/library/python:3.99: docker.io/library/python:3.99: not found"
            ),
            "docker.io/library/python:3.99",
        ),
        (
            (
                "ERROR: failed to solve: DeadlineExceeded: failed to resolve source metadata for "
                "docker.io/library/python:3: failed to do request: Head: dial tcp: i/o timeout"
            ),
            "docker.io/library/python:3",
        ),
        (
            (
                "ERROR: failed to build: failed to solve: localhost:5000/base:1: "
                "failed to do request: "
                'Head "https://localhost:5000/v2/": connection refused'
            ),
            "localhost:5000/base:1",
        ),
        (
            "ERROR: failed to solve: x/y: pull access denied, repository does not exist",
            "x/y",
        ),
        (
            (
                "Error: creating build container: initializing source "
                "docker://python:3.99: reading "
                "manifest 3.99 in docker.io/library/python: manifest unknown"
            ),
            "python:3.99",
        ),
    ],
)
def test_a_build_names_the_base_image(line: str, name: str) -> None:
    found, said = base_image_in(f"#1 [internal] load metadata\n{line}\n")

    assert found == name
    assert remedy_of_pull(said)


@pytest.mark.parametrize(
    "output",
    [
        (
            '#8 ERROR: process "/bin/sh -c pip install x" did not complete successfully\n'
            'ERROR: failed to solve: process "/bin/sh -c pip install x" did not '
            "complete successfully: "
            "exit code: 1"
        ),
        (
            "dial tcp: lookup pypi.org: no such host\nERROR: failed to solve: "
            'process "/bin/sh" did '
            "not complete successfully: exit code: 6"
        ),
        (
            "ERROR: failed to solve: failed to compute cache key: failed to "
            "calculate checksum of ref "
            'x::y: "/nothing": not found'
        ),
        "ERROR: failed to solve: dockerfile parse error on line 3: unknown instruction: RUM",
        'ERROR: failed to solve: target stage "x" could not be found',
    ],
)
def test_a_build_that_failed_otherwise_names_none(output: str) -> None:
    assert base_image_in(output) == ("", "")
