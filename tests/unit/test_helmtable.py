"""The `helm` table of a service becomes a record, and every mistake in it is named at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.model import Helm, Service
from pytest_kindinfra.plan.declaration import parse_declaration


def service(toml: str) -> Service:
    tables = tomllib.loads(f"[services.a]\n{toml}")
    (one,) = parse_declaration(tables, folder=Path(), source="kindinfra.toml").services
    return one


def problems(toml: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        service(toml)
    return list(caught.value.problems)


def values(toml: str) -> dict[str, Any]:
    helm = service(f'helm = {{ chart = "c", set = {{ {toml} }} }}').helm
    assert helm is not None
    return helm.set


def test_all_of_it_is_read() -> None:
    one = service("""
        [services.a.helm]
        chart = "charts/api"
        values = ["dev.yaml", "more.yaml"]
        set = { replicas = 1 }
        release = "api-dev"
        namespace = "shop"
    """)

    assert one.helm == Helm(
        chart=Path("charts/api"),
        values=(Path("dev.yaml"), Path("more.yaml")),
        set={"replicas": 1},
        release="api-dev",
        namespace="shop",
    )


def test_a_kustomization_is_read() -> None:
    assert service('kustomize = "overlays/dev"').kustomize == Path("overlays/dev")


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        pytest.param(
            '"image.tag" = "1,2", image.name = "x"',
            {"image": {"tag": "1,2", "name": "x"}},
            id="dots and tables",
        ),
        pytest.param(
            'a = 1, b = 1.5, c = true, d = "true", e = ["1", 2]',
            {"a": 1, "b": 1.5, "c": True, "d": "true", "e": ["1", 2]},
            id="types",
        ),
        pytest.param(
            "'node.kubernetes\\.io/role' = 'x'", {"node": {"kubernetes.io/role": "x"}}, id="escaped"
        ),
        pytest.param(
            'pages."index.html" = "x"', {"pages": {"index.html": "x"}}, id="names of inner tables"
        ),
        pytest.param(
            '"a.b.c" = 1, "a.b.d" = 2, a.e = 3',
            {"a": {"b": {"c": 1, "d": 2}, "e": 3}},
            id="one in another",
        ),
    ],
)
def test_set_becomes_what_a_values_file_has(toml: str, expected: dict[str, Any]) -> None:
    assert values(toml) == expected


@pytest.mark.parametrize(
    ("toml", "first"),
    [
        ('helm = { chart = "c" }\nmanifests = ["m.yaml"]', True),
        ('manifests = ["m.yaml"]\nhelm = { chart = "c" }', False),
        ('manifests = ["m.yaml"]\nkustomize = "k"\nhelm = { chart = "c" }', False),
        ('helm = { chart = "c" }\nkustomize = "k"', True),
        ('helm = { chart = "c" }', False),
    ],
)
def test_the_order_of_keys_is_the_order_of_work(toml: str, first: bool) -> None:  # noqa: FBT001
    assert service(toml).helm_first is first


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        pytest.param("helm = {}", "[services.a.helm] has no chart", id="no chart"),
        pytest.param(
            'helm = "charts/api"',
            '[services.a.helm] must be a table, not "charts/api"',
            id="no table",
        ),
        pytest.param(
            'helm = { chart = "c", valuess = ["x"] }',
            '[services.a.helm] has an unknown key "valuess"; did you mean "values"?',
            id="key",
        ),
        pytest.param(
            'helm = { chart = "c", release = "A_b" }',
            '[services.a.helm] release is "A_b", but must be a DNS label of at most 53 lower-case'
            " letters, digits and -",
            id="release",
        ),
        pytest.param(
            'helm = { chart = "c", namespace = "A" }',
            '[services.a.helm] namespace is "A", but must be a DNS label: at most 63 lower-case'
            " letters, digits and -",
            id="namespace",
        ),
        pytest.param(
            'helm = { chart = "c", set = ["a=b"] }',
            '[services.a.helm] set must be a table of values, not the list ["a=b"]',
            id="set",
        ),
        pytest.param(
            'helm = { chart = "c", set = { a.b = [2024-01-01] } }',
            "[services.a.helm] set.a.b is datetime.date(2024, 1, 1), which no values file can hold:"
            " write a string",
            id="date",
        ),
        pytest.param(
            'helm = { chart = "c", set = { "a.b" = 1, a = 2 } }',
            '[services.a.helm] set."a" is said twice, or once as a value and once as a table',
            id="twice",
        ),
        pytest.param(
            'manifests = ["m"]\nhelm = { chart = "c" }\nkustomize = "k"',
            "[services.a] has helm between manifests and kustomize, which are applied together:"
            " write it before or after both",
            id="between",
        ),
    ],
)
def test_a_mistake_is_one_sentence(toml: str, problem: str) -> None:
    assert problems(toml) == [problem]
