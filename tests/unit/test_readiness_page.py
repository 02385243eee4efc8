"""The page on readiness leaves out no kind and no cause, and names only tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_kindinfra.kube.readiness import KINDS_WITH_A_RULE
from pytest_kindinfra.kube.reasons import REASONS, reasons_seen
from tests.e2e.kube.test_causes_on_a_real_cluster import NAMES, broken_services
from tests.e2e.kube.test_readiness_on_a_real_cluster import KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "readiness.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`((?:unit|functional|e2e)/[\w/]+\.py)::(?:\w+::)?(\w+)`", PAGE)))
CASES = re.findall(r"^\| `([\w-]+)` \| (.+?) \|", PAGE.partition("## Causes")[2], re.MULTILINE)


def first_column(heading: str) -> list[str]:
    text = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    text = (ROOT / "tests" / file).read_text("utf-8")

    assert re.search(rf"^ *def {name}\b", text, re.MULTILINE), f"{file} has no {name}"


def test_every_kind_with_a_rule_is_on_the_page() -> None:
    assert {kind for _, kind in KINDS_WITH_A_RULE} | {"Service", "CronJob"} == set(
        first_column("Kinds")
    )


def test_every_kind_on_the_page_is_one_that_a_real_cluster_makes_ready() -> None:
    others = {"CustomResourceDefinition", "Service", "APIService"}  # these have tests of their own

    assert {kind.partition(" ")[0] for kind in KINDS} | others == set(first_column("Kinds"))


def test_every_broken_service_of_the_real_cluster_is_on_the_page_and_no_other() -> None:
    assert [case for case, _ in CASES] == NAMES


def test_a_case_is_on_the_page_with_the_reason_that_its_test_wants() -> None:
    wanted = {name: case.reason.split("|") for name, case in broken_services("").items()}

    assert [case for case, told in CASES if told.split("`")[1] not in wanted[case]] == []


def test_every_case_has_its_seconds() -> None:
    rows = PAGE.partition("## Causes")[2].partition("\n\n*")[0]

    assert len(re.findall(r"^\| `[\w-]+` \|.*\| \d+\.\d \|$", rows, re.MULTILINE)) == len(NAMES)


def test_every_reason_is_on_the_page() -> None:
    words = [word for word in REASONS if word not in reasons_seen("lost")]

    assert [word for word in words if f"`{word}`" not in PAGE] == []
