"""A service's Python step: what it is given, and what may come of it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.deploy.apply import Target, apply_objects, run_function
from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.kube.rewrite import ImagesInUse
from pytest_kindinfra.model import Service
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
STEPS = f"""
import threading

MAP = {MAP}

def nothing(stack): ...
def one(stack): return MAP
def several(stack): return [MAP, MAP]
def one_by_one(stack):
    yield MAP
def told(stack): return {{**MAP, "data": {{"url": stack}}}}
def a_text(stack): return "ConfigMap"
def a_number(stack): return 7
def no_object(stack): return {{"name": "one"}}
def several_no_objects(stack): return [MAP, {{"kind": "ConfigMap", "apiVersion": "v1"}}]
def fails(stack): raise LookupError("no seeds")
def odd_keys(stack): return {{**MAP, "data": {{9000: "a", True: "b", "c": ("d",)}}}}
def pod(stack):
    spec = {{"containers": [{{"image": "${{image:wbe}}"}}]}}
    return {{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "p"}}, "spec": spec}}
def no_key(stack): return {{**MAP, "data": {{None: "a"}}}}
def hangs(stack): threading.Event().wait(2)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Runs a function of a module in a folder that nobody imported from before."""
    (tmp_path / "some_steps.py").write_text(STEPS)

    def run(name: str, seconds: float = 5) -> Any:
        service = Service(name="seed", run=name if ":" in name else f"some_steps:{name}")
        stack: Any = "http://db"
        return run_function(service, stack, folder=tmp_path, deadline=Deadline.after(seconds))

    yield run
    sys.modules.pop("some_steps", None)
    sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "objects"),
    [
        ("nothing", ()),
        ("one", (MAP,)),
        ("several", (MAP, MAP)),
        ("one_by_one", (MAP,)),
        ("told", ({**MAP, "data": {"url": "http://db"}},)),
        ("odd_keys", ({**MAP, "data": {"9000": "a", "true": "b", "c": ["d"]}},)),
    ],
)
def test_what_it_returns_is_to_be_applied(
    run: Callable[..., Any], name: str, objects: tuple[Any, ...]
) -> None:
    assert run(name) == objects


def test_a_placeholder_for_an_image_that_the_service_has_not_is_told(
    run: Callable[..., Any],
) -> None:
    with pytest.raises(KindInfraError) as caught:
        run("pod")

    assert str(caught.value) == (
        '"some_steps:pod" returned Pod "p" with the placeholder ${image:wbe}, but the service has '
        'the images none\nTo fix: set [services.seed] images = ["wbe"], or correct the name'
    )


def test_a_key_that_no_object_can_have_is_told(run: Callable[..., Any]) -> None:
    with pytest.raises(KindInfraError, match="key null is no string: write it in quotes"):
        run("no_key")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a_text", "'ConfigMap'"),
        ("a_number", "7"),
        ("no_object", "{'name': 'one'}"),
        ("several_no_objects", "{'kind': 'ConfigMap', 'apiVersion': 'v1'}"),
    ],
)
def test_what_it_may_not_return_is_told(run: Callable[..., Any], name: str, told: str) -> None:
    with pytest.raises(KindInfraError) as caught:
        run(name)

    assert str(caught.value) == (
        f'"some_steps:{name}" returned {told}; expected None, an object or several'
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("some_steps:missing", "module 'some_steps' has no attribute 'missing'"),
        ("nowhere:x", "No module named 'nowhere'"),
    ],
)
def test_a_function_that_is_not_there_is_told(
    run: Callable[..., Any], name: str, told: str
) -> None:
    with pytest.raises(KindInfraError) as caught:
        run(name)

    assert str(caught.value) == f'[services.seed] run = "{name}": {told}'


def test_what_it_raises_is_raised(run: Callable[..., Any]) -> None:
    with pytest.raises(LookupError, match="no seeds"):
        run("fails")


def test_one_that_does_not_return_is_left_at_its_deadline(run: Callable[..., Any]) -> None:
    with pytest.raises(NotReadyError) as caught:
        run("hangs", seconds=0.1)

    assert str(caught.value) == 'run = "some_steps:hangs" did not return within 0.1 s'


def test_an_object_of_several_services_gets_the_label_of_none(soon: Deadline) -> None:
    """Whoever no longer declared it deleted it from a reused cluster, with what others had."""
    applied: list[Any] = []
    kube: Any = SimpleNamespace(apply=lambda obj, **_: applied.append(obj))
    other = {**MAP, "metadata": {"name": "other"}}

    apply_objects(
        Service(name="api"), [MAP, other], target=Target(kube=kube, namespace="default"),
        images=ImagesInUse(written={}, loaded=frozenset(), declared={}), deadline=soon,
        shared=[MAP],
    )  # fmt: skip

    labels = [obj["metadata"]["labels"]["dev.kindinfra/service"] for obj in applied]
    assert labels == ["SHARED", "api"]


class DefaultingKube:
    """Stores objects as an API server does, which fills in what was not written."""

    def apply(self, obj: dict[str, Any], **_: Any) -> dict[str, Any]:
        defaults = {"backoffLimit": 6, "completions": 1}
        return {**obj, "spec": {**defaults, **obj["spec"]}, "metadata": {"uid": "u1"}}


@pytest.mark.parametrize("written", [{}, {"backoffLimit": 6}])
def test_a_job_that_was_applied_says_only_what_was_written_about_its_failures(
    written: dict[str, Any],
) -> None:
    template: dict[str, Any] = {"spec": {"containers": []}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"},
           "spec": {"template": template, **written}}  # fmt: skip
    kube: Any = DefaultingKube()

    [applied] = apply_objects(
        Service(name="x"),
        [job],
        images=ImagesInUse(written={}, loaded=frozenset(), declared={}),
        target=Target(kube=kube, namespace="ns"),
        deadline=Deadline.after(60),
    )

    assert applied["metadata"]["uid"] == "u1"
    assert applied["spec"].get("backoffLimit") == written.get("backoffLimit")
