"""Records of which nothing is compiled at import are as frozen dataclasses otherwise are."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import pytest

from pytest_kindinfra.frozen import Frozen


class Pod(Frozen):
    """Defined at the top, where pickle finds it."""

    name: str
    restarts: int = 0
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plain:
    """The same as the standard library makes it."""

    name: str
    restarts: int = 0
    labels: dict[str, str] = field(default_factory=dict)


class Other(Frozen):
    name: str
    restarts: int = 0
    labels: dict[str, str] = field(default_factory=dict)


class Key(Frozen):
    name: str
    number: int


class TestValues:
    def test_what_is_not_given_has_its_default(self) -> None:
        pod = Pod(name="api", restarts=2)

        assert (pod.name, pod.restarts, pod.labels) == ("api", 2, {})

    def test_a_factory_makes_a_default_for_each(self) -> None:
        assert Pod(name="api").labels is not Pod(name="api").labels

    def test_what_must_be_given_is_named(self) -> None:
        with pytest.raises(TypeError, match=r"^a value for 'name' is missing$"):
            Pod()  # type: ignore[call-arg]

    def test_what_does_not_exist_is_named(self) -> None:
        with pytest.raises(TypeError, match=r"^Pod has no field 'age', 'size'$"):
            Pod(name="api", age=1, size=2)  # type: ignore[call-arg]

    def test_it_takes_no_argument_by_position(self) -> None:
        with pytest.raises(TypeError, match="positional argument"):
            Pod("api")  # type: ignore[call-arg]


class TestFreezing:
    @pytest.mark.parametrize("name", ["restarts", "age"])
    def test_nothing_can_be_assigned(self, name: str) -> None:
        pod = Pod(name="api")

        with pytest.raises(FrozenInstanceError, match=f"^cannot assign to field '{name}'$"):
            setattr(pod, name, 1)

        assert pod == Pod(name="api")

    def test_nothing_can_be_deleted(self) -> None:
        pod = Pod(name="api")

        with pytest.raises(FrozenInstanceError, match=r"^cannot delete field 'name'$"):
            del pod.name

        assert pod.name == "api"


class TestLikeADataclass:
    def test_it_shows_all_fields(self) -> None:
        assert repr(Pod(labels={}, name="api")) == "Pod(name='api', restarts=0, labels={})"
        assert repr(Pod(name="api")) == repr(Plain(name="api")).replace("Plain", "Pod")

    def test_equal_are_those_of_the_same_class_with_the_same_values(self) -> None:
        assert Pod(name="api") == Pod(name="api", labels={}, restarts=0)
        assert Pod(name="api") != Pod(name="api", restarts=1)
        assert Pod(name="api") != Other(name="api")

    def test_equal_ones_are_one_key(self) -> None:
        assert len({Key(name="a", number=1), Key(number=1, name="a"), Key(name="a", number=2)}) == 2

    def test_the_standard_library_takes_it_for_a_dataclass(self) -> None:
        pod = Pod(name="api", labels={"app": "api"})

        assert [one.name for one in fields(Pod)] == [one.name for one in fields(Plain)]
        assert replace(pod, restarts=1) == Pod(name="api", restarts=1, labels={"app": "api"})
        assert asdict(pod) == {"name": "api", "restarts": 0, "labels": {"app": "api"}}

    def test_copies_are_equal(self) -> None:
        pod = Pod(name="api", labels={"app": "api"})

        assert copy.deepcopy(pod) == pod
        assert pickle.loads(pickle.dumps(pod)) == pod  # noqa: S301 - made here
