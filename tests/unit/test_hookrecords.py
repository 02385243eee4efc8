"""What a hook returns is read as the table that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pytest_kindinfra.model import EndpointSpec, Helm, Image, Need, Service
from pytest_kindinfra.plan.records import read_record

FULL = Service(
    name="web",
    images=("web",),
    manifests=("web.yaml",),
    needs=(Need(name="db"), Need(name="cache", level="started")),
    timeout=3.0,
    restarts=0,
    patience=90.0,
    endpoints=(EndpointSpec(name="api", port="http", path="/"), EndpointSpec(name="b", port=2)),
    run="a.b:c",
    inputs=("*.json",),
    kustomize=Path("over"),
    helm=Helm(chart=Path("chart"), values=(Path("v.yaml"),), set={"a.b": {"c.d": None}}),
    helm_first=True,
    ready=(("Widget", "condition=Ready"),),
)
BUILT = Image(
    name="web",
    context=Path("/srv"),
    dockerfile=Path("web/Dockerfile"),
    target="run",
    build_args=(("A", "1"),),
    needs=("base",),
    weight=2,
    timeout=4.0,
    names=("org/web",),
    build_options=("--pull",),
    ignore=("docs",),
)


def test_a_record_of_the_right_types_stays_as_it_is() -> None:
    for record in (FULL, BUILT, Service(name="all", needs=(Need(name="web"),)), Image(name="x")):
        assert read_record(record) == (record, ())


def test_values_as_toml_has_them_are_taken() -> None:
    loose: dict[str, Any] = {
        "needs": ["db", "cache:started"],
        "images": ["web"],
        "manifests": [Path("web.yaml")],
        "endpoints": [EndpointSpec(name="api", port=80)],
        "helm": {"chart": "chart", "set": {"a.b": 1}},
        "ready": {"Widget": "condition=Ready"},
    }

    service = read_record(Service(name="web", **loose))
    image = read_record(Image(name="web", **cast("Any", {"build_args": {"B": "c", "A": 1}})))

    assert service == (
        Service(
            name="web",
            needs=(Need(name="db"), Need(name="cache", level="started")),
            images=("web",),
            manifests=("web.yaml",),
            endpoints=(EndpointSpec(name="api", port=80),),
            helm=Helm(chart=Path("chart"), set={"a": {"b": 1}}),
            ready=(("Widget", "condition=Ready"),),
        ),
        (),
    )
    assert image == (Image(name="web", build_args=(("A", "1"), ("B", "c"))), ())


def test_two_endpoints_of_one_name_are_said() -> None:
    twice = (EndpointSpec(name="api", port=1), EndpointSpec(name="api", port=2))

    _, problems = read_record(Service(name="web", manifests=("a.yaml",), endpoints=twice))

    assert problems == ('[services.web] has endpoint "api" more than once',)
