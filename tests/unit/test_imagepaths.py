"""Custom resources name what they run where a service says so, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_kindinfra.kube.rewrite import (
    image_references_at,
    leads_somewhere,
    placeholder_names,
    rewrite,
)

API = {"name": "api", "image": "api"}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "pod template": ("spec.template", {"template": {"spec": {"containers": [API]}}}),
    "init container": ("spec.template", {"template": {"spec": {"initContainers": [API]}}}),
    "pod spec": ("spec.pod", {"pod": {"containers": [API]}}),
    "containers": ("spec.sidecars", {"sidecars": [API, "no table", {"name": "no image"}]}),
    "container": ("spec.main", {"main": API}),
    "reference": ("spec.runs", {"runs": "api"}),
    "image volume": ("spec.pod", {"pod": {"volumes": [{"image": {"reference": "api"}}]}}),
}


def widget(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"}, "spec": spec,
    }  # fmt: skip


def deployed(obj: dict[str, Any], path: str, kind: str = "Widget") -> dict[str, Any]:
    made = rewrite(
        obj, images={"api": "localhost/api:1"}, namespace=None, labels={},
        placeholders={"db": "localhost/db:2"}, paths=[(kind, path)],
    )  # fmt: skip
    return dict(made["spec"])


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_path_leads_to_is_the_image_of_this_run(shape: str) -> None:
    path, spec = SHAPES[shape]

    assert leads_somewhere(widget(spec), path)
    assert image_references_at(widget(spec), [("Widget", path)]) == ["api"]
    assert image_references_at(deployed_as_object(spec, path), [("Widget", path)]) == [
        "localhost/api:1"
    ]


def deployed_as_object(spec: dict[str, Any], path: str) -> dict[str, Any]:
    return widget(deployed(widget(spec), path))


def test_a_container_is_not_pulled_again_and_a_bare_reference_gets_no_neighbour() -> None:
    main = deployed(widget({"main": API}), "spec.main")["main"]
    runs = deployed(widget({"runs": "api"}), "spec.runs")

    assert main == {"name": "api", "image": "localhost/api:1", "imagePullPolicy": "IfNotPresent"}
    assert runs == {"runs": "localhost/api:1"}


def test_placeholders_count_in_its_containers() -> None:
    obj = widget({"main": {**API, "args": ["--image=${image:db}"]}})

    assert placeholder_names(obj, [("Widget", "spec.main")]) == ["db"]
    assert deployed(obj, "spec.main")["main"]["args"] == ["--image=localhost/db:2"]


@pytest.mark.parametrize("kind", ["Gadget", "Widget.other.com"])
def test_other_kinds_are_left_alone(kind: str) -> None:
    assert deployed(widget({"runs": "api"}), "spec.runs", kind) == {"runs": "api"}


@pytest.mark.parametrize("path", ["spec", "spec.size", "spec.none", "spec.none.deeper", "metadata"])
def test_a_path_that_leads_to_nothing_that_runs_is_known(path: str) -> None:
    obj = widget({"size": 1})

    assert not leads_somewhere(obj, path)
    assert image_references_at(obj, [("Widget", path)]) == []
