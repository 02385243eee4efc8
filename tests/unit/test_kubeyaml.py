"""YAML and JSON are read as kubectl reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.kube.yaml import as_json, load_documents
from pytest_kindinfra.system.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

ROCKET = "\U0001f680"


class TestJson:
    def test_an_escaped_emoji_is_one_character(self) -> None:
        assert list(load_documents(json.dumps({"text": ROCKET}))) == [{"text": ROCKET}]

    def test_documents_of_json_and_of_yaml_may_be_mixed(self) -> None:
        text = f"# first\n---\n{json.dumps({'a': ROCKET})}\n--- # next\nb: 2\n---\n---\n{{c: 3}}\n"

        assert list(load_documents(text)) == [{"a": ROCKET}, {"b": 2}, None, {"c": 3}]

    def test_json_values_may_follow_each_other_without_a_separator(self) -> None:
        assert list(load_documents('{"a": 1}\n{"b": 2}')) == [{"a": 1}, {"b": 2}]

    def test_what_yaml_cannot_take_is_no_hindrance(self) -> None:
        text = '\t{\t"' + "k" * 2000 + '":\t"\x7f"\t}\n'

        assert list(load_documents(text)) == [{"k" * 2000: "\x7f"}]

    def test_half_a_pair_becomes_the_replacement_character(self) -> None:
        assert list(load_documents('{"a": "\\ud83d"}')) == [{"a": "\ufffd"}]

    def test_a_mistake_behind_json_is_in_the_line_of_the_file(self) -> None:
        with pytest.raises(ValueError, match=r"^line 4: "):
            list(load_documents('{"a": 1}\n---\nb: 1\nc: @\n'))

    def test_a_flow_mapping_is_no_json(self) -> None:
        assert list(load_documents("{a: 1, b: [c, NaN]}")) == [{"a": 1, "b": ["c", "NaN"]}]


class TestKeys:
    @pytest.mark.parametrize(
        ("written", "key"),
        [
            ("9000", "9000"),
            ("on", "true"),
            ("false", "false"),
            ("1.5", "1.5"),
            ("1.0", "1"),
            ("0.123456789", "0.123456789"),
            (".inf", ".inf"),
            ("-.inf", "-.inf"),
            (".nan", ".nan"),
            ("2024-01-01", "2024-01-01"),
        ],
    )
    def test_a_key_of_any_type_is_a_string(self, written: str, key: str) -> None:
        assert list(load_documents(f"data:\n- {{{written}: x}}")) == [{"data": [{key: "x"}]}]

    def test_null_is_no_key(self) -> None:
        with pytest.raises(ValueError, match="key null is no string: write it in quotes"):
            list(load_documents("{~: x}"))

    def test_an_anchor_that_contains_itself_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="an anchor contains itself"):
            list(load_documents("a: &a\n  b: *a"))

    def test_what_an_anchor_made_one_is_converted_once(self) -> None:
        lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]

        (document,) = load_documents("\n".join(lines))

        assert document["a39"][0] is document["a39"][1]

    def test_binary_values_are_text(self) -> None:
        assert list(load_documents("a: !!binary aGk=")) == [{"a": "hi"}]

    def test_objects_of_python_steps_are_converted_too(self) -> None:
        assert as_json({"data": {9000: "a", True: "b"}}) == {"data": {"9000": "a", "true": "b"}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes("a: ä\r\nb: 2\r\n".encode(encoding))

    assert read_text(file) == "a: ä\nb: 2\n"


@pytest.mark.parametrize("order", ["le", "be"])
def test_both_byte_orders_are_read(tmp_path: Path, order: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes("\ufeffa: 1".encode(f"utf-16-{order}"))

    assert read_text(file) == "a: 1"


def test_a_mark_at_the_start_of_a_stream_is_no_part_of_it() -> None:
    assert list(load_documents("\ufeffa: 1")) == [{"a": 1}]
    assert list(load_documents('\ufeff{"a": 1}')) == [{"a": 1}]
