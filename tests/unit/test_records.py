"""What processes leave for each other: whole records, read only if every field is as written."""

from __future__ import annotations

import ast
import datetime as dt
import json
import math
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pytest_kindinfra
from pytest_kindinfra.errors import CommandError, StateError
from pytest_kindinfra.model import Endpoint, KubeObject
from pytest_kindinfra.state import clusterrecords, records
from pytest_kindinfra.state.clusterrecords import ClusterNamed, Deployed, Fingerprint
from pytest_kindinfra.state.codec import FORMAT, Note, Record, file_name, from_json, to_json
from pytest_kindinfra.state.records import ClusterReady, ImageFailed, ServiceReady
from pytest_kindinfra.state.results import Failed, Result, failure_of, result_of, value_of
from pytest_kindinfra.state.reused import reused_directory, why_unclear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.state.directory import RunDirectory

SOURCE = Path(pytest_kindinfra.__file__).parent
R = TypeVar("R", bound=Record)


def all_of(kind: type[R]) -> list[type[R]]:
    found = {**vars(records), **vars(clusterrecords)}.values()
    return [one for one in found if isinstance(one, type) and issubclass(one, kind)
            and "FILE" in vars(one)]  # fmt: skip


NOTES: list[type[Note]] = all_of(Note)
RESULTS: list[type[Result]] = [one for one in all_of(Result) if not issubclass(one, Failed)]
FAILURES: list[type[Result]] = [one for one in all_of(Result) if issubclass(one, Failed)]
EVERY: list[type[Record]] = all_of(Record)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=5,
)
st.register_type_strategy(float, st.floats(allow_nan=False))
st.register_type_strategy(Path, st.from_regex(r"[a-z/.]+", fullmatch=True).map(Path))


def made(kind: type[R]) -> st.SearchStrategy[R]:
    """Return records of a class whose fields hold whatever their types allow."""
    hints = get_type_hints(kind)
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    values = {name: _of_type(hints[name]) for name in names}
    return st.fixed_dictionaries(values).map(lambda given: kind(**given))


def _of_type(hint: Any) -> st.SearchStrategy[Any]:
    if hint is Any:
        return json_values
    if hint == KubeObject:
        return st.dictionaries(st.text(), json_values)
    if hint == tuple[KubeObject, ...]:
        return st.lists(st.dictionaries(st.text(), json_values)).map(tuple)
    return st.from_type(hint)


def through_a_file(value: Any) -> Any:
    return json.loads(json.dumps(value))


class TestWhatIsWrittenIsRead:
    @pytest.mark.parametrize("kind", NOTES, ids=lambda kind: kind.__name__)
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_of_each_note(self, kind: type[Note], data: st.DataObject) -> None:
        note = data.draw(made(kind))

        assert from_json(kind, through_a_file(to_json(note))) == note

    @pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_of_each_result(self, kind: type[Result], data: st.DataObject) -> None:
        result = data.draw(made(kind))

        value = through_a_file(value_of(result))

        assert value["state"] == "ready"
        assert result_of(kind, value) == result

    @pytest.mark.parametrize("kind", [*RESULTS, *FAILURES], ids=lambda kind: kind.__name__)
    def test_of_a_failure_in_place_of_each_result(self, kind: type[Result]) -> None:
        failure = failure_of(CommandError(["docker"], exit_code=1, output="no"), subject="it")

        value = through_a_file(value_of(failure))

        assert value["state"] == "failed"
        assert result_of(kind, value) == failure

    def test_of_what_a_step_returned_that_json_does_not_know(self) -> None:
        """YAML has dates, which become texts."""
        day = dt.date(2026, 11, 28)
        returned: dict[Any, Any] = {"kind": "Job", "day": day, 1: "one"}
        deployed = Deployed(returned=(returned,))

        again = from_json(Deployed, through_a_file(to_json(deployed)))

        assert again.returned == ({"kind": "Job", "day": "2026-11-28", "1": "one"},)

    def test_there_are_records_at_all(self) -> None:
        assert (len(NOTES), len(RESULTS), len(FAILURES)) == (25, 3, 2)
        assert len(EVERY) == len({kind.FILE for kind in EVERY}) == 30


MADE = to_json(Fingerprint(config="c", node_image="n", tuning="", ports={"a.b": 1}, spare=(2,)))
DEPLOYED = to_json(
    Deployed(endpoints=(Endpoint(service="a", name="b", scheme="tcp", host="h", port=1),))
)


