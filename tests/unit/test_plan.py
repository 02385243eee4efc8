"""A declaration becomes a plan, or every reason why it cannot."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.images.ignore import IgnoreRules
from pytest_kindinfra.kube.objects import Rendered, Written, parse_objects
from pytest_kindinfra.model import (
    Declaration,
    EndpointSpec,
    Image,
    Need,
    PortMapping,
    Release,
    Service,
)
from pytest_kindinfra.plan.facts import UNKNOWN_CLUSTER, ClusterFacts
from pytest_kindinfra.plan.graph import cycles, in_order
from pytest_kindinfra.plan.resolve import keep_out, resolve

if TYPE_CHECKING:
    from pytest_kindinfra.model import Plan

Obj = dict[str, Any]


def service(name: str, *needs: str, **more: Any) -> Service:
    return Service(name=name, needs=tuple(Need(name=need) for need in needs), **more)


def k8s_service(name: str, *ports: Obj, **spec: Any) -> Obj:
    spec = {"selector": {"app": name}, "ports": list(ports), **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def deployment(name: str, *images: str, **container: Any) -> Obj:
    labels = {"app": name}
    containers = [{"image": image, **container} for image in images]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def planned(
    *services: Service,
    images: tuple[Image, ...] = (),
    wanted: tuple[str, ...] | dict[str, list[str]] | None = None,
    problems: tuple[str, ...] = (),
    cluster: ClusterFacts = UNKNOWN_CLUSTER,
    releases: dict[str, Release] | None = None,
    **objects: list[Obj],
) -> Plan:
    """Resolve services, all of them wanted unless said otherwise."""
    names = tuple(one.name for one in services) if wanted is None else wanted
    tests = names if isinstance(names, dict) else {name: ["test_x.py::test_x"] for name in names}
    read = {name: tuple(found) for name, found in objects.items()}
    return resolve(
        Declaration(folder=Path(), services=services, images=images),
        wanted=tests,
        rendered=Rendered(read, problems, releases or {}),
        cluster=cluster,
    )


def refused(*services: Service, **more: Any) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        planned(*services, **more)
    return list(caught.value.problems)


def names(plan: Plan) -> list[str]:
    return [one.name for one in plan.services]


class TestOrder:
    def test_what_a_service_needs_comes_first(self) -> None:
        plan = planned(service("a", "b"), service("b", "c"), service("c"))

        assert names(plan) == ["c", "b", "a"]

    def test_only_what_is_needed_is_planned(self) -> None:
        plan = planned(service("a", "b"), service("b"), service("c"), wanted=("a",))

        assert names(plan) == ["b", "a"]
        assert list(plan.objects) == ["b", "a"]

    def test_the_order_is_that_of_the_declaration_not_of_the_tests(self) -> None:
        services = [service("b"), service("a"), service("c", "a", "b")]

        assert names(planned(*services, wanted=("c", "a"))) == ["b", "a", "c"]

    def test_nothing_wanted_is_an_empty_plan_with_spare_ports(self) -> None:
        plan = planned(wanted=())

        assert (plan.services, plan.images) == ((), ())
        assert [port.node_port for port in plan.ports] == list(range(30000, 30008))

    @given(st.data())
    def test_any_graph_without_cycles_is_ordered_whatever_is_asked_first(
        self, data: st.DataObject
    ) -> None:
        nodes = [f"n{number}" for number in range(data.draw(st.integers(1, 8)))]
        needs = {
            node: data.draw(
                st.lists(st.sampled_from(nodes[:index]), unique=True) if index else st.just([])
            )
            for index, node in enumerate(nodes)
        }
        shuffled = dict(data.draw(st.permutations(list(needs.items()))))
        wanted = data.draw(st.lists(st.sampled_from(nodes), min_size=1, unique=True))

        order = in_order(wanted, shuffled)

        assert cycles(shuffled) == []
        assert len(order) == len(set(order))
        assert set(wanted) <= set(order)
        for position, name in enumerate(order):
            assert set(needs[name]) <= set(order[:position])
            assert name in wanted or any(name in needs[other] for other in order)
        assert in_order(reversed(wanted), shuffled) == order


class TestNames:
    @pytest.mark.parametrize(
        ("tests", "who"),
        [
            (["t.py::a"], "t.py::a needs"),
            (["t.py::a", "t.py::b"], "t.py::a and t.py::b need"),
            (["t.py::a", "t.py::b", "t.py::c"], "t.py::a, t.py::b and 1 more need"),
        ],
        ids=["one", "two", "three"],
    )
    def test_an_unknown_service_is_named_with_the_tests_that_ask(
        self, tests: list[str], who: str
    ) -> None:
        assert refused(service("postgres"), wanted={"postgress": tests}) == [
            f'{who} "postgress": no such service; did you mean "postgres"? (declared: "postgres")'
        ]

    def test_without_any_service_that_is_said(self) -> None:
        assert refused(wanted={"api": ["t.py::a"]}) == [
            't.py::a needs "api", but no service is declared'
        ]

    def test_an_unknown_need_is_a_problem_even_if_nothing_selected_needs_it(self) -> None:
        assert refused(service("api", "postgress"), service("postgres"), wanted=()) == [
            '[services.api] needs "postgress": no such service; did you mean "postgres"?'
        ]

    def test_an_unknown_image_is_a_problem(self) -> None:
        images = (Image(name="base"), Image(name="api", needs=("bsae", "x")))

        assert refused(service("s", images=("aip",), run="m:f"), images=images) == [
            '[services.s] image "aip": no such image; did you mean "api"?',
            '[images.api] needs "bsae": no such image; did you mean "base"?',
            '[images.api] needs "x": no such image; declared: "base", "api"',
        ]

    def test_one_name_for_two_things_is_a_problem(self) -> None:
        images = (Image(name="i", names=("o/x",)), Image(name="i"), Image(name="j", names=("o/x",)))

        assert refused(service("a"), service("a", "nothing"), images=images) == [
            'service "a" is declared more than once',
            'image "i" is declared more than once',
            'further image name "o/x" is declared more than once',
            '[services.a] needs "nothing": no such service; declared: "a"',
        ]

    def test_cycles_are_written_from_the_one_that_needs(self) -> None:
        services = [service("a", "b"), service("b", "a"), service("c", "c")]
        images = (Image(name="x", needs=("y",)), Image(name="y", needs=("x",)))

        found = refused(*services, images=images)

        assert sorted(found) in (
            [
                "images need each other: x needs y needs x",
                "services need each other: a needs b needs a",
                "services need each other: c needs c",
            ],
            [
                "images need each other: y needs x needs y",
                "services need each other: b needs a needs b",
                "services need each other: c needs c",
            ],
        )

    def test_a_longer_cycle_reads_in_the_direction_of_needs(self) -> None:
        (found,) = cycles({"a": ["b"], "b": ["c"], "c": ["a"]})

        words = found.split(" needs ")
        assert list(pairwise(words)) == [
            (word, {"a": "b", "b": "c", "c": "a"}[word]) for word in words[:-1]
        ]

    def test_all_problems_come_at_once_those_of_the_files_first(self) -> None:
        found = refused(service("a", "b"), problems=("[services.a] x.yaml: bad",), wanted=("z",))

        assert [problem.partition(" ")[0] for problem in found] == [
            "[services.a]",
            "test_x.py::test_x",
            "[services.a]",
        ]


DIGEST = "sha256:" + "0123456789abcdef" * 4


class TestImages:
    API = Image(name="api", needs=("base",))
    BASE = Image(name="base")

    def test_an_image_that_a_manifest_runs_is_added_with_what_it_starts_from(self) -> None:
        objects = [deployment("api", "localhost/org/api:dev", "redis:7")]

        plan = planned(service("a"), images=(self.API, self.BASE), a=objects)

        assert plan.services[0].images == ("api",)
        assert [image.name for image in plan.images] == ["base", "api"]
        assert plan.image_uses == {"a": {"localhost/org/api:dev": "api"}}
        assert plan.external == {"a": ("redis:7",)}

    def test_images_of_services_that_are_not_needed_are_not_planned(self) -> None:
        images = (Image(name="x"), Image(name="y"))

        plan = planned(
            service("a"),
            service("b"),
            images=images,
            wanted=("a",),
            a=[deployment("a", "x")],
            b=[deployment("b", "y")],
        )

        assert [image.name for image in plan.images] == ["x"]

    @pytest.mark.parametrize(
        ("name", "reference", "meant"),
        [
            ("org/x", "org/x", True),
            ("org/x", "docker.io/org/x:latest", True),
            ("org/x", "org/x:1.2", True),
            ("org/x:1", "org/x:1", True),
            ("org/x:1", "org/x:2", False),
            ("org/x", "other/x", False),
            ("localhost:5000/x", "localhost:5000/x:2", True),
        ],
    )
    def test_further_names_are_compared_in_full(
        self, name: str, reference: str, *, meant: bool
    ) -> None:
        image = Image(name="unlike", names=(name,))

        plan = planned(service("a"), images=(image,), a=[deployment("a", reference)])

        assert plan.image_uses["a"] == ({reference: "unlike"} if meant else {})
        assert plan.external["a"] == (() if meant else (reference,))

    @pytest.mark.parametrize(
        ("reference", "escape"),
        [
            ("datastorge", ' (a registry\'s image: write "docker.io/library/datastorge")'),
            ("data-storage:1", ' (a registry\'s image: write "docker.io/library/data-storage:1")'),
            ("localhost/datastorag:dev", ""),
        ],
    )
    def test_a_near_miss_of_a_declared_image_is_a_problem(
        self, reference: str, escape: str
    ) -> None:
        api = service("api", images=("datastorage",))
        images = (Image(name="datastorage"),)

        (problem,) = refused(api, images=images, api=[deployment("a", reference)])

        place = f'[services.api] image "{reference}"'
        assert problem == f'{place}: no such image; did you mean "datastorage"?{escape}'

    @pytest.mark.parametrize(
        ("reference", "declared"),
        [
            ("postgres:16", "postgres-init"),
            ("redis", "redis-seed"),
            ("registry.example/datastorge", "datastorage"),
            ("org/datastorge", "datastorage"),
            ("nginx", "api"),
        ],
    )
    def test_other_references_are_external(self, reference: str, declared: str) -> None:
        images = (Image(name=declared),)

        plan = planned(service("a"), images=images, a=[deployment("a", reference)])

        assert plan.external["a"] == (reference,)

    @pytest.mark.parametrize(
        "reference",
        [
            f"registry.k8s.io/ingress-nginx/controller:v1.12.1@{DIGEST}",
            "quay.io/metallb/controller:v0.14.9",
            "localhost:5000/controller:dev",
            "org/controller",
            "docker.io/library/controller",
            f"controller@{DIGEST}",
            f"controller:dev@{DIGEST}",
            f"localhost/controller@{DIGEST}",
        ],
    )
    def test_an_image_of_another_registry_is_not_replaced_for_its_last_word(
        self, reference: str
    ) -> None:
        """The controllers of ingress-nginx and MetalLB became that of the project."""
        images = (Image(name="controller"),)

        plan = planned(service("a"), images=images, a=[deployment("a", reference)])

        assert (plan.image_uses["a"], plan.external["a"]) == ({}, (reference,))

    def test_a_reference_with_a_digest_is_replaced_if_a_further_name_says_so(self) -> None:
        reference = f"registry.example/org/controller:1@{DIGEST}"
        image = Image(name="controller", names=("registry.example/org/controller",))

        plan = planned(service("a"), images=(image,), a=[deployment("a", reference)])

        assert plan.image_uses["a"] == {reference: "controller"}

    def test_a_declared_image_that_only_a_registrys_reference_could_mean_is_told_how(self) -> None:
        api = service("api", images=("x",))
        objects = [deployment("a", "registry.example/team/x:1")]

        assert refused(api, images=(Image(name="x"),), api=objects) == [
            (
                '[services.api] image "x": none of its manifests runs it; they run: '
                '"registry.example/team/x:1"\n'
                '  To fix: set [images.x] names = ["registry.example/team/x"],'
                " if that is this image"
            )
        ]

    @pytest.mark.parametrize(
        ("reference", "declared"),
        [
            ("wbe", "web"),
            ("wev", "web"),
            ("we", "web"),
            ("weeb:dev", "web"),
            ("localhost/aip:dev", "api"),
            ("auht", "auth"),
            ("atuh", "auth"),
            ("aut", "auth"),
            ("auths", "auth"),
            ("auth2", "auth"),
        ],
    )
    def test_a_near_miss_of_a_short_name_is_a_problem(self, reference: str, declared: str) -> None:
        images = (Image(name=declared), Image(name="postgres-init"))

        (problem,) = refused(service("a"), images=images, a=[deployment("a", reference)])

        assert f'did you mean "{declared}"?' in problem

    @pytest.mark.parametrize(
        ("reference", "declared"),
        [
            ("node:22", "code"),
            ("nats", "cats"),
            ("redis", "edis"),
            ("db", "ab"),
            ("webserver", "web"),
            ("api-gateway", "api"),
            ("bew", "web"),
        ],
    )
    def test_what_is_another_word_is_no_near_miss_of_a_short_name(
        self, reference: str, declared: str
    ) -> None:
        images = (Image(name=declared),)

        plan = planned(service("a"), images=images, a=[deployment("a", reference)])

        assert plan.external["a"] == (reference,)

    @pytest.mark.parametrize(
        ("image", "problem"),
        [
            ("${image:wbe}", 'placeholder for image "wbe": no such image; did you mean "web"?'),
            (
                "${image:web:digest}",
                (
                    'placeholder "${image:web:digest}": "digest" must be "repository" or "tag", '
                    "or left out"
                ),
            ),
            (
                "${image:web",
                (
                    'image "${image:web": that is no image reference; placeholders are '
                    "${image:NAME}, ${image:NAME:repository} and ${image:NAME:tag}"
                ),
            ),
            (
                "${images:web}",
                (
                    'image "${images:web}": that is no image reference; placeholders are '
                    "${image:NAME}, ${image:NAME:repository} and ${image:NAME:tag}"
                ),
            ),
            ("Org/Web:1", 'image "Org/Web:1": that is no image reference'),
        ],
    )
    def test_what_no_kubelet_could_run_is_a_problem_with_its_file(
        self, image: str, problem: str
    ) -> None:
        """The kubelet said InvalidImageName, in a pod that never started."""
        obj = Written(deployment("a", image), place="k8s/web.yaml, document 2")

        assert refused(service("a"), images=(Image(name="web"),), a=[obj]) == [
            f"[services.a] k8s/web.yaml, document 2: {problem}"
        ]

    def test_a_template_of_a_custom_resource_is_for_its_operator_to_fill_in(self) -> None:
        image = "{{inputs.parameters.image}}"
        flow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
                "metadata": {"name": "w"}, "spec": {"main": {"image": image}}}  # fmt: skip
        a = service("a", images_at=(("Workflow", "spec.main"),))

        assert planned(a, a=[flow]).external["a"] == (image,)

    def test_a_placeholder_may_be_the_whole_image(self) -> None:
        objects = [deployment("a", "${image:web}"), deployment("b", "${image:api:repository}:dev")]
        images = (Image(name="web"), Image(name="api"))

        plan = planned(service("a"), images=images, a=objects)

        assert plan.services[0].images == ("web", "api")
        assert (plan.image_uses["a"], plan.external["a"]) == ({}, ())

    @pytest.mark.parametrize("text", ["${image:-nginx}", "${image:0:3}", "${image:+x}", "${image}"])
    def test_a_shells_own_expansions_are_no_placeholders(self, text: str) -> None:
        objects = [deployment("a", "redis", args=[f"echo {text}"])]

        assert planned(service("a"), images=(Image(name="web"),), a=objects).images == ()

    def test_an_image_that_no_manifest_runs_is_a_problem(self) -> None:
        api = service("api", images=("x",), manifests=("a.yaml",))

        assert refused(api, images=(Image(name="x"),), api=[deployment("a", "redis")]) == [
            '[services.api] image "x": none of its manifests runs it; they run: "redis"'
        ]

    def test_a_placeholder_runs_an_image_and_adds_it(self) -> None:
        objects = [deployment("a", "redis", args=["--agent=${image:x}", "${image:y:tag}"])]
        images = (Image(name="x"), Image(name="y"))

        plan = planned(service("a", images=("x",)), images=images, a=objects)

        assert plan.services[0].images == ("x", "y")

    def test_an_unknown_placeholder_is_a_problem(self) -> None:
        objects = [deployment("a", "redis", args=["${image:agnt}"])]

        assert refused(service("a"), images=(Image(name="agent"),), a=objects) == [
            '[services.a] placeholder for image "agnt": no such image; did you mean "agent"?'
        ]

    @pytest.mark.parametrize(
        ("more", "problems"),
        [
            pytest.param({"run": "m:f"}, (), id="a Python step may run it"),
            pytest.param({}, ("[services.a] x.yaml: bad",), id="its manifests cannot be read"),
        ],
    )
    def test_what_is_not_known_is_no_problem(
        self, more: dict[str, str], problems: tuple[str, ...]
    ) -> None:
        one = service("a", images=("x",), endpoints=(EndpointSpec(name="e", port=1),), **more)

        if problems:
            assert refused(one, images=(Image(name="x"),), problems=problems) == list(problems)
        else:
            plan = planned(one, images=(Image(name="x"),))
            assert (plan.ports[0].endpoint, plan.ports[0].in_manifest) == ("e", False)


def mapping(name: str, endpoint: str, node_port: int, **more: Any) -> PortMapping:
    return PortMapping(
        **{
            "service": name,
            "endpoint": endpoint,
            "node_port": node_port,
            "host_port": None,
            "in_manifest": False,
            **more,
        }
    )


def one(*endpoints: EndpointSpec, name: str = "api", needs: tuple[str, ...] = ()) -> Service:
    return service(name, *needs, endpoints=endpoints)


HTTP = EndpointSpec(name="http", port=80)


def config_map(name: str, file: str, **metadata: str) -> Written:
    metadata = {"name": name, **metadata}
    return Written(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, place=f"{file}, document 1"
    )


def cluster_scoped(kind: str, file: str, **more: Any) -> Written:
    apis = {"CustomResourceDefinition": "apiextensions.k8s.io/v1", "Namespace": "v1"}
    obj = {"apiVersion": apis[kind], "kind": kind, "metadata": {"name": "shop"}, **more}
    return Written(obj, place=f"{file}, document 1")


class TestSameObjects:
    """Applied by two services an object changes hands, and its pods are replaced in mid-run."""

    PROBLEM = (
        'services "a", "b" have the same objects and would apply them twice:\n'
        '  ConfigMap "x": "a" by a.yaml, document 1 and "b" by b.yaml, document 1\n'
        "  To fix: move them to a service of their own, which the others need"
    )

    def refused(self, a: Obj, b: Obj, **more: Any) -> list[str]:
        return refused(service("a"), service("b"), a=[a], b=[b], **more)

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            pytest.param({}, {}, id="alike"),
            pytest.param({}, {"namespace": "default"}, id="namespace left out"),
        ],
    )
    def test_in_two_services_are_a_problem_that_names_both_files(
        self, a: dict[str, str], b: dict[str, str]
    ) -> None:
        found = self.refused(config_map("x", "a.yaml", **a), config_map("x", "b.yaml", **b))

        assert found == [self.PROBLEM]

    @pytest.mark.parametrize(
        "other",
        [
            config_map("y", "b.yaml"),
            config_map("x", "b.yaml", namespace="other"),
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}},
            {"apiVersion": "example.org/v1", "kind": "ConfigMap", "metadata": {"name": "x"}},
        ],
        ids=["name", "namespace", "kind", "group"],
    )
    def test_different_ones_are_none(self, other: Obj) -> None:
        plan = planned(service("a"), service("b"), a=[config_map("x", "a.yaml")], b=[other])

        assert names(plan) == ["a", "b"]

    def test_versions_of_one_group_are_the_same_object(self) -> None:
        a, b = (
            {"apiVersion": f"autoscaling/{one}", "kind": "HorizontalPodAutoscaler",
             "metadata": {"name": "x"}} for one in ("v1", "v2")
        )  # fmt: skip

        assert len(self.refused(a, b)) == 1

    def test_of_variants_that_are_never_needed_together_each_may_have_it(self) -> None:
        a, b = config_map("x", "a.yaml"), config_map("x", "b.yaml")

        assert names(planned(service("a"), service("b"), wanted=("a",), a=[a], b=[b])) == ["a"]
        assert refused(service("a"), service("b", "a"), wanted=("b",), a=[a], b=[b])

    @pytest.mark.parametrize("kind", ["Namespace", "CustomResourceDefinition"])
    def test_what_has_no_namespace_and_is_alike_belongs_to_no_service(self, kind: str) -> None:
        a, b = cluster_scoped(kind, "a.yaml"), cluster_scoped(kind, "b.yaml")

        plan = planned(service("a"), service("b"), wanted=("a",), a=[a], b=[b])

        assert plan.shared == (a, b)

    def test_what_has_no_namespace_and_differs_is_a_problem(self) -> None:
        a = cluster_scoped("Namespace", "a.yaml", spec={"finalizers": ["kubernetes"]})

        assert len(self.refused(a, cluster_scoped("Namespace", "b.yaml"))) == 1

    def test_a_custom_resource_without_a_namespace_is_known_by_its_crd(self) -> None:
        spec = {"group": "example.org", "names": {"kind": "Zone"}, "scope": "Cluster"}
        crd = cluster_scoped("CustomResourceDefinition", "crd.yaml", spec=spec)
        zone = {"apiVersion": "example.org/v1", "kind": "Zone", "metadata": {"name": "z"}}

        plan = planned(service("a"), service("b"), a=[crd, zone], b=[zone])

        assert plan.shared == (zone, zone)

    def test_one_that_stands_twice_in_a_service_is_applied_once(self) -> None:
        first, second = config_map("x", "a.yaml"), config_map("x", "b.yaml", namespace="default")

        assert planned(service("a"), a=[first, second]).objects == {"a": (first,)}

    def test_two_different_ones_of_a_service_are_a_problem(self) -> None:
        first, second = config_map("x", "a.yaml"), config_map("x", "b.yaml", creator="me")

        assert refused(service("a"), a=[first, second]) == [
            (
                '[services.a] ConfigMap "x" is declared 2 times: "a" by a.yaml, document 1 and '
                '"a" by b.yaml, document 1\n  To fix: keep one of them'
            )
        ]

    def test_those_of_a_chart_are_in_the_namespace_of_its_release(self) -> None:
        own: Obj = config_map("x", "a.yaml")
        charted: Obj = config_map("x", "b.yaml")
        release = Release(name="b", namespace="other", chart=Path(), objects=(charted,))
        rendered = Rendered({"a": (own,), "b": (charted,)}, (), {"b": release})
        declaration = Declaration(folder=Path(), services=(service("a"), service("b")))

        plan = resolve(declaration, wanted={"a": [], "b": []}, rendered=rendered)

        assert names(plan) == ["a", "b"]

    @pytest.mark.parametrize(
        ("charted", "sound"),
        [
            pytest.param(config_map("x", "b.yaml"), False, id="an object of the chart"),
            pytest.param(
                Written({**config_map("x", ""), "metadata": {"name": "x", "annotations":
                        {"helm.sh/hook": "pre-install"}}}),
                True, id="a hook",
            ),
            pytest.param(
                Written(config_map("x", ""), place='chart "b", crds/x.yaml'), True,
                id="in the chart's folder of CRDs",
            ),
        ],
    )  # fmt: skip
    def test_those_of_charts_count_but_for_what_helm_sees_to(
        self, charted: Obj, *, sound: bool
    ) -> None:
        release = Release(name="b", namespace="default", chart=Path(), objects=(charted,))
        own: Obj = config_map("x", "a.yaml")
        objects: dict[str, tuple[Obj, ...]] = {"a": (own,), "b": (charted,)}
        rendered = Rendered(objects, (), {"b": release})
        declaration = Declaration(folder=Path(), services=(service("a"), service("b")))

        try:
            resolve(declaration, wanted={"a": [], "b": []}, rendered=rendered)
            problems: tuple[str, ...] = ()
        except DeclarationError as error:
            problems = error.problems

        assert problems == (() if sound else (self.PROBLEM,))


class TestPorts:
    def used(self, plan: Plan) -> list[PortMapping]:
        assert [port.endpoint for port in plan.ports[-8:]] == [""] * 8
        return list(plan.ports[:-8])

    def test_every_declared_endpoint_has_one_needed_or_not(self) -> None:
        ports = [{"port": 80}, {"port": 90}]
        fixed = EndpointSpec(name="m", port=90, node_port=30001, host_port=9181)

        plan = planned(
            one(HTTP, fixed),
            one(HTTP, name="web"),
            wanted=("web",),
            api=[k8s_service("api", *ports)],
            web=[k8s_service("web", *ports)],
        )

        assert self.used(plan) == [
            mapping("api", "http", 30000),
            mapping("api", "m", 30001, host_port=9181),
            mapping("web", "http", 30002),
        ]
        assert [port.node_port for port in plan.ports[-8:]] == list(range(30003, 30011))

    def test_a_node_port_in_a_manifest_is_used_as_it_is(self) -> None:
        objects = [k8s_service("api", {"port": 80, "nodePort": 31000}, {"port": 81})]

        plan = planned(one(HTTP, EndpointSpec(name="m", port=81)), api=objects)

        assert self.used(plan) == [
            mapping("api", "http", 31000, in_manifest=True),
            mapping("api", "m", 30000),
        ]

    def test_node_ports_that_no_endpoint_names_are_mapped_too(self) -> None:
        ports: list[Obj] = [
            {"port": 80, "nodePort": 30000},
            {"port": 53, "nodePort": 30001, "protocol": "UDP"},
        ]
        debug = EndpointSpec(name="debug", port=6060, workload="deployment/d")

        plan = planned(one(debug), api=[k8s_service("api", *ports), deployment("d")])

        assert self.used(plan) == [
            mapping("api", "debug", 30002),
            mapping("api", "", 30000, in_manifest=True),
        ]

    def test_a_port_may_be_named(self) -> None:
        objects = [k8s_service("api", {"port": 80, "name": "web", "nodePort": 30050})]

        plan = planned(one(EndpointSpec(name="http", port="web")), api=objects)

        assert self.used(plan) == [mapping("api", "http", 30050, in_manifest=True)]

    def test_the_k8s_service_may_be_that_of_a_needed_service(self) -> None:
        spec = EndpointSpec(name="http", port=80, service="gateway")
        gateway = k8s_service("gateway", {"port": 80, "nodePort": 30080})

        plan = planned(one(spec, needs=("mid",)), service("mid", "gw"), service("gw"), gw=[gateway])

        assert self.used(plan) == [mapping("api", "http", 30080, in_manifest=True)]

    def test_a_services_own_k8s_service_comes_first(self) -> None:
        mine = k8s_service("db", {"port": 80, "nodePort": 30001})
        theirs = k8s_service("db", {"port": 80, "nodePort": 30002})
        spec = EndpointSpec(name="http", port=80, service="db")
        theirs["metadata"]["namespace"] = "other"

        plan = planned(service("x"), one(spec, needs=("x",)), x=[theirs], api=[mine])

        assert self.used(plan)[0] == mapping("api", "http", 30001, in_manifest=True)

    def test_two_endpoints_at_one_node_port_share_its_host_port(self) -> None:
        objects = [k8s_service("api", {"port": 80, "nodePort": 30080})]
        other = EndpointSpec(name="other", port=80, host_port=9000)

        plan = planned(one(HTTP, other), api=objects)

        assert [port.host_port for port in self.used(plan)] == [9000, 9000]

    def test_a_node_port_in_two_variants_of_a_service_is_no_clash(self) -> None:
        shared = k8s_service("db", {"port": 80, "nodePort": 30080})

        plan = planned(service("a"), service("b"), wanted=("a",), a=[shared], b=[shared])

        assert self.used(plan) == [mapping("a", "", 30080, in_manifest=True)]

    def test_tcp_and_udp_may_have_the_same_node_port(self) -> None:
        ports = [{"port": 53, "nodePort": 30053, "protocol": p} for p in ("TCP", "UDP")]

        plan = planned(service("dns"), dns=[k8s_service("dns", *ports)])

        assert self.used(plan) == [mapping("dns", "", 30053, in_manifest=True)]

    @pytest.mark.parametrize(
        ("endpoints", "ports", "problem"),
        [
            pytest.param(
                [HTTP],
                [{"port": 80, "nodePort": 30080}, {"port": 81, "nodePort": 30080}],
                'nodePort 30080 is taken more than once: [services.api] k8s service "api" port 80,'
                ' [services.api] k8s service "api" port 81',
                id="twice in manifests",
            ),
            pytest.param(
                [EndpointSpec(name="m", port=81, node_port=30080)],
                [{"port": 80, "nodePort": 30080}, {"port": 81}],
                'nodePort 30080 is taken more than once: [services.api] k8s service "api" port 80,'
                " [services.api.endpoints.m]",
                id="in a manifest and declared",
            ),
            pytest.param(
                [EndpointSpec(name="m", port=80, node_port=30001)],
                [{"port": 80, "nodePort": 30080}],
                "[services.api.endpoints.m] node_port is 30001, but the manifest has 30080",
                id="two for one port",
            ),
            pytest.param(
                [
                    EndpointSpec(name="a", port=80, host_port=9000),
                    EndpointSpec(name="b", port=80, host_port=9000),
                ],
                [{"port": 80}],
                "host_port 9000 is taken more than once: [services.api.endpoints.a],"
                " [services.api.endpoints.b]",
                id="host port twice",
            ),
            pytest.param(
                [
                    EndpointSpec(name="a", port=80, host_port=9000),
                    EndpointSpec(name="b", port=80, host_port=9001),
                ],
                [{"port": 80, "nodePort": 30080}],
                "nodePort 30080 has host_port 9000 and 9001; give its endpoints the same host_port",
                id="two host ports for one nodePort",
            ),
            pytest.param(
                [EndpointSpec(name="a", port=80, node_port=8080)],
                [{"port": 80}],
                "[services.api.endpoints.a] has nodePort 8080, but Kubernetes takes 30000 to 32767"
                " only",
                id="declared out of range",
            ),
            pytest.param(
                [],
                [{"port": 80, "nodePort": 40000}],
                '[services.api] k8s service "api" port 80 has nodePort 40000, but Kubernetes takes'
                " 30000 to 32767 only",
                id="in a manifest out of range",
            ),
        ],
    )
    def test_a_clash_is_a_problem(
        self, endpoints: list[EndpointSpec], ports: list[Obj], problem: str
    ) -> None:
        assert refused(one(*endpoints), api=[k8s_service("api", *ports)]) == [problem]


class TestEndpoints:
    PLACE = "[services.api.endpoints.http]"

    @pytest.mark.parametrize(
        ("spec", "objects", "problem"),
        [
            pytest.param(
                HTTP,
                [k8s_service("api-svc", {"port": 80})],
                'leads to k8s service "api", but neither its manifests nor those of its needs'
                ' have it; did you mean "api-svc"?',
                id="near name",
            ),
            pytest.param(
                HTTP,
                [k8s_service("web", {"port": 80})],
                'leads to k8s service "api", but neither its manifests nor those of its needs'
                ' have it; they have: "web"',
                id="no k8s service",
            ),
            pytest.param(
                HTTP,
                [
                    k8s_service(
                        "api",
                        {"port": 8080, "name": "web"},
                        {"port": 80, "protocol": "UDP"},
                    )
                ],
                'leads to port 80, but k8s service "api" has: 8080 "web", 80 (UDP)',
                id="no such number",
            ),
            pytest.param(
                EndpointSpec(name="http", port="web"),
                [k8s_service("api", {"port": 80, "name": "http"})],
                'leads to port "web", but k8s service "api" has: 80 "http"',
                id="no such name",
            ),
            pytest.param(
                HTTP,
                [k8s_service("api")],
                'leads to port 80, but k8s service "api" has: none',
                id="no ports",
            ),
            pytest.param(
                HTTP,
                [k8s_service("api", {"port": 80}, selector=None)],
                'leads to k8s service "api", which selects no pods: give it a nodePort',
                id="no selector",
            ),
            pytest.param(
                EndpointSpec(name="http", port=80, workload="deployment/apy"),
                [deployment("api")],
                'leads to Deployment "apy", but neither its manifests nor those of its needs have'
                ' it; did you mean "api"?',
                id="no workload",
            ),
        ],
    )
    def test_one_that_leads_nowhere_is_a_problem(
        self, spec: EndpointSpec, objects: list[Obj], problem: str
    ) -> None:
        assert refused(one(spec), api=objects) == [f"{self.PLACE} {problem}"]

    def test_one_that_leads_into_a_service_that_is_not_needed_is_a_problem(self) -> None:
        objects = [k8s_service("api", {"port": 80})]

        assert len(refused(one(HTTP), service("other"), other=objects)) == 1

    def test_a_custom_resource_called_service_is_no_k8s_service(self) -> None:
        obj = {**k8s_service("api", {"port": 80}), "apiVersion": "serving.knative.dev/v1"}

        assert len(refused(one(HTTP), api=[obj])) == 1


# Readiness


def test_readiness_of_a_kind_that_no_manifest_has_is_a_problem() -> None:
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"}}
    ready = tuple((kind, "condition=Ready") for kind in ("Wigdet", "Disk", "Widget.example.com"))

    assert refused(service("a", ready=ready), a=[widget]) == [
        '[services.a] ready.Wigdet: none of its manifests has one; did you mean "Widget"?',
        '[services.a] ready.Disk: none of its manifests has one; they have: "Widget"',
    ]


def test_a_path_to_images_that_leads_nowhere_is_a_problem() -> None:
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"}}
    paths = (("Wigdet", "spec.template"), ("Widget", "spec.tmplate"))

    assert refused(service("a", images_at=paths), a=[widget]) == [
        '[services.a] images_at.Wigdet: none of its manifests has one; did you mean "Widget"?',
        (
            '[services.a] images_at.Widget: "spec.tmplate" leads to no image, container or pod'
            " template in its manifests"
        ),
    ]


def test_readiness_of_what_a_python_step_applies_is_not_known_yet() -> None:
    plan = planned(service("a", run="x:y", ready=(("Disk", "condition=Ready"),)))

    assert [one.name for one in plan.services] == ["a"]


# Variables


def test_variables_of_what_is_not_declared_are_problems() -> None:
    api = service("api", endpoints=(EndpointSpec(name="web", port=80, service="api"),))
    env = (("A", "{url:apii}"), ("B", "{url:api:wbe}"), ("C", "{port:none}"), ("D", "{url:api}"))
    services = (api, service("none", "api"))
    rendered = Rendered({"api": (k8s_service("api", {"port": 80}),), "none": ()}, ())

    with pytest.raises(DeclarationError) as caught:
        resolve(
            Declaration(folder=Path(), services=services, env=env), wanted={}, rendered=rendered
        )

    assert list(caught.value.problems) == [
        'env.A: "apii": no such service; did you mean "api"?',
        'env.B: "wbe": no such endpoint of "api"; did you mean "web"?',
        'env.C: service "none" has no endpoint',
    ]


class TestTheArtifactsFolder:
    def ignored(self, context: str, artifacts: str) -> tuple[str, ...]:
        api = Image(name="api", context=Path(context), ignore=("*.md",))
        plan = planned(
            service("api", images=("api",)), images=(api,), api=[deployment("api", "api")]
        )
        return keep_out(plan, Path(artifacts)).images[0].ignore

    def test_in_a_context_it_is_kept_out_of_it_whatever_it_is_called(self) -> None:
        assert self.ignored(".", "out/runs") == ("*.md", "out/runs")
        assert self.ignored("services", "services/out") == ("*.md", "out")
        assert self.ignored("x/../services", "services/out") == ("*.md", "out")

    def test_elsewhere_it_changes_nothing(self) -> None:
        assert self.ignored("services", "out") == ("*.md",)

    def test_of_a_folder_that_is_a_context_itself_only_what_runs_write_is_kept_out(self) -> None:
        for context, artifacts in ((".", "."), ("out", "out"), ("out", "x/../out/")):
            _, *patterns = self.ignored(context, artifacts)
            rules = IgnoreRules(patterns)
            kept = [".gitignore", "main.py", "latest.py", "20260101-notes", "reports/latest"]

            assert not [name for name in kept if rules.ignore(name)]
            assert rules.ignore("20261128-140502-3f2a91")
            assert rules.ignore("latest")
            assert rules.ignore("reused")


NEW = ClusterFacts(only_planned=True, kubernetes=(1, 34))


def thing(
    kind: str, name: str, *, version: str = "v1", namespace: str | None = None, **more: Any
) -> Obj:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": meta, **more}


def definition(kind: str, group: str = "example.com", version: str = "v1") -> Obj:
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"kind": kind, "plural": f"{kind.lower()}s"},
        "versions": [{"name": version, "served": True}],
    }
    return thing(
        "CustomResourceDefinition", f"{kind}.{group}", version="apiextensions.k8s.io/v1", spec=spec
    )


def rights(resource: str, *verbs: str, role: str = "operator") -> list[Obj]:
    version = "rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": ["*"], "resources": [resource], "verbs": list(verbs)}]
    return [
        thing("ClusterRole", "operator", version=version, rules=rules),
        thing("ClusterRoleBinding", "operator", version=version, roleRef={"name": role}),
    ]


class TestNamespacesThatNothingMakes:
    def test_one_is_told_with_its_file_and_document(self) -> None:
        text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: shopp}}"
        objects, _ = parse_objects(f"---\n{text}", source="k8s/web.yaml")
        makes = thing("Namespace", "shop")

        (problem,) = refused(service("web"), cluster=NEW, web=[makes, *objects])

        assert problem == (
            '[services.web] k8s/web.yaml, document 1, ConfigMap "a" is in namespace "shopp", which '
            'nothing in the plan creates; did you mean "shop"?; to fix: add a Namespace "shopp" to '
            "its manifests or to those of a service it needs"
        )

    def test_one_that_a_service_makes_which_is_not_planned_is_told_with_it(self) -> None:
        (problem,) = refused(
            service("base"),
            service("web"),
            wanted=("web",),
            cluster=NEW,
            base=[thing("Namespace", "shop")],
            web=[thing("ConfigMap", "a", namespace="shop")],
        )

        assert problem.endswith('to fix: service "base" creates it: add it to the needs')

    def test_one_that_is_no_near_miss_is_made_when_the_service_is_deployed(self) -> None:
        """`kubectl create ns shop && kubectl apply -f k8s/`, as many README files have it."""
        planned(service("web"), cluster=NEW, web=[thing("ConfigMap", "a", namespace="shop")])

    def test_one_of_a_charts_objects_is_told_since_helm_does_not_make_it(self) -> None:
        inside = thing("ConfigMap", "a", namespace="shop")
        release = Release(name="web", namespace="default", chart=Path("chart"), objects=(inside,))

        assert refused(service("web"), cluster=NEW, releases={"web": release}, web=[inside])

    def test_a_service_that_waits_for_this_one_makes_none_for_it(self) -> None:
        assert refused(
            service("web"),
            service("late", "web", run="steps:make"),
            cluster=NEW,
            web=[thing("ConfigMap", "a", namespace="shop")],
            late=[thing("Namespace", "shop")],
        )

    @pytest.mark.parametrize("namespace", ["default", "kube-system", "local-path-storage"])
    def test_those_of_a_new_cluster_are_there(self, namespace: str) -> None:
        planned(service("web"), cluster=NEW, web=[thing("ConfigMap", "a", namespace=namespace)])

    def test_an_object_of_the_whole_cluster_is_in_none(self) -> None:
        role = thing("ClusterRole", "a", version="rbac.authorization.k8s.io/v1", namespace="shop")

        planned(service("web"), cluster=NEW, web=[role])

    def test_that_of_a_release_is_made(self) -> None:
        inside = thing("ConfigMap", "a", namespace="shop")
        release = Release(name="web", namespace="shop", chart=Path("chart"), objects=(inside,))

        planned(service("web"), cluster=NEW, releases={"web": release}, web=[inside])

    @pytest.mark.parametrize(
        ("other", "objects"),
        [
            (service("seed", run="steps:make"), []),
            (service("seed"), rights("namespaces", "create")),
            (service("seed"), rights("*", "*")),
            (service("seed"), rights("pods", "escalate")),
            (service("seed"), rights("pods", "get", role="cluster-admin")),
            (service("seed"), rights("pods", "get", role="of-somebody-else")),
        ],
    )
    def test_what_may_make_one_unseen_leaves_it_to_the_run(
        self, other: Service, objects: list[Obj]
    ) -> None:
        web = [thing("ConfigMap", "a", namespace="shop")]

        planned(service("web"), other, cluster=NEW, web=web, seed=objects)

    @pytest.mark.parametrize(
        "objects", [rights("pods", "create"), rights("namespaces", "get", "list", "watch")]
    )
    def test_rights_to_other_things_make_none(self, objects: list[Obj]) -> None:
        web = [thing("ConfigMap", "a", namespace="defalt")]

        assert refused(service("web"), service("op"), cluster=NEW, web=web, op=objects)

    def test_a_cluster_that_is_not_known_may_have_it(self) -> None:
        web = [thing("ConfigMap", "a", namespace="shop")]

        planned(service("web"), cluster=ClusterFacts(existing=True), web=web)


class TestKindsThatNothingServes:
    def test_one_without_a_definition_is_told(self) -> None:
        monitor = thing("ServiceMonitor", "web", version="monitoring.coreos.com/v1")

        (problem,) = refused(service("web"), cluster=NEW, web=[monitor])

        assert problem == (
            '[services.web] ServiceMonitor "web": no CustomResourceDefinition in the plan defines '
            'kind "ServiceMonitor" of monitoring.coreos.com/v1; to fix: add that to its manifests '
            "or to those of a service it needs, or leave the object out"
        )

    def test_one_with_a_definition_is_fine_also_in_another_service(self) -> None:
        gadget = thing("Gadget", "one", version="example.com/v1")

        planned(service("crds"), service("web"), cluster=NEW, crds=[definition("Gadget")],
                web=[gadget])  # fmt: skip

    def test_a_version_that_the_definition_has_not_is_told_with_what_it_has(self) -> None:
        gadget = thing("Gadget", "one", version="example.com/v2")

        (problem,) = refused(service("web"), cluster=NEW, web=[definition("Gadget"), gadget])

        assert 'did you mean "example.com/v1 Gadget"?' in problem

    def test_one_that_an_operator_may_define_is_left_to_the_run(self) -> None:
        gadget = thing("Gadget", "one", version="example.com/v1")
        operator = rights("customresourcedefinitions", "create")

        planned(service("web"), cluster=NEW, web=[*operator, gadget])

    @pytest.mark.parametrize(
        ("version", "kind", "said"),
        [
            ("apps/v1", "Deploymnt", 'did you mean "Deployment"?'),
            ("v1", "Deployment", "did you mean apiVersion apps/v1?"),
            ("apps/v1", "Job", "did you mean apiVersion batch/v1?"),
            ("app/v1", "Deployment", "did you mean apiVersion apps/v1?"),
            ("extensions/v1beta1", "Ingress", "1.22 removed it; use networking.k8s.io/v1"),
            ("policy/v1beta1", "PodDisruptionBudget", "1.25 removed it; use policy/v1"),
            ("policy/v1beta1", "PodSecurityPolicy", "1.25 removed it without a replacement"),
            ("apps/v1beta2", "Deployment", "1.16 removed it; use apps/v1"),
            ("v2", "Service", "the core group has v1"),
        ],
    )
    @pytest.mark.parametrize("cluster", [NEW, UNKNOWN_CLUSTER])
    def test_one_that_kubernetes_does_not_serve_is_told_whatever_may_come(
        self, version: str, kind: str, said: str, cluster: ClusterFacts
    ) -> None:
        (problem,) = refused(
            service("web"), cluster=cluster, web=[thing(kind, "a", version=version)]
        )

        head = f'[services.web] {kind} "a": no kind "{kind}" in apiVersion "{version}": '
        assert problem.startswith(head)
        assert said in problem

    def test_an_old_version_serves_what_newer_ones_removed(self) -> None:
        budget = thing("PodDisruptionBudget", "a", version="policy/v1beta1")

        planned(service("web"), cluster=ClusterFacts(kubernetes=(1, 24)), web=[budget])

    def test_a_version_newer_than_what_is_known_may_serve_more(self) -> None:
        planned(
            service("web"),
            cluster=ClusterFacts(kubernetes=(1, 99)),
            web=[thing("Novelty", "a", version="apps/v1")],
        )

    def test_a_beta_is_the_clusters_to_serve_or_not(self) -> None:
        policy = "admissionregistration.k8s.io/v1beta1"

        planned(
            service("web"), cluster=NEW,
            web=[thing("MutatingAdmissionPolicy", "a", version=policy)],
        )  # fmt: skip


class TestServicesBeforeTheNodes:
    def test_one_is_in_each_plan_with_what_it_needs(self) -> None:
        plan = planned(
            service("cni", "settings", before="nodes"),
            service("settings", before="nodes"),
            service("web"),
            wanted=("web",),
        )

        assert names(plan) == ["settings", "cni", "web"]

    def test_a_cluster_that_is_there_has_its_own(self) -> None:
        plan = planned(
            service("cni", before="nodes"),
            service("web"),
            wanted=("web",),
            cluster=ClusterFacts(existing=True),
        )

        assert names(plan) == ["web"]

    def test_it_can_need_no_service_that_comes_after_the_nodes(self) -> None:
        (problem,) = refused(service("cni", "db", before="nodes"), service("db"))

        assert problem == (
            '[services.cni] has before = "nodes", but needs "db", which is deployed when the nodes '
            'are Ready: give [services.db] before = "nodes" too, or remove the need'
        )
