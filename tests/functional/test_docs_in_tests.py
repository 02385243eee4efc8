"""The examples of docs/in-tests.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

PAGE = Path(__file__).parents[2] / "docs" / "in-tests.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: web}]}}}
"""
CLIENT = """
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: client, image: web}]}
"""


@pytest.mark.parametrize("workers", [None, 2])
def test_the_examples_of_the_page_work(project: Project, workers: int | None) -> None:
    source = "\n\n".join(BLOCK.findall(PAGE.read_text("utf-8")))
    project.service("web", image=True)
    project.write("web.yaml", (project.folder / "web.yaml").read_text().replace(
        "spec:\n  selector", "spec:\n  replicas: 1\n  selector", 1
    ))  # fmt: skip
    project.declare("[options]\ncapacity = 4")
    project.write("job.yaml", JOB)
    project.write("client.yaml", CLIENT)
    project.clusters.logs |= {"web": "GET /", "job": "done"}
    project.clusters.execs = lambda _pod, command, _stdin: (
        (0, "hello\n", "") if command == ["cat", "/www/index.html"] else (127, "", "?")
    )
    project.tests(source)

    run = project.run("-p", "anyio", workers=workers)

    assert run.outcomes == {"passed": source.count("def test_")}, run.text