class TestWhatIsNotAsWritten:
    @pytest.mark.parametrize(
        ("kind", "value", "why"),
        [
            (Fingerprint, [], "the record must be dict, not []"),
            (Fingerprint, {**MADE, "more": 1}, "the record has unknown fields: more"),
            (Fingerprint, {"config": "c", "spare": []},
             "the record lacks fields: node_image, tuning, ports"),
            (Fingerprint, {**MADE, "config": 3}, "config must be str, not 3"),
            (Fingerprint, {**MADE, "spare": "2"}, "spare must be list, not '2'"),
            (Fingerprint, {**MADE, "spare": [2, "3"]}, "spare[] must be int, not '3'"),
            (Fingerprint, {**MADE, "spare": [True]}, "spare[] must be int, not True"),
            (Fingerprint, {**MADE, "ports": {"a.b": None}}, "ports['a.b'] must be int, not None"),
            (Deployed, {"ready": 1}, "ready must be bool, not 1"),
            (Deployed, {"release": "web"}, "release must be dict, not 'web'"),
            (Deployed, {"endpoints": [{"service": "a"}]},
             "endpoints[] lacks fields: name, scheme, host, port"),
            (records.ProbedPods, {"namespace": "n", "labels": {}, "port": 1.5},
             "port must be int or str, not 1.5"),
            (records.PlanMade, {"services": [], "engine": "rkt"},
             "engine must be one of auto, docker, podman, not 'rkt'"),
        ],
    )  # fmt: skip
    def test_is_refused_with_the_field(self, kind: type[Any], value: Any, why: str) -> None:
        with pytest.raises(ValueError, match=re.escape(why)):
            from_json(kind, value)

    @pytest.mark.parametrize("value", [None, 3, [], {}, {"state": "lost"}, {"name": "k"}])
    def test_is_no_result(self, value: Any) -> None:
        with pytest.raises(ValueError, match="it is neither running nor ready nor failed"):
            result_of(ClusterReady, value)

    def test_may_lack_what_has_a_default(self) -> None:
        assert from_json(Deployed, {}) == Deployed()

    def test_a_whole_number_may_stand_for_seconds(self) -> None:
        assert from_json(float, 3) == pytest.approx(3.0)
        assert math.isclose(from_json(float, 0.5), 0.5)

    def test_is_named_with_its_file(self, run: RunDirectory) -> None:
        run.write(ClusterNamed(name="k"))
        file = run.file(ClusterNamed)
        file.write_text(json.dumps({"format": FORMAT, "value": {"nom": "k"}}))

        with pytest.raises(StateError) as caught:
            run.read(ClusterNamed)

        assert str(caught.value) == (
            f'the state file "{file}" is not what this version of pytest-kindinfra writes: '
            "the record has unknown fields: nom"
        )


def test_a_failure_says_nothing_that_is_secret() -> None:
    error = CommandError(["docker", "login"], exit_code=1, output="bad hunter22")

    failure = failure_of(
        error, subject="it", redact=lambda text: text.replace("hunter22", "***"), kind=ImageFailed
    )

    assert isinstance(failure, ImageFailed)
    assert "***" in failure.short
    assert "***" in failure.full
    assert "hunter22" not in json.dumps(value_of(failure))


def test_the_directory_of_an_earlier_version_is_unclear_and_says_why(tmp_path: Path) -> None:
    directory = reused_directory(tmp_path, "shop")
    directory.write(ClusterNamed(name="shop"))
    directory.lock.touch()
    file = directory.file(ClusterNamed)
    file.write_text('{"format": 1, "value": {"name": "shop"}}')

    assert why_unclear(directory, "shop") == (
        f'the state file "{file}" has format 1, this version of pytest-kindinfra reads {FORMAT}'
    )


# -- one door: nobody else spells a file's name, or reads a result by string -------------------


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text())


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the string literals of a module but docstrings; of an f-string its beginning."""
    said = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            first = node.values[0] if node.values else None
            if isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
        ):
            yield node.lineno, node.value


def test_the_name_of_a_state_file_is_spelled_in_one_place() -> None:
    """Names that are words of English, such as `plan`, are only looked for beside a suffix."""
    names = {kind.FILE for kind in EVERY}
    rare = {name for name in names if "-" in name}
    files = {f"{name}.json" for name in names - {"made"}}  # helm/SERVICE/made.json is another one

    spelled = [
        f"{module}:{line}: {text}"
        for module, tree in modules()
        if module not in {"state/records.py", "state/clusterrecords.py"}
        for line, text in texts(tree)
        if text in rare | files or (text.endswith("-") and text in names)
    ]

    assert spelled == []


def test_the_folder_of_state_files_is_entered_in_one_module() -> None:
    entered = [
        f"{module}:{node.lineno}"
        for module, tree in modules()
        if module != "state/directory.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and isinstance(node.right, ast.Constant)
        and node.right.value == "state"
    ]

    assert entered == []


METHODS = {"begin", "settle", "fail", "settled", "is_settled", "wait_for", "look", "check_alive",
           "read_all", "settled_all", "names", "lock_of"}  # fmt: skip


def test_a_record_is_asked_for_by_its_class() -> None:
    by_name = [
        f"{module}:{node.lineno}"
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in METHODS
        and node.args
        and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
    ]

    assert by_name == []


KEYS = {one.name for one in fields(Failed)}


def test_no_module_reads_a_result_by_string() -> None:
    read = [
        f"{module}:{node.lineno}: {node.slice.value}"
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and node.slice.value in KEYS
    ]

    assert read == []


def test_a_name_follows_the_name_of_its_kind() -> None:
    assert file_name(ServiceReady, "web") == "service-web"
    assert file_name(ClusterReady) == "cluster"
