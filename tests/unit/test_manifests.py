"""Manifests: read as Kubernetes reads them, put in order, and rewritten for this run."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from pytest_kindinfra.kube.objects import (
    NodePort,
    applying_order,
    image_references,
    node_ports,
    parse_objects,
    pod_specs,
)
from pytest_kindinfra.kube.rewrite import content_hash, placeholder_names, rewrite
from pytest_kindinfra.kube.targets import expose_service
from pytest_kindinfra.model import EndpointSpec


def made(kind: str, name: str = "x", api: str = "v1", **more: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **more}


def deployment(*images: str, **container: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": image, **container} for image in images]
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return made("Deployment", api="apps/v1", spec=spec)


def first_container(obj: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = next(pod_specs(obj))["containers"][0]
    return container


class TestParsing:
    def test_all_documents_are_read_and_empty_ones_dropped(self) -> None:
        text = """
---
# only a comment
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
---
{apiVersion: v1, kind: Secret, metadata: {name: b}}
---
"""
        objects, problems = parse_objects(text, source="x.yaml")

        assert [obj["kind"] for obj in objects] == ["ConfigMap", "Secret"]
        assert problems == []

    def test_a_list_is_taken_apart(self) -> None:
        text = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret, metadata: {name: b}}]}
"""
        objects, problems = parse_objects(text, source="x.yaml")

        assert [obj["metadata"]["name"] for obj in objects] == ["a", "b"]
        assert problems == []

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            pytest.param("just text", "x.yaml: document 1 is no Kubernetes object", id="text"),
            pytest.param(
                "a: 1",
                "x.yaml: document 1 has no apiVersion and no kind and no metadata.name",
                id="another YAML file",
            ),
            pytest.param(
                "{apiVersion: batch/v1, kind: Job, metadata: {generateName: a-}}",
                "x.yaml: document 1 (Job) has no metadata.name",
                id="no name",
            ),
            pytest.param(
                "kind: Job\nmetadata: @x",
                "x.yaml: line 2: found character that cannot start any token",
                id="YAML",
            ),
            pytest.param("a: {{ x }}", "x.yaml: line 1: found unhashable key", id="template"),
        ],
    )
    def test_what_is_no_object_is_a_problem_with_its_place(self, text: str, problem: str) -> None:
        assert parse_objects(text, source="x.yaml") == ([], [problem])

    def test_documents_before_a_mistake_are_kept(self) -> None:
        text = "{apiVersion: v1, kind: Secret, metadata: {name: b}}\n---\na: @"

        objects, problems = parse_objects(text, source="x.yaml")

        assert len(objects) == len(problems) == 1

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("22:22", "22:22"),
            ("2024-01-01", "2024-01-01"),
            ("=", "="),
            ("0644", 420),
            ("8080", 8080),
            ("0x1f", 31),
            ("1.5", 1.5),
            ("1e3", 1000.0),
            ("1.2.3", "1.2.3"),
            ("500m", "500m"),
            ("-1", -1),
            ("true", True),
            ("~", None),
        ],
    )
    def test_scalars_are_what_kubectl_takes_them_for(self, written: str, value: object) -> None:
        text = f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, data: {written}}}"

        (obj,), _ = parse_objects(text, source="x.yaml")

        assert obj["data"] == value
        assert type(obj["data"]) is type(value)


