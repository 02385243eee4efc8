"""What `kindinfra init` reads of a skaffold.yaml, and what it only notes."""

from __future__ import annotations

from typing import Any

from pytest_kindinfra.commands.init.skaffold import read_skaffold


def with_releases(*releases: dict[str, Any]) -> dict[str, Any]:
    return {"manifests": {"helm": {"releases": list(releases)}}}


def test_a_chart_of_a_repository_keeps_its_repository_and_version() -> None:
    read = read_skaffold(
        with_releases(
            {"name": "db", "remoteChart": "postgresql", "repo": "https://charts.example.com",
             "version": "16.2.1", "setValues": {"auth.database": "shop"}},
            {"name": "cache", "remoteChart": "oci://registry.example/valkey", "version": "3.0.0"},
        )
    )  # fmt: skip

    assert {one.name: one.keys["helm"] for one in read.charts} == {
        "db": {
            "chart": "postgresql",
            "repo": "https://charts.example.com",
            "version": "16.2.1",
            "set": {"auth.database": "shop"},
        },
        "cache": {"chart": "oci://registry.example/valkey", "version": "3.0.0"},
    }
    assert read.notes == ()


def test_a_chart_without_a_version_is_noted() -> None:
    read = read_skaffold(with_releases({"name": "db", "remoteChart": "bitnami/postgresql"}))

    assert read.charts == ()
    (note,) = read.notes
    assert "the chart bitnami/postgresql without a repository or a version" in note


def test_forwarded_ports_are_noted() -> None:
    forwards = [
        {"resourceType": "Service", "resourceName": "web", "port": 80, "localPort": 8080},
        {"resourceType": "deployment", "resourceName": "api", "port": "http"},
    ]

    start = "skaffold forwards port "
    assert read_skaffold({"portForward": forwards}).notes == (
        f"{start}80 of service/web, at port 8080: `host_port = 8080` of an endpoint keeps that",
        f"{start}http of deployment/api",
    )
