"""What a registry beside the cluster is called, and what others are told of it."""

from __future__ import annotations

import pytest

from pytest_kindinfra.engines.registry import hosting_map, hosts_toml, pushed_name, with_registry
from pytest_kindinfra.protocols.registry import Registry

ID = "sha256:48f1635e4aa5c7d3e9a0"
REGISTRY = Registry(container="kind-registry", address="localhost:5001", port=5000)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("localhost/api:3f2a", "localhost:5001/api:3f2a-48f1635e4aa5"),
        ("localhost/team/api:3f2a", "localhost:5001/team/api:3f2a-48f1635e4aa5"),
        ("redis", "localhost:5001/library/redis:latest-48f1635e4aa5"),
        ("docker.io/library/redis:7", "localhost:5001/library/redis:7-48f1635e4aa5"),
        ("ghcr.io/org/x:v1", "localhost:5001/org/x:v1-48f1635e4aa5"),
        ("quay.io:443/x:v1", "localhost:5001/x:v1-48f1635e4aa5"),
        (f"redis@sha256:{'a' * 64}", "localhost:5001/library/redis:48f1635e4aa5"),
        (f"redis:7@sha256:{'a' * 64}", "localhost:5001/library/redis:7-48f1635e4aa5"),
        (f"x:{'t' * 128}", f"localhost:5001/library/x:{'t' * 100}-48f1635e4aa5"),
    ],
)
def test_one_name_in_the_registry_means_one_content(reference: str, name: str) -> None:
    assert pushed_name("localhost:5001", reference, ID) == name


def test_containerd_is_led_from_the_address_to_the_container() -> None:
    assert hosts_toml(REGISTRY) == '[host."http://kind-registry:5000"]\n'


def test_tools_find_it_by_a_config_map() -> None:
    assert hosting_map(REGISTRY) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
        "data": {
            "localRegistryHosting.v1": 'host: "localhost:5001"\n'
            'hostFromContainerRuntime: "kind-registry:5000"\n'
            'help: "https://kind.sigs.k8s.io/docs/user/local-registry/"\n'
        },
    }


class TestKindConfig:
    PATCH = (
        '[plugins."io.containerd.grpc.v1.cri".registry]\n'
        '  config_path = "/etc/containerd/certs.d"\n'
    )

    def test_containerd_reads_hosts_files(self) -> None:
        assert with_registry(None) == {"containerdConfigPatches": [self.PATCH]}

    def test_what_the_user_wrote_stays(self) -> None:
        config = {"nodes": [{"role": "worker"}], "containerdConfigPatches": ["[debug]"]}

        made = with_registry(config)

        assert made == {**config, "containerdConfigPatches": ["[debug]", self.PATCH]}
        assert config["containerdConfigPatches"] == ["[debug]"]

    def test_patches_of_registries_by_the_user_are_not_added_to(self) -> None:
        mirrors = '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."x"]'

        made = with_registry({"containerdConfigPatches": [mirrors]})

        assert made == {"containerdConfigPatches": [mirrors]}
