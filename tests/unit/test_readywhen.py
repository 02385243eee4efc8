"""What a user may say of when a custom resource is ready, and what an object lacks by it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_kindinfra.kube.readiness import ReadyWhen, parse_ready_when, rule_for, rules_of


def widget(generation: int = 1, **status: Any) -> dict[str, Any]:
    meta = {"name": "one", "generation": generation}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": meta, "status": status}


def said(status: str, **more: Any) -> dict[str, Any]:
    return {"conditions": [{"type": "Ready", "status": status, **more}]}


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("condition=Ready", ReadyWhen(condition="Ready", value="True")),
        ("condition=Stalled=False", ReadyWhen(condition="Stalled", value="False")),
        ("condition=example.com/Fine", ReadyWhen(condition="example.com/Fine", value="True")),
        ("jsonpath={.status.phase}=Up", ReadyWhen(field=("status", "phase"), value="Up")),
        ("jsonpath={.status.a.b-c}=x=y", ReadyWhen(field=("status", "a", "b-c"), value="x=y")),
        ("jsonpath={.status.url}", ReadyWhen(field=("status", "url"))),
    ],
)
def test_the_words_are_those_of_kubectl_wait(text: str, means: ReadyWhen) -> None:
    assert parse_ready_when(text) == means


@pytest.mark.parametrize(
    "text", ["Ready", "condition", "condition=", "jsonpath=.status.phase", "jsonpath={status}", ""]
)
def test_other_words_mean_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        parse_ready_when(text)


@pytest.mark.parametrize(
    ("text", "obj", "lack"),
    [
        ("condition=Ready", widget(**said("True")), ""),
        ("condition=ready", widget(**said("True")), ""),
        ("condition=Ready=false", widget(**said("False")), ""),
        ("condition=Ready", widget(), "condition Ready is not set yet"),
        ("condition=Ready", {**widget(), "status": None}, "condition Ready is not set yet"),
        ("condition=Ready", widget(**said("False")), "condition Ready is False"),
        (
            "condition=Ready",
            widget(**said("Unknown", reason="Waiting", message="for its volume")),
            "condition Ready is Unknown: Waiting: for its volume",
        ),
        (
            "condition=Ready",
            widget(2, **said("True", observedGeneration=1)),
            "condition Ready is not set yet",
        ),
        (
            "condition=Ready",
            widget(2, **said("True"), observedGeneration=1),
            "its controller has not seen the last change",
        ),
        ("condition=Ready", widget(2, **said("True"), observedGeneration=2), ""),
        ("jsonpath={.status.phase}=Up", widget(phase="Up"), ""),
        ("jsonpath={.status.phase}=Up", widget(), "status.phase is not set yet"),
        (
            "jsonpath={.status.phase}=Up",
            widget(phase="Down"),
            'status.phase is "Down", not "Up"',
        ),
        ("jsonpath={.status.up}=true", widget(up=True), ""),
        ("jsonpath={.status.count}=2", widget(count=2), ""),
        ("jsonpath={.status.url}", widget(url="http://x"), ""),
        ("jsonpath={.status.url.host}", widget(url="x"), "status.url.host is not set yet"),
    ],
)
def test_it_is_said_what_an_object_lacks(text: str, obj: dict[str, Any], lack: str) -> None:
    assert parse_ready_when(text).lack(obj) == lack


def test_a_rule_is_for_a_kind_and_its_group_if_that_is_named() -> None:
    rules = rules_of(
        [("Widget.other.com", "condition=No"), ("Widget.example.com", "condition=Yes")]
    )

    assert rule_for(widget(), rules) == ReadyWhen(condition="Yes", value="True")
    assert rule_for({**widget(), "kind": "Gadget"}, rules) is None
    assert rule_for(widget(), rules_of([("Widget", "condition=Up")]))