class TestExports:
    """What `kubectl get -o yaml` printed is applied as `kubectl apply` would in a new cluster."""

    def read(self, api: str, kind: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
        exported = {
            "name": "x",
            "uid": "5c0f6a5e",
            "resourceVersion": "48230",
            "selfLink": "/api/v1/x",
            "creationTimestamp": "2026-03-02T08:12:41Z",
            "generation": 4,
            "managedFields": [{"manager": "kubectl"}],
            "ownerReferences": [{"kind": "Shop", "name": "shop", "uid": "1"}],
            **metadata,
        }
        obj = {"apiVersion": api, "kind": kind, "metadata": exported, "spec": spec}
        text = json.dumps({"kind": "List", "items": [{**obj, "status": {"phase": "old"}}]})
        (read,), problems = parse_objects(text, source="x.json")
        assert problems == []
        return read

    def test_what_only_the_old_cluster_knew_is_left_out(self) -> None:
        assert self.read("apps/v1", "Deployment", {"replicas": 1}, labels={"app": "x"}) == {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "x", "labels": {"app": "x"}},
            "spec": {"replicas": 1},
        }

    def test_a_custom_resource_loses_its_status_only_if_it_was_exported(self) -> None:
        written = made("Widget", api="example.org/v1", status={"phase": "set by hand"})
        (read,), _ = parse_objects(json.dumps(written), source="x.json")

        assert read == written
        assert "status" not in self.read("example.org/v1", "Widget", {})

    def test_a_k8s_service_gets_a_new_address(self) -> None:
        spec = {"clusterIP": "10.96.77.10", "clusterIPs": ["10.96.77.10"], "ports": []}

        assert self.read("v1", "Service", spec)["spec"] == {"ports": []}

    @pytest.mark.parametrize("address", ["None", ""])
    def test_one_without_an_address_stays_so(self, address: str) -> None:
        spec = {"clusterIP": address, "clusterIPs": [address]}

        assert self.read("v1", "Service", spec)["spec"] == spec

    def test_an_address_that_was_written_by_hand_stays(self) -> None:
        service = made("Service", spec={"clusterIP": "10.96.0.99"})

        assert parse_objects(json.dumps(service), source="x.json") == ([service], [])

    def test_a_pod_is_not_bound_to_a_node_of_the_old_cluster(self) -> None:
        spec = {"nodeName": "old-worker", "ephemeralContainers": [{}], "containers": []}

        assert self.read("v1", "Pod", spec)["spec"] == {"containers": []}

    def test_a_job_loses_the_selector_that_was_made_for_it(self) -> None:
        labels = {"controller-uid": "1", "batch.kubernetes.io/job-name": "x", "app": "x"}
        template = {"metadata": {"labels": labels}, "spec": {}}
        spec = {"selector": {"matchLabels": {"controller-uid": "1"}}, "template": template}

        assert self.read("batch/v1", "Job", spec)["spec"] == {
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {}}
        }

    def test_two_exports_of_one_object_have_one_hash(self) -> None:
        first, second = (self.read("v1", "ConfigMap", {}, uid=uid) for uid in ("a", "b"))

        assert content_hash([first]) == content_hash([second])


class TestOrder:
    def test_what_others_need_comes_first_whatever_the_order_of_files(self) -> None:
        objects = [
            made("ValidatingWebhookConfiguration", api="admissionregistration.k8s.io/v1"),
            made("Kafka", api="kafka.example.org/v1"),
            made("Deployment", api="apps/v1"),
            made("Service"),
            made("ClusterRole", api="rbac.authorization.k8s.io/v1"),
            made("CustomResourceDefinition", api="apiextensions.k8s.io/v1"),
            made("Namespace"),
        ]

        assert [obj["kind"] for obj in applying_order(objects)] == [
            "Namespace",
            "CustomResourceDefinition",
            "Service",
            "ClusterRole",
            "Deployment",
            "Kafka",
            "ValidatingWebhookConfiguration",
        ]

    def test_within_a_rank_the_order_stays(self) -> None:
        objects = [made("Secret", "b"), made("ConfigMap", "a"), made("Secret", "a")]

        assert applying_order(objects) == objects

    def test_a_custom_resource_called_service_is_no_k8s_service(self) -> None:
        knative = made("Service", api="serving.knative.dev/v1")
        job = made("Job", api="batch/v1")

        assert applying_order([knative, job]) == [job, knative]


POD = {"containers": [{"image": "main"}], "initContainers": [{"image": "init"}]}
TEMPLATE: dict[str, Any] = {"spec": {"template": {"spec": POD}}}


EVERY_KIND = [
    pytest.param(made("Pod", spec=POD), id="Pod"),
    pytest.param(made("ReplicationController", **TEMPLATE), id="ReplicationController"),
    pytest.param(made("PodTemplate", template={"spec": POD}), id="PodTemplate"),
    pytest.param(made("Deployment", api="apps/v1", **TEMPLATE), id="Deployment"),
    pytest.param(made("StatefulSet", api="apps/v1", **TEMPLATE), id="StatefulSet"),
    pytest.param(made("DaemonSet", api="apps/v1", **TEMPLATE), id="DaemonSet"),
    pytest.param(made("ReplicaSet", api="apps/v1", **TEMPLATE), id="ReplicaSet"),
    pytest.param(made("Job", api="batch/v1", **TEMPLATE), id="Job"),
    pytest.param(made("CronJob", api="batch/v1", spec={"jobTemplate": TEMPLATE}), id="CronJob"),
]


class TestPods:
    @pytest.mark.parametrize("obj", EVERY_KIND)
    def test_every_builtin_kind_shows_its_images(self, obj: dict[str, Any]) -> None:
        assert list(pod_specs(obj)) == [POD]
        assert image_references(obj) == ["init", "main"]

    @pytest.mark.parametrize(
        "obj",
        [
            made("ConfigMap"),
            made("Service", api="serving.knative.dev/v1", **TEMPLATE),
            made("Deployment", api="apps/v1", spec=None),
            made("Pod", spec={"containers": [{"name": "no image"}, None]}),
        ],
        ids=["no pods", "custom resource", "empty", "no image"],
    )
    def test_others_show_none(self, obj: dict[str, Any]) -> None:
        assert image_references(obj) == []

    def test_a_reference_is_listed_once(self) -> None:
        assert image_references(deployment("a", "b", "a")) == ["a", "b"]


