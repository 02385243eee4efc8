"""The kind config of a run: the user's, with ours merged in."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.clusters.config import (
    dns_patch,
    hosts_of,
    kind_config,
    network_problems,
    port_problems,
    user_ports,
)
from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.model import PortMapping, Service
from pytest_kindinfra.plan.files import load_kind_config

FOLDER = Path("/project")
Config = dict[str, Any]


def config(base: Config | None = None, ports: dict[int, int] | None = None, **more: Any) -> Config:
    options: Config = {"node_image": None, "tuning": False, "folder": FOLDER, **more}
    return kind_config(base, ports=ports or {}, **options)


def mapped(node_port: int, host_port: int, address: str = "127.0.0.1") -> Config:
    return {"containerPort": node_port, "hostPort": host_port, "listenAddress": address}


class TestMerging:
    def test_without_a_config_of_the_user_there_is_one_kind_node(self) -> None:
        assert config(ports={30000: 41000}, node_image="kindest/node:v1.34.4") == {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [
                {
                    "role": "control-plane",
                    "image": "kindest/node:v1.34.4",
                    "extraPortMappings": [mapped(30000, 41000)],
                }
            ],
        }

    def test_what_the_user_wrote_stays_and_is_not_changed_in_place(self) -> None:
        base = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "networking": {"ipFamily": "dual"},
            "nodes": [{"role": "worker"}, {"role": "control-plane", "labels": {"a": "b"}}],
        }
        before = copy.deepcopy(base)

        merged = config(base, {30000: 41000}, node_image="i", tuning=True, run=Path("/run"))

        assert base == before
        assert merged["networking"] == {"ipFamily": "dual"}
        assert merged["nodes"][1]["labels"] == {"a": "b"}

    def test_ports_go_to_the_first_control_plane(self) -> None:
        base = {"nodes": [{"role": "worker"}, {"role": "control-plane"}, {}]}

        nodes = config(base, {30000: 41000})["nodes"]

        assert [node.get("extraPortMappings", []) for node in nodes] == [
            [],
            [mapped(30000, 41000)],
            [],
        ]

    def test_a_node_without_a_role_is_a_control_plane(self) -> None:
        nodes = config({"nodes": [{"role": "worker"}, {}]}, {30000: 41000})["nodes"]

        assert nodes[1]["extraPortMappings"] == [mapped(30000, 41000)]

    def test_nodes_that_are_one_by_a_yaml_anchor_do_not_share_ports(self) -> None:
        node = {"role": "control-plane"}

        nodes = config({"nodes": [node, node]}, {30000: 41000})["nodes"]

        assert "extraPortMappings" not in nodes[1]

    def test_an_image_goes_to_the_nodes_that_name_none(self) -> None:
        base = {"nodes": [{"image": "own"}, {"role": "worker"}]}

        nodes = config(base, node_image="given")["nodes"]

        assert [node["image"] for node in nodes] == ["own", "given"]

    def test_relative_host_paths_start_at_the_declaration(self) -> None:
        mounts = [
            {"hostPath": "./data", "containerPath": "/a"},
            {"hostPath": "/data", "containerPath": "/b"},
        ]

        (node,) = config({"nodes": [{"extraMounts": mounts}]})["nodes"]

        assert [mount["hostPath"] for mount in node["extraMounts"]] == ["/project/data", "/data"]

    def test_the_run_directory_is_mounted_in_every_node(self) -> None:
        own = {"hostPath": "/x", "containerPath": "/x"}
        base = {"nodes": [{"extraMounts": [own]}, {"role": "worker"}]}

        first, second = config(base, run=Path("/run/1"))["nodes"]

        ours = {"hostPath": "/run/1", "containerPath": "/kindinfra", "readOnly": True}
        assert first["extraMounts"] == [own, ours]
        assert second["extraMounts"] == [ours]


MAPPED: Config = {
    "nodes": [
        {"extraPortMappings": [{"containerPort": 30000, "hostPort": 8080}]},
        {
            "role": "worker",
            "extraPortMappings": [
                {"containerPort": 30001, "hostPort": 8081, "listenAddress": "0.0.0.0"},  # noqa: S104
                {"containerPort": 30002},
                {"containerPort": 30003, "hostPort": 53, "protocol": "UDP"},
            ],
        },
    ]
}


class TestUserPorts:
    def test_fixed_tcp_ports_of_all_nodes_are_found(self) -> None:
        assert user_ports(MAPPED) == {30000: 8080, 30001: 8081}
        assert user_ports(None) == {}
        assert user_ports({"nodes": [{"extraPortMappings": None}]}) == {}

    def test_no_port_is_mapped_twice_and_the_users_host_port_wins(self) -> None:
        ports = {30000: 41000, 30001: 41001, 30002: 41002, 30003: 41003}

        first, second = config(MAPPED, ports)["nodes"]

        assert first["extraPortMappings"] == [mapped(30000, 8080), mapped(30003, 41003)]
        assert second["extraPortMappings"] == [
            mapped(30001, 8081, "0.0.0.0"),  # noqa: S104
            mapped(30002, 41002),
            {**mapped(30003, 53), "protocol": "UDP"},
        ]

    @pytest.mark.parametrize(
        ("node_port", "host_port", "problems"),
        [
            pytest.param(
                30009,
                8080,
                ["[services.api.endpoints.http] host_port 8080 is taken by containerPort 30000"],
                id="of another port",
            ),
            pytest.param(30000, 8080, [], id="of the same port"),
            pytest.param(30000, None, [], id="not fixed"),
            pytest.param(30009, 9000, [], id="another one"),
        ],
    )
    def test_a_fixed_host_port_that_the_config_has_already_is_a_problem(
        self, node_port: int, host_port: int | None, problems: list[str]
    ) -> None:
        mapping = PortMapping(
            service="api",
            endpoint="http",
            node_port=node_port,
            host_port=host_port,
            in_manifest=False,
        )

        expected = [f"{problem} of the kind config" for problem in problems]
        assert port_problems(MAPPED, [mapping]) == expected


def patches(base: Config | None = None) -> list[Config]:
    texts = config(base, tuning=True)["kubeadmConfigPatches"]
    return [document for text in texts for document in load_documents(text)]


LIMITS = {"kube-api-qps": "1000", "kube-api-burst": "2000"}
ALONE = {**LIMITS, "leader-elect": "false"}


class TestTuning:
    def test_off_means_no_patch(self) -> None:
        assert "kubeadmConfigPatches" not in config(tuning=False)

    def test_older_versions_take_arguments_as_a_table(self) -> None:
        assert patches()[0] == {
            "apiVersion": "kubeadm.k8s.io/v1beta3",
            "kind": "ClusterConfiguration",
            "controllerManager": {"extraArgs": ALONE},
            "scheduler": {"extraArgs": ALONE},
            "etcd": {"local": {"extraArgs": {"unsafe-no-fsync": "true"}}},
        }

    def test_newer_versions_take_them_as_a_list(self) -> None:
        arguments = [{"name": name, "value": value} for name, value in ALONE.items()]
        etcd = [{"name": "unsafe-no-fsync", "value": "true"}]

        assert patches()[1] == {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "controllerManager": {"extraArgs": arguments},
            "scheduler": {"extraArgs": arguments},
            "etcd": {"local": {"extraArgs": etcd}},
        }

    def test_kube_proxy_does_not_wait_a_second_between_two_changes_of_its_rules(self) -> None:
        assert patches()[2] == {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "iptables": {"minSyncPeriod": "100ms"},
        }

    def test_leader_election_stays_on_with_several_control_planes(self) -> None:
        old, new, *_ = patches({"nodes": [{}, {"role": "control-plane"}, {"role": "worker"}]})

        assert old["controllerManager"] == old["scheduler"] == {"extraArgs": LIMITS}
        assert "leader-elect" not in str(new)

    def test_the_users_own_patches_come_last_and_so_win(self) -> None:
        own = "kind: ClusterConfiguration\ncontrollerManager: {extraArgs: {kube-api-qps: '5'}}"

        merged = config({"kubeadmConfigPatches": [own]}, tuning=True)

        assert len(merged["kubeadmConfigPatches"]) == 6
        assert merged["kubeadmConfigPatches"][-1] == own

    @pytest.mark.parametrize(
        "base",
        [
            pytest.param(
                {
                    "kubeadmConfigPatches": [
                        "kind: ClusterConfiguration\netcd: {external: {endpoints: [x]}}"
                    ]
                },
                id="external",
            ),
            pytest.param(
                {
                    "nodes": [
                        {"kubeadmConfigPatches": ["etcd: {local: {dataDir: /data}}", "a: @ no"]}
                    ]
                },
                id="a folder of its own",
            ),
            pytest.param(
                {"nodes": [{"extraMounts": [{"containerPath": "/var/lib/etcd"}]}]},
                id="kept on the host",
            ),
            pytest.param(
                {"kubeadmConfigPatchesJSON6902": [{"patch": "- {op: add, path: /etcd/x}"}]},
                id="a JSON patch",
            ),
        ],
    )
    def test_an_etcd_that_the_user_places_is_left_alone(self, base: Config) -> None:
        ours = config(base, tuning=True)["kubeadmConfigPatches"][:2]

        assert all("unsafe-no-fsync" not in text for text in ours)
        assert all("kube-api-qps" in text for text in ours)

    def test_control_planes_see_a_folder_with_patches_of_ours(self) -> None:
        base = {"nodes": [{"role": "worker"}, {}]}

        merged = config(base, tuning=True, run=Path("/run"))

        mount = {
            "hostPath": "/run/kubeadm",
            "containerPath": "/kindinfra-kubeadm",
            "readOnly": True,
        }
        assert [mount in node["extraMounts"] for node in merged["nodes"]] == [False, True]
        documents = [next(iter(load_documents(text))) for text in merged["kubeadmConfigPatches"]]
        assert documents[3:] == [
            {
                "apiVersion": f"kubeadm.k8s.io/{version}",
                "kind": "InitConfiguration",
                "skipPhases": ["preflight", "kubelet-finalize"],
                "patches": {"directory": "/kindinfra-kubeadm"},
            }
            for version in ("v1beta3", "v1beta4")
        ]

    def test_the_kubelet_is_not_restarted_for_a_certificate_of_a_year(self) -> None:
        """It took no pods for 1.5 to 2 seconds."""
        documents = [
            next(iter(load_documents(text)))
            for text in config(tuning=True)["kubeadmConfigPatches"][3:]
        ]

        assert documents == [
            {
                "apiVersion": f"kubeadm.k8s.io/{version}",
                "kind": "InitConfiguration",
                "skipPhases": ["preflight", "kubelet-finalize"],
            }
            for version in ("v1beta3", "v1beta4")
        ]

    def test_without_tuning_there_is_no_folder_with_patches(self) -> None:
        assert "kindinfra-kubeadm" not in str(config(tuning=False, run=Path("/run")))

    @pytest.mark.parametrize(
        ("base", "replicas"), [({}, 1), ({"nodes": [{}]}, 1), ({"nodes": [{}, {}]}, None)]
    )
    def test_dns_is_probed_each_second_and_is_one_pod_for_one_node(
        self, base: Config, replicas: int | None
    ) -> None:
        spec = dns_patch(base)["spec"]

        (container,) = spec["template"]["spec"]["containers"]
        assert container == {"name": "coredns", "readinessProbe": {"periodSeconds": 1}}
        assert spec.get("replicas") == replicas


@pytest.mark.parametrize(
    ("base", "problems"),
    [
        pytest.param({}, [], id="empty"),
        pytest.param({"nodes": None, "kubeadmConfigPatches": ["x"]}, [], id="fine"),
        pytest.param({"kind": "Pod"}, ['kind is "Pod", but must be "Cluster"'], id="kind"),
        pytest.param({"nodes": {}}, ["nodes must be a list of tables"], id="nodes"),
        pytest.param({"nodes": ["x"]}, ["nodes must be a list of tables"], id="a node"),
        pytest.param(
            {
                "kubeadmConfigPatches": "x",
                "nodes": [{}, {"extraMounts": {}, "extraPortMappings": [1]}],
            },
            [
                "kubeadmConfigPatches must be a list of strings",
                "node 2: extraMounts must be a list of tables",
                "node 2: extraPortMappings must be a list of tables",
            ],
            id="lists",
        ),
    ],
)
def test_a_config_of_another_shape_is_a_problem(
    base: Config, problems: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "kind.yaml"
    file.write_text(json.dumps(base))
    found: tuple[str, ...] = ()
    try:
        load_kind_config(file)
    except DeclarationError as error:
        found = error.problems

    assert list(found) == [f"kind.yaml: {problem}" for problem in problems]


class TestNetworks:
    """What nodes need and the config leaves out, some service must bring."""

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"networking": {"disableDefaultCNI": True}}, "disableDefaultCNI is true"),
            ({"networking": {"kubeProxyMode": "none"}}, 'kubeProxyMode is "none"'),
            (
                {
                    "kubeadmConfigPatches": [
                        "kind: InitConfiguration\nskipPhases: [addon/kube-proxy]"
                    ]
                },
                "skipPhases of kubeadm has addon/kube-proxy",
            ),
        ],
    )
    def test_a_config_without_a_network_needs_a_service_before_the_nodes(
        self, config: dict[str, Any], said: str
    ) -> None:
        web, cni = Service(name="web"), Service(name="cni", before="nodes")

        (problem,) = network_problems(config, [web], file="kind.yaml")

        assert problem.startswith("kind.yaml: ")
        assert said in problem
        assert 'before = "nodes"' in problem
        assert network_problems(config, [web, cni], file="kind.yaml") == []

    @pytest.mark.parametrize(
        "config", [None, {}, {"networking": {"kubeProxyMode": "ipvs", "disableDefaultCNI": False}}]
    )
    def test_one_with_a_network_needs_none(self, config: dict[str, Any] | None) -> None:
        assert network_problems(config, [Service(name="web")], file="kind.yaml") == []


class TestAddressesOfThisHost:
    def test_a_port_is_reached_where_it_listens(self, tmp_path: Path) -> None:
        """Endpoints of ports that the user maps to another address never answered."""
        listening = {30000: "::1", 30001: "::", 30002: "127.0.0.2", 30003: "0.0.0.0", 30004: ""}  # noqa: S104
        mappings = [
            {"containerPort": port, "hostPort": port, "listenAddress": address}
            for port, address in listening.items()
        ]
        base = {"nodes": [{"role": "control-plane", "extraPortMappings": mappings}]}

        config = kind_config(
            base, ports={30005: 4000}, node_image=None, tuning=False, folder=tmp_path
        )

        assert hosts_of(config) == {
            30000: "::1",
            30001: "::1",
            30002: "127.0.0.2",
            30003: "127.0.0.1",
            30004: "127.0.0.1",
            30005: "127.0.0.1",
        }

    def test_of_a_cluster_with_ipv6_alone_ports_are_mapped_to_the_loopback_of_ipv6(
        self, tmp_path: Path
    ) -> None:
        base = {"networking": {"ipFamily": "ipv6"}}

        config = kind_config(
            base, ports={30000: 4000}, node_image=None, tuning=False, folder=tmp_path
        )

        (mapping,) = config["nodes"][0]["extraPortMappings"]
        assert mapping["listenAddress"] == "::1"
        assert hosts_of(config) == {30000: "::1"}
