"""The YAML of the recipes for CI is what GitHub and GitLab accept, by their published schemas.

check-jsonschema has the schemas: SchemaStore's of GitHub's workflows, and GitLab's own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

ROOT = Path(__file__).parents[2]
GITHUB, GITLAB = "vendor.github-workflows", "vendor.gitlab-ci"
SCHEMAS = {"docs/ci/github.md": GITHUB, "docs/ci/gitlab.md": GITLAB}

_YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_JOB = "on: push\njobs:\n  e2e:\n    runs-on: ubuntu-24.04\n    steps:\n"
_STEP = "      - run: pytest\n"


def whole(text: str) -> str:
    """Return a piece of a workflow as a whole one: some recipes are steps, or one key of a job."""
    text = dedent(text)
    if text.startswith("- "):
        return _JOB + indent(text, "      ")
    if text.startswith("jobs:"):
        key = text.partition("e2e:\n")[2]
        return _JOB.replace("    steps:\n", key + "    steps:\n") + _STEP
    return text


def recipes() -> list[tuple[str, str]]:
    """Return each recipe with the name of the schema that it must fit."""
    return [
        (schema, whole(text) if schema == GITHUB else text)
        for page, schema in SCHEMAS.items()
        for text in _YAML.findall((ROOT / page).read_text("utf-8"))
    ]


def check(files: list[Path], schema: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    argv += map(str, files)
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize("schema", [GITHUB, GITLAB])
def test_each_recipe_fits_the_published_schema(schema: str, tmp_path: Path) -> None:
    files = []
    for number, text in enumerate(text for kind, text in recipes() if kind == schema):
        files.append(tmp_path / f"{number}.yml")
        files[-1].write_text(text)

    done = check(files, schema)

    assert len(files) > 3
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (GITHUB, _JOB.replace("runs-on", "runs_on") + _STEP),
        (GITHUB, _JOB + "      - runs: pytest\n"),
        (GITLAB, "e2e:\n  script: pytest\n  artefacts: {paths: [x]}\n  cache: 3\n"),
    ],
)
def test_a_wrong_one_is_noticed(schema: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yml"
    file.write_text(text)

    assert check([file], schema).returncode == 1
