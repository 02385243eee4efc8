"""Image references in all the forms in which people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kindinfra.references import (
    is_bare_or_local,
    is_meant_by,
    is_reference,
    last_part,
    name_in_node,
    normalise,
    split,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "full"),
    [
        pytest.param("redis", "docker.io/library/redis:latest", id="bare"),
        pytest.param("redis:7", "docker.io/library/redis:7", id="bare with a tag"),
        pytest.param("docker.io/redis", "docker.io/library/redis:latest", id="no library"),
        pytest.param("index.docker.io/redis:7", "docker.io/library/redis:7", id="old domain"),
        pytest.param("docker.io/library/redis", "docker.io/library/redis:latest", id="in full"),
        pytest.param("index.docker.io/library/redis", "docker.io/library/redis:latest", id="old"),
        pytest.param("docker.io/org/api", "docker.io/org/api:latest", id="organisation in full"),
        pytest.param(
            f"index.docker.io/redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}", id="old, digest"
        ),
        pytest.param("library/redis", "docker.io/library/redis:latest", id="library written"),
        pytest.param("org/api:1", "docker.io/org/api:1", id="organisation"),
        pytest.param("localhost/x:dev", "localhost/x:dev", id="localhost"),
        pytest.param("localhost/x", "localhost/x:latest", id="localhost without a tag"),
        pytest.param("localhost/org/x:dev", "localhost/org/x:dev", id="localhost, two parts"),
        pytest.param("localhost:5000/x", "localhost:5000/x:latest", id="port, no tag"),
        pytest.param("localhost:5000/x:1", "localhost:5000/x:1", id="port and tag"),
        pytest.param("registry.example:5000/x", "registry.example:5000/x:latest", id="host, port"),
        pytest.param("registry:5000/a/b:1", "registry:5000/a/b:1", id="bare host, port"),
        pytest.param("127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1", id="address, port"),
        pytest.param("[::1]:5000/x", "[::1]:5000/x:latest", id="IPv6 address, port"),
        pytest.param(
            f"registry.example:5000/x:1@{DIGEST}",
            f"registry.example:5000/x:1@{DIGEST}",
            id="host, port, tag and digest",
        ),
        pytest.param("registry.example/a/b", "registry.example/a/b:latest", id="registry"),
        pytest.param("Registry/a:1", "Registry/a:1", id="a capital makes a host name"),
        pytest.param(f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}", id="digest"),
        pytest.param(
            f"redis:7@{DIGEST}", f"docker.io/library/redis:7@{DIGEST}", id="tag and digest"
        ),
        pytest.param(
            f"localhost:5000/x@{DIGEST}", f"localhost:5000/x@{DIGEST}", id="port and digest"
        ),
    ],
)
def test_a_reference_has_one_full_form(written: str, full: str) -> None:
    assert normalise(written) == full


@given(
    st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,3})?(/[a-z]{1,5}){0,2}(:[a-z0-9]{1,4})?", fullmatch=True)
)
def test_the_full_form_is_its_own_full_form(written: str) -> None:
    assert normalise(normalise(written)) == normalise(written)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("datastorage", "datastorage"),
        ("datastorage:dev", "datastorage"),
        ("localhost/org/datastorage:dev", "datastorage"),
        ("localhost:5000/datastorage", "datastorage"),
        (f"registry.example/datastorage:1@{DIGEST}", "datastorage"),
    ],
)
def test_the_last_part_is_the_name_without_path_tag_and_digest(reference: str, name: str) -> None:
    assert last_part(reference) == name


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("datastorage", True),
        ("datastorage:dev", True),
        ("localhost/datastorage", True),
        ("localhost/org/datastorage:dev", True),
        ("localhost:5000/datastorage", False),
        ("org/datastorage", False),
        ("docker.io/library/redis", False),
    ],
)
def test_a_reference_without_a_registry_is_bare_or_local(reference: str, *, expected: bool) -> None:
    assert is_bare_or_local(reference) is expected


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("localhost/x:dev", ("localhost/x", "dev")),
        ("x", ("x", "latest")),
        ("localhost:5000/x", ("localhost:5000/x", "latest")),
        (f"x@{DIGEST}", ("x", DIGEST)),
        (f"x:1@{DIGEST}", ("x", f"1@{DIGEST}")),
    ],
)
def test_a_reference_splits_into_repository_and_tag(reference: str, parts: tuple[str, str]) -> None:
    assert split(reference) == parts


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:7", "docker.io/library/redis:7"),
        (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}"),
        (f"redis:7@{DIGEST}", f"docker.io/library/redis@{DIGEST}"),
        (f"localhost:5000/a/b:1@{DIGEST}", f"localhost:5000/a/b@{DIGEST}"),
    ],
)
def test_a_kind_node_looks_for_the_digest_alone_where_there_is_one(
    reference: str, name: str
) -> None:
    assert name_in_node(reference) == name


@pytest.mark.parametrize(
    "reference",
    [
        "redis",
        "a",
        "org/api_v1.2-x:1",
        "localhost/org/x:dev",
        "registry.example:5000/x:1",
        "[::1]:5000/x",
        "Registry/a:1",
        f"redis@{DIGEST}",
        f"quay.io/metallb/controller:v0.14.9@{DIGEST}",
        "gcr.io/k8s-minikube/kicbase:V1_x.y-z",
    ],
)
def test_what_the_kubelet_takes_is_a_reference(reference: str) -> None:
    assert is_reference(reference)


@pytest.mark.parametrize(
    "text",
    [
        "${image:web",
        "${images:web}",
        "$(IMAGE)",
        "{{ .Values.image }}",
        "Web:1",
        "org/Web",
        "web:",
        "web@",
        "web@sha256:12",
        "web :1",
        "web:a/b c",
        "-web",
        "web/",
        "/web",
        "web:ä",
    ],
)
def test_what_the_kubelet_calls_an_invalid_name_is_none(text: str) -> None:
    assert not is_reference(text)


@pytest.mark.parametrize(
    ("name", "reference", "meant"),
    [
        ("org/x", "org/x", True),
        ("org/x", "org/x:2", True),
        ("org/x", f"org/x@{DIGEST}", True),
        ("org/x", f"docker.io/org/x:2@{DIGEST}", True),
        ("localhost:5000/x", "localhost:5000/x:2", True),
        ("org/x:1", "org/x:1", True),
        ("org/x:1", "org/x:2", False),
        ("org/x:1", f"org/x:1@{DIGEST}", False),
        (f"org/x@{DIGEST}", f"org/x@{DIGEST}", True),
        (f"org/x@{DIGEST}", "org/x", False),
        ("org/x", "other/x", False),
        ("x", "docker.io/library/x:7", True),
    ],
)
def test_a_further_name_without_a_tag_means_every_tag_and_digest(
    name: str, reference: str, *, meant: bool
) -> None:
    assert is_meant_by(reference, name) is meant
