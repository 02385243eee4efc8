"""The declaration's tables become records, and every mistake in them is named at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.model import ClusterSpec, EndpointSpec, Image, Need, Service
from pytest_kindinfra.plan.declaration import parse_declaration

if TYPE_CHECKING:
    from pytest_kindinfra.model import Declaration

FOLDER = Path("project")


def parsed(toml: str) -> Declaration:
    return parse_declaration(tomllib.loads(toml), folder=FOLDER, source="kindinfra.toml")


def problems(toml: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        parsed(toml)
    return list(caught.value.problems)


def test_variables_are_read() -> None:
    declaration = parsed("""
        [env]
        B_URL = "{url:b}"
        A_COUNT = 3
    """)

    assert declaration.env == (("A_COUNT", "3"), ("B_URL", "{url:b}"))


def test_readiness_is_read_by_kind() -> None:
    [service] = parsed(f"""
        [services.a]
        {MANIFESTS}
        ready.Widget = "condition=Ready"
        ready."Disk.example.com" = "jsonpath={{.status.phase}}=Up"
    """).services

    assert service.ready == (
        ("Disk.example.com", "jsonpath={.status.phase}=Up"),
        ("Widget", "condition=Ready"),
    )


def test_an_empty_declaration_has_defaults_only() -> None:
    declaration = parsed("")

    assert declaration.cluster == ClusterSpec()
    assert (declaration.images, declaration.services, declaration.options) == ((), (), ())
    assert (declaration.folder, declaration.source) == (FOLDER, "kindinfra.toml")


def test_a_cluster_is_read() -> None:
    declaration = parsed("""
        [cluster]
        config = "kind.yaml"
        node_image = "kindest/node:v1.34.4"
        namespace = "shop"
        tuning = false
        ttl = "90m"
        quota = { "requests.cpu" = "4", pods = 20 }
    """)

    assert declaration.cluster == ClusterSpec(
        config=Path("kind.yaml"),
        node_image="kindest/node:v1.34.4",
        namespace="shop",
        tuning=False,
        ttl=5400.0,
        quota=(("pods", "20"), ("requests.cpu", "4")),
    )


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200.0), ("7d", 604800.0)])
def test_a_time_to_live_is_in_minutes_hours_or_days(text: str, seconds: float) -> None:
    assert parsed(f'[cluster]\nttl = "{text}"').cluster.ttl == seconds


@pytest.mark.parametrize("text", ["2", "0h", "2 h", "h", "2w"])
def test_another_time_to_live_is_a_problem(text: str) -> None:
    assert problems(f'[cluster]\nttl = "{text}"') == [
        f'[cluster] ttl "{text}" must be minutes, hours or days: "90m", "2h", "7d"'
    ]


def test_a_registry_is_no_image_but_an_image_may_be_called_so() -> None:
    declaration = parsed('[images]\nregistry = "ghcr.io/team/shop"\n[images.web]')

    assert (declaration.registry, declaration.images) == ("ghcr.io/team/shop", (Image(name="web"),))
    declaration = parsed('[images]\nbuilder = "farm"\n[images.web]')
    assert (declaration.builder, declaration.images) == ("farm", (Image(name="web"),))
    declaration = parsed('[images.registry]\ncontext = "hub"')
    assert declaration.registry is None
    assert declaration.images == (Image(name="registry", context=Path("hub")),)


@pytest.mark.parametrize(
    "address",
    ["team", "localhost", "https://ghcr.io", "ghcr.io/", "ghcr.io/Team", "me:secret@ghcr.io/x"],
)
def test_a_registry_is_a_host_with_a_prefix(address: str) -> None:
    shown = address.removeprefix("me:secret@")

    (problem,) = problems(f'[images]\nregistry = "{address}"')

    assert problem.startswith(f'[images] registry "{shown}" must be HOST[:PORT][/PREFIX] in')


def test_an_image_is_read_with_paths_as_written() -> None:
    declaration = parsed("""
        [images.base]
        [images.data_storage]
        context = "services"
        dockerfile = "services/datastorage/Dockerfile"
        target = "runtime"
        build_args = { VERSION = "dev", COUNT = 3, DEBUG = true }
        needs = ["base"]
        weight = 2
        timeout = 90
        names = ["org/datastorage"]
        build_options = ["--secret", "id=ca"]
        ignore = ["docs/**"]
    """)

    assert declaration.images[1] == Image(
        name="data_storage",
        context=Path("services"),
        dockerfile=Path("services/datastorage/Dockerfile"),
        target="runtime",
        build_args=(("COUNT", "3"), ("DEBUG", "true"), ("VERSION", "dev")),
        needs=("base",),
        weight=2,
        timeout=90.0,
        names=("org/datastorage",),
        build_options=("--secret", "id=ca"),
        ignore=("docs/**",),
    )


def test_an_image_may_want_to_be_built_alone() -> None:
    assert parsed("images.a.exclusive = true").images == (Image(name="a", exclusive=True),)


def test_an_image_may_exist_already() -> None:
    declaration = parsed("""
        images.a.prebuilt = "registry.example/a:1"
        images.b.archive = "b.tar"
    """)

    assert declaration.images == (
        Image(name="a", prebuilt="registry.example/a:1"),
        Image(name="b", archive=Path("b.tar")),
    )


def test_a_service_is_read() -> None:
    declaration = parsed("""
        [services.api]
        image = "api"
        manifests = ["api.yaml"]
        needs = ["postgres", "redis:started", "crds:applied"]
        timeout = 90
        restarts = 0
        patience = 0
        endpoints.http = { port = 8080, path = "/health" }
        endpoints.debug = { port = 6060, workload = "deployment/api", host_port = 6061 }
    """)

    assert declaration.services == (
        Service(
            name="api",
            images=("api",),
            manifests=("api.yaml",),
            needs=(
                Need(name="postgres"),
                Need(name="redis", level="started"),
                Need(name="crds", level="applied"),
            ),
            timeout=90.0,
            restarts=0,
            patience=0.0,
            endpoints=(
                EndpointSpec(name="http", port=8080, path="/health"),
                EndpointSpec(name="debug", port=6060, workload="deployment/api", host_port=6061),
            ),
        ),
    )


def test_an_endpoint_is_read() -> None:
    declaration = parsed("""
        [services.redis]
        manifests = ["redis.yaml"]
        [services.redis.endpoints.resp]
        port = "resp"
        scheme = "tcp"
        service = "redis-master"
        node_port = 30079
        send = "PING\\r\\n"
        expect = "+PONG"
    """)

    assert declaration.services[0].endpoints == (
        EndpointSpec(
            name="resp",
            port="resp",
            scheme="tcp",
            service="redis-master",
            node_port=30079,
            send="PING\r\n",
            expect="+PONG",
        ),
    )


def test_a_step_is_read() -> None:
    declaration = parsed("""
        [services.seed]
        run = "e2e.seed:scenarios"
        inputs = ["scenarios/*.json"]
        images = ["a", "b"]
    """)

    assert declaration.services == (
        Service(
            name="seed", run="e2e.seed:scenarios", inputs=("scenarios/*.json",), images=("a", "b")
        ),
    )


def test_a_service_may_be_just_a_name_for_others() -> None:
    declaration = parsed('services.a.manifests = ["a.yaml"]\nservices.all.needs = ["a"]')

    assert declaration.services[1] == Service(name="all", needs=(Need(name="a"),))


def test_options_are_kept_as_toml_gave_them() -> None:
    declaration = parsed('[options]\nbuild_jobs = 3\nkeep = "always"\nanything = true')

    assert declaration.options == (("build_jobs", 3), ("keep", "always"), ("anything", True))


LABEL = "must be a DNS label: at most 63 lower-case letters, digits and -"
MANIFESTS = 'manifests = ["a.yaml"]'


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        pytest.param(
            "[service.api]",
            'kindinfra.toml has an unknown table "service"; did you mean "services"?',
            id="unknown table",
        ),
        pytest.param(
            "[cluster]\nnodes = 3",
            '[cluster] has an unknown key "nodes"; known: "config", "namespace", "node_image",'
            ' "quota", "registry", "snapshot", "ttl", "tuning"',
            id="unknown key without a near one",
        ),
        pytest.param(
            '[cluster]\nregistry = "registry.example.com"',
            '[cluster] registry "registry.example.com" must be a port of this host:'
            ' "localhost:5001"',
            id="registry elsewhere",
        ),
        pytest.param(
            '[images.a]\ncontxt = "x"',
            '[images.a] has an unknown key "contxt"; did you mean "context"?',
            id="unknown key",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = 1, hostport = 2 }}",
            '[services.a.endpoints.b] has an unknown key "hostport"; did you mean "host_port"?',
            id="unknown key of an endpoint",
        ),
        pytest.param("services = 3", "services must be a table, not 3", id="no table"),
        pytest.param(
            'services.a = "x"', '[services.a] must be a table, not "x"', id="no inner table"
        ),
        pytest.param("cluster = false", "[cluster] must be a table, not false", id="cluster"),
        pytest.param("options = 3", "[options] must be a table, not 3", id="options no table"),
        pytest.param(
            '[services.a]\nmanifests = "a.yaml"',
            '[services.a] manifests must be a list of strings, not "a.yaml"',
            id="a string for a list",
        ),
        pytest.param(
            "[services.a]\nmanifests = [1]",
            "[services.a] manifests must be a list of strings that are not empty, but has 1",
            id="a list of numbers",
        ),
        pytest.param(
            '[cluster]\ntuning = "yes"',
            '[cluster] tuning must be true or false, not "yes"',
            id="a string for a boolean",
        ),
        pytest.param(
            '[cluster]\nnode_image = ""', "[cluster] node_image is empty", id="an empty string"
        ),
        pytest.param(
            '[cluster]\nnamespace = "My_Space"',
            f'[cluster] namespace is "My_Space", but {LABEL}',
            id="namespace",
        ),
        pytest.param(
            "[images.a]\nbuild_args = { X = [1] }",
            "[images.a] build_args.X must be a string, not the list [1]",
            id="build argument",
        ),
        pytest.param(
            '[images.a]\nbuild_args = { API_TOKEN = ["very", "secret"] }',
            "[images.a] build_args.API_TOKEN must be a string, not a value of another type",
            id="a secret is not shown",
        ),
        pytest.param(
            f"[cluster]\nnamespace = {{ {', '.join(f'k{n} = true' for n in range(50))} }}",
            f"[cluster] namespace must be a string, not the table {{"
            f"{', '.join(f'k{n} = true' for n in range(50))[:79]}...",
            id="a long value is cut",
        ),
        pytest.param(
            f"[services.A]\n{MANIFESTS}",
            f'[services.A] the name is "A", but {LABEL}',
            id="name of a service",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\nendpoints.b_c = {{ port = 1 }}",
            f'[services.a.endpoints.b_c] the name is "b_c", but {LABEL}',
            id="name of an endpoint",
        ),
        pytest.param(
            "[images.A]",
            "[images.A] has a name that no image can have: lower-case letters, digits, - . _",
            id="name of an image",
        ),
        pytest.param(
            '[images.a]\nprebuilt = "x"\narchive = "y.tar"',
            "[images.a] has prebuilt and archive: keep one of them",
            id="prebuilt and archive",
        ),
        pytest.param(
            '[images.a]\nprebuilt = "x"\ncontext = "y"\ntarget = "z"',
            "[images.a] has prebuilt, so nothing is built: remove context, target",
            id="prebuilt and context",
        ),
        pytest.param(
            '[images.a]\narchive = "x.tar"\ndockerfile = "y"',
            "[images.a] has archive, so nothing is built: remove dockerfile",
            id="archive and Dockerfile",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nimage = "x"\nimages = ["y"]',
            "[services.a] has image and images: keep one of them",
            id="image and images",
        ),
        pytest.param(
            '[services.a]\nimage = "x"',
            "[services.a] has an image but neither manifests, kustomize, helm nor run, so nothing"
            " would use it",
            id="image alone",
        ),
        pytest.param(
            "[services.a]\nmanifests = []",
            "[services.a] has nothing in it: give it manifests, kustomize, helm, run or needs",
            id="nothing",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\ntimeout = 0",
            "[services.a] timeout is 0, but must be more than 0 seconds",
            id="timeout",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\ntimeout = "2m"',
            '[services.a] timeout must be a number of seconds, not "2m"',
            id="timeout as text",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\ntimeout = nan",
            "[services.a] timeout is nan, but must be more than 0 seconds",
            id="timeout that is no number",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\nrestarts = -1",
            "[services.a] restarts is -1, but must not be negative",
            id="restarts",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\npatience = -0.5",
            "[services.a] patience is -0.5, but must be 0 seconds or more",
            id="patience",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\npatience = nan",
            "[services.a] patience is nan, but must be 0 seconds or more",
            id="patience that is no number",
        ),
        pytest.param(
            "[images.a]\nweight = 0",
            "[images.a] weight is 0, but must be 1 or more",
            id="no weight",
        ),
        pytest.param(
            "[images.a]\nweight = 2\nexclusive = true",
            "[images.a] has exclusive and weight: keep one of them",
            id="exclusive and weight",
        ),
        pytest.param(
            '[images.a]\nprebuilt = "x:1"\nweight = 2\ntimeout = 9',
            "[images.a] has prebuilt, so nothing is built: remove weight, timeout",
            id="the weight of no build",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\nrestarts = true",
            "[services.a] restarts must be a number, not true",
            id="true is no number",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nneeds = ["b:redy"]',
            '[services.a] needs "b:redy", but after the colon must be one of "applied", "started",'
            ' "ready"; did you mean "ready"?',
            id="level",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nneeds = ["b", "b:started"]',
            '[services.a] needs "b" more than once',
            id="need twice",
        ),
        pytest.param(
            '[services.a]\nrun = "e2e/seed.py"',
            '[services.a] run is "e2e/seed.py", but must be "module:function"',
            id="run",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\ninputs = ["x"]',
            "[services.a] has inputs but no run that would read them",
            id="inputs without run",
        ),
        pytest.param(
            '[env]\nA = "{url}"', "env.A: {url} needs a service", id="a variable of no service"
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nready.Widget = "Ready"',
            '[services.a] ready.Widget is "Ready", but must be "condition=TYPE", '
            '"condition=TYPE=STATUS" or "jsonpath={.status.FIELD}=VALUE"',
            id="readiness in other words",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\nendpoints.b = {{}}",
            "[services.a.endpoints.b] has no port",
            id="no port",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = 70000 }}",
            "[services.a.endpoints.b] port is 70000, but ports go from 1 to 65535",
            id="port",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = 1, host_port = 0 }}",
            "[services.a.endpoints.b] host_port is 0, but ports go from 1 to 65535",
            id="host port",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = 1, scheme = "htp" }}',
            '[services.a.endpoints.b] scheme is "htp", but must be one of "tcp", "http", "https",'
            ' "grpc"; did you mean "http"?',
            id="scheme",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = 1, path = "health" }}',
            '[services.a.endpoints.b] path is "health", but must begin with "/"',
            id="path",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = 1, scheme = "tcp", path = "/" }}',
            '[services.a.endpoints.b] has a path, which means nothing for scheme "tcp"',
            id="path of tcp",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = 1, send = "x" }}',
            '[services.a.endpoints.b] has send or expect, which mean nothing for scheme "http"',
            id="send over http",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = 1, workload = "deploy/x" }}',
            '[services.a.endpoints.b] workload is "deploy/x", but must be KIND/NAME with a kind'
            ' of "deployment", "statefulset", "daemonset", "replicaset", "pod"',
            id="workload",
        ),
        pytest.param(
            f'[services.a]\n{MANIFESTS}\nendpoints.b = {{ port = "x", workload = "pod/x" }}',
            "[services.a.endpoints.b] has a workload, so port must be the container's port as a"
            " number",
            id="a workload's port by name",
        ),
        pytest.param(
            f"[services.a]\n{MANIFESTS}\n"
            'endpoints.b = { port = 1, workload = "pod/x", service = "x" }',
            "[services.a.endpoints.b] has service and workload: keep one of them",
            id="service and workload",
        ),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_place(toml: str, problem: str) -> None:
    assert problems(toml) == [problem]


def test_all_mistakes_are_named_at_once() -> None:
    found = problems("""
        [cluster]
        tuning = 1
        [images.a]
        target = 2
        [services.b]
        manifests = ["b.yaml"]
        timeout = -1
        endpoints.c = { port = 0 }
    """)

    assert [problem.partition(" ")[0] for problem in found] == [
        "[cluster]",
        "[images.a]",
        "[services.b]",
        "[services.b.endpoints.c]",
    ]
