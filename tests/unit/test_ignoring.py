"""Ignore rules mean what they mean to BuildKit.

The tables were compared with what `docker buildx build` really sends.
"""

from __future__ import annotations

import pytest

from pytest_kindinfra.images.ignore import IgnoreRules


@pytest.mark.parametrize(
    ("rule", "ignored", "sent"),
    [
        pytest.param("src", "src src/a.go src/deep/c.go", "xsrc srcx docs/src", id="a folder"),
        pytest.param("src/", "src src/a.go", "", id="a slash at the end"),
        pytest.param("/src", "src", "docs/src", id="a slash at the start"),
        pytest.param("./src", "src", "docs/src", id="a dot"),
        pytest.param("src/../docs", "docs", "src", id="two dots"),
        pytest.param("  src  ", "src", "", id="blanks around it"),
        pytest.param("docs", "docs", "Docs", id="case counts"),
        pytest.param("*", "a a/b", "", id="everything at the top"),
        pytest.param("*.md", "x.md", "docs/x.md", id="a star stays within its folder"),
        pytest.param("*/x.md", "docs/x.md", "x.md a/b/x.md", id="one folder down"),
        pytest.param("s?c", "src", "sc s/c", id="one letter"),
        pytest.param("file[0-9]", "file1", "filex file10", id="a set"),
        pytest.param("file[^1]", "file2", "file1", id="a set turned round"),
        pytest.param(r"a\[b\]", "a[b]", "ab", id="quoted brackets"),
        pytest.param("x+y.z", "x+y.z", "xxy.z x+yaz", id="letters that mean something to others"),
        pytest.param("**", "a a/b/c", "", id="everything"),
        pytest.param("**/foo", "foo a/foo a/b/foo/c", "xfoo foox", id="at any depth"),
        pytest.param("**.pyc", "x.pyc a/x.pyc", "x.pyd", id="an ending at any depth"),
        pytest.param("src/**", "src/a src/a/b", "src", id="what is in a folder"),
        pytest.param("src/**/x", "src/x src/a/b/x", "x a/x", id="at any depth of a folder"),
        pytest.param("src**", "src srcx src/a", "xsrc", id="a start"),
        pytest.param("**/[ab].go", "a.go x/b.go", "c.go", id="a set at any depth"),
        pytest.param(r"\#odd", "#odd", "odd", id="a quoted number sign"),
        pytest.param("# src", "", "src #src", id="a comment"),
        pytest.param(" #src", "#src", "src", id="a blank before it makes it no comment"),
        pytest.param("", "", "src", id="nothing"),
        pytest.param(".", "", "src", id="the context itself"),
        pytest.param("[z-a]", "", "src z", id="a rule that BuildKit refuses"),
    ],
)
def test_a_rule_means_these_paths_and_not_those(rule: str, ignored: str, sent: str) -> None:
    rules = IgnoreRules([rule])

    assert [path for path in ignored.split() if not rules.ignore(path)] == []
    assert [path for path in sent.split() if rules.ignore(path)] == []


@pytest.mark.parametrize(
    ("rules", "ignored", "sent"),
    [
        pytest.param("* !src", "a", "src src/a/b", id="a folder excepted"),
        pytest.param("* !**/*.go", "src src/b.py", "a.go src/deep/c.go", id="at any depth"),
        pytest.param("src !src/a.go", "src src/b.go", "src/a.go", id="a file in a folder"),
        pytest.param("!src src", "src src/a", "", id="the last rule wins"),
        pytest.param("* !*.md readme*", "readme.md", "other.md", id="the last of three wins"),
        pytest.param("**/m !**/keep", "m m/i a/m/b/i", "m/keep a/m/keep", id="by its name"),
        pytest.param("* !src **/cache", "src/cache/x", "src/x", id="and ignored again"),
        pytest.param("src !/src/a", "src/b", "src/a", id="a slash after the mark"),
    ],
)
def test_an_exception_takes_back_what_came_before(rules: str, ignored: str, sent: str) -> None:
    found = IgnoreRules(rules.split())

    assert [path for path in ignored.split() if not found.ignore(path)] == []
    assert [path for path in sent.split() if found.ignore(path)] == []


@pytest.mark.parametrize(
    ("rules", "folder", "all_ignored"),
    [
        pytest.param("src", "src", True, id="no exception"),
        pytest.param("* !docs", "src", True, id="an exception elsewhere"),
        pytest.param("* !src2", "src", True, id="one with the same start"),
        pytest.param("* !src/a/b", "src", False, id="one below"),
        pytest.param("* !src/a/b", "src/a", False, id="one further below"),
        pytest.param("* !src/*", "src", False, id="all that is in it"),
        pytest.param("* !**/*.go", "src", False, id="one that may be anywhere"),
    ],
)
def test_an_ignored_folder_is_searched_only_if_an_exception_may_be_there(
    rules: str, folder: str, *, all_ignored: bool
) -> None:
    assert IgnoreRules(rules.split()).ignore_all_in(folder) is all_ignored