class TestNodePorts:
    def test_only_ports_with_a_number_are_listed(self) -> None:
        ports = [
            {"port": 80, "name": "http", "nodePort": 30080},
            {"port": 53, "protocol": "UDP", "nodePort": 30053},
            {"port": 81},
        ]
        service = made("Service", "web", spec={"type": "NodePort", "ports": ports})

        assert node_ports(service) == [
            NodePort("web", 80, "http", 30080, "TCP"),
            NodePort("web", 53, "", 30053, "UDP"),
        ]

    def test_other_kinds_have_none(self) -> None:
        assert node_ports(made("Deployment", api="apps/v1")) == []
        assert node_ports(made("Service", spec=None)) == []


class TestRewriting:
    @pytest.mark.parametrize("obj", EVERY_KIND)
    def test_in_every_kind_each_container_runs_what_was_built(self, obj: dict[str, Any]) -> None:
        built = {"main": "localhost/main:1", "init": "localhost/init:2"}

        done = rewrite(obj, images=built, namespace="n", labels={"ours": "yes"})

        (spec,) = pod_specs(done)
        assert image_references(done) == ["localhost/init:2", "localhost/main:1"]
        assert [
            one["imagePullPolicy"] for one in (*spec["initContainers"], *spec["containers"])
        ] == ["IfNotPresent", "IfNotPresent"]

    @pytest.mark.parametrize("obj", EVERY_KIND)
    def test_in_every_kind_placeholders_are_filled_in(self, obj: dict[str, Any]) -> None:
        written = copy.deepcopy(obj)
        for spec in pod_specs(written):
            for one in (*spec["initContainers"], *spec["containers"]):
                one["args"] = ["--image=${image:api}"]
                one["env"] = [{"name": "TAG", "value": "${image:api:tag}"}]

        done = rewrite(
            written, images={}, namespace="n", labels={}, placeholders={"api": "localhost/api:1"}
        )

        for spec in pod_specs(done):
            for one in (*spec["initContainers"], *spec["containers"]):
                assert one["args"] == ["--image=localhost/api:1"]
                assert one["env"] == [{"name": "TAG", "value": "1"}]

    def test_a_built_image_takes_the_place_of_what_was_written(self) -> None:
        obj = deployment("localhost/api:dev", "redis:7", imagePullPolicy="Always")

        new = rewrite(obj, images={"localhost/api:dev": "api:1"}, namespace="n", labels={})

        api, redis = next(pod_specs(new))["containers"]
        assert (api["image"], api["imagePullPolicy"]) == ("api:1", "IfNotPresent")
        assert (redis["image"], redis["imagePullPolicy"]) == ("redis:7", "Always")

    def test_a_pinned_reference_stays_and_is_not_pulled_again(self) -> None:
        new = rewrite(deployment("redis"), images={}, pin={"redis"}, namespace="n", labels={})

        container = first_container(new)
        assert (container["image"], container["imagePullPolicy"]) == ("redis", "IfNotPresent")

    def test_what_was_written_stays_untouched(self) -> None:
        obj = deployment("api")
        before = copy.deepcopy(obj)

        rewrite(obj, images={"api": "b"}, namespace="n", labels={"l": "1"}, content="c")

        assert obj == before

    @pytest.mark.parametrize(
        ("written", "given", "expected"),
        [(None, "n", "n"), ("own", "n", "own"), (None, None, None)],
        ids=["missing", "written", "cluster-scoped"],
    )
    def test_a_missing_namespace_is_filled_in(
        self, written: str | None, given: str | None, expected: str | None
    ) -> None:
        obj = made("ConfigMap")
        if written:
            obj["metadata"]["namespace"] = written

        new = rewrite(obj, images={}, namespace=given, labels={})

        assert new["metadata"].get("namespace") == expected

    def test_labels_go_to_the_object_and_its_pods_but_not_to_the_selector(self) -> None:
        obj = deployment("a")  # selector and labels are one table, as after a YAML anchor
        new = rewrite(obj, images={}, namespace="n", labels={"k": "v"})

        assert new["metadata"]["labels"] == {"k": "v"}
        assert new["spec"]["template"]["metadata"]["labels"] == {"app": "x", "k": "v"}
        assert new["spec"]["selector"] == {"matchLabels": {"app": "x"}}

    def test_labels_left_empty_are_no_obstacle(self) -> None:
        obj = made("ConfigMap")
        obj["metadata"]["labels"] = None

        assert rewrite(obj, images={}, namespace="n", labels={"k": "v"})["metadata"]["labels"]

    def test_the_content_hash_restarts_pods(self) -> None:
        new = rewrite(deployment("a"), images={}, namespace="n", labels={}, content="123")

        template = new["spec"]["template"]
        assert template["metadata"]["annotations"] == {"kindinfra/content": "123"}
        assert "annotations" not in new["metadata"]

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("--image=${image:api}", "--image=localhost/api:1"),
            ("${image:api:repository}", "localhost/api"),
            ("${image:api:tag}", "1"),
            ("${image:api}${image:api:tag}", "localhost/api:11"),
            ("${image:other}", "${image:other}"),
            ("${HOME} $(VAR)", "${HOME} $(VAR)"),
            (3, 3),
        ],
    )
    def test_placeholders_stand_for_the_reference(self, written: object, expected: object) -> None:
        env = [{"name": "A", "value": written}, {"name": "B", "valueFrom": {}}]
        obj = deployment("a", args=[written], command=[written], env=env)

        new = rewrite(
            obj, images={}, namespace="n", labels={}, placeholders={"api": "localhost/api:1"}
        )

        container = first_container(new)
        assert container["args"] == container["command"] == [expected]
        assert container["env"][0]["value"] == expected

    def test_the_names_in_placeholders_are_found(self) -> None:
        env = [{"name": "A", "value": "${image:b:tag} ${image:a}"}, {"name": "B", "value": "x"}]

        assert placeholder_names(deployment("x", args=["${image:a}"], env=env)) == ["a", "b"]


