"""Where two objects differ."""

from __future__ import annotations

from pytest_kindinfra.kube.objects import first_differences


def test_equal_things_do_not_differ() -> None:
    assert first_differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, limit=3) == []


def test_places_are_named_as_people_write_them() -> None:
    one = {"spec": {"versions": [{"served": True, "name": "v1"}], "scope": "Cluster", "more": 1}}
    other = {"spec": {"versions": [{"served": False, "name": "v1"}], "scope": "Namespaced"}}

    found = first_differences(one, other, limit=3)

    assert found == ["spec.versions[0].served", "spec.scope", "spec.more"]


def test_lists_of_different_lengths_differ_as_wholes_and_only_the_first_places_count() -> None:
    one, other = {"a": [1], "b": 1, "c": 1}, {"a": [], "b": 2, "c": 2}

    assert first_differences(one, other, limit=2) == ["a", "b"]