class TestContentHash:
    def test_it_does_not_depend_on_order(self) -> None:
        a, b = made("ConfigMap", "a"), made("ConfigMap", "b")

        assert content_hash([a, b]) == content_hash([b, dict(reversed(a.items()))])

    def test_it_changes_with_any_value(self) -> None:
        assert content_hash([made("Secret", data={"a": "1"})]) != content_hash(
            [made("Secret", data={"a": "2"})]
        )


class TestExposing:
    SPEC = EndpointSpec(name="http", port=8080)

    def service(self, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
        return made("Service", "api", spec={"selector": {"app": "api"}, "ports": ports, **spec})

    def test_a_headless_service_gets_a_node_port_service_beside_it(self) -> None:
        written = self.service({"port": 8080, "targetPort": "web", "name": "w"}, clusterIP="None")
        written["metadata"]["namespace"] = "shop"

        assert expose_service(self.SPEC, "api", written, node_port=30001) == {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "api-http-kindinfra", "namespace": "shop"},
            "spec": {
                "type": "NodePort",
                "selector": {"app": "api"},
                "ports": [
                    {"name": "http", "port": 8080, "targetPort": "web", "nodePort": 30001},
                ],
            },
        }

    def test_a_port_may_be_named(self) -> None:
        written = self.service({"port": 81, "name": "a"}, {"port": 82, "name": "b"})
        spec = EndpointSpec(name="http", port="b")

        (port,) = expose_service(spec, "api", written, node_port=30001)["spec"]["ports"]

        assert (port["port"], port["targetPort"]) == (82, 82)

    def test_of_two_ports_with_one_number_the_tcp_one_counts(self) -> None:
        written = self.service(
            {"port": 53, "protocol": "UDP", "targetPort": 1},
            {"port": 53, "protocol": "TCP", "targetPort": 2},
        )
        spec = EndpointSpec(name="dns", port=53, scheme="tcp")

        (port,) = expose_service(spec, "api", written, node_port=30001)["spec"]["ports"]

        assert (port["protocol"], port["targetPort"]) == ("TCP", 2)

    def test_a_workloads_own_port_needs_no_k8s_service(self) -> None:
        spec = EndpointSpec(name="debug", port=6060, workload="deployment/x")

        new = expose_service(spec, "api", deployment("a"), node_port=30001)

        assert new["metadata"]["name"] == "x-debug-kindinfra"
        assert new["spec"]["selector"] == {"app": "x"}
        assert new["spec"]["ports"] == [
            {"name": "debug", "port": 6060, "targetPort": 6060, "nodePort": 30001}
        ]

    def test_a_pod_is_selected_by_its_labels(self) -> None:
        pod = made("Pod", spec=POD)
        pod["metadata"]["labels"] = {"run": "x"}
        spec = EndpointSpec(name="debug", port=6060, workload="pod/x")

        new = expose_service(spec, "api", pod, node_port=30001)

        assert new["spec"]["selector"] == {"run": "x"}

    def test_long_names_are_shortened_and_stay_apart(self) -> None:
        names = []
        for ending in "ab":
            written = made("Service", "s" * 59 + ending, spec={"ports": []})
            new = expose_service(self.SPEC, "api", written, node_port=30001)
            names.append(new["metadata"]["name"])

        assert [len(name) for name in names] == [63, 63]
        assert names[0] != names[1]
        assert all(name.endswith("-kindinfra") for name in names)
