"""What helm pipes through our command comes out with this run's images, and unharmed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_kindinfra.deploy.postrenderer import Rules, post_render, to_stream
from pytest_kindinfra.kube.yaml import load_documents

if TYPE_CHECKING:
    from pathlib import Path

CRON = """
# Source: site/templates/cron.yaml
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, annotations: {postrenderer.helm.sh/postrender-filename: x.yaml}}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          initContainers: [{name: a, image: web, env: [{name: I, value: "${image:web}"}]}]
          containers: [{name: b, image: "redis:7", imagePullPolicy: Always}, {name: c, image: x:1}]
---
"""


def rules(tmp_path: Path, **given: Any) -> Rules:
    return Rules(made=str(tmp_path / "made.json"), **given)


def test_images_labels_and_hash_are_put_in_and_the_rest_stays(tmp_path: Path) -> None:
    reference = "localhost/web:1"
    beside = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-http-kindinfra"}}

    made = post_render(
        CRON,
        rules(
            tmp_path,
            images={"web": reference},
            pin=["redis:7"],
            placeholders={"web": reference},
            labels={"dev.kindinfra/service": "site"},
            content="abc",
            beside=[beside],
        ),
    )

    labels = {"dev.kindinfra/service": "site"}
    template = {
        "metadata": {"labels": labels, "annotations": {"kindinfra/content": "abc"}},
        "spec": {
            "initContainers": [
                {
                    "name": "a",
                    "image": reference,
                    "imagePullPolicy": "IfNotPresent",
                    "env": [{"name": "I", "value": reference}],
                }
            ],
            "containers": [
                {"name": "b", "image": "redis:7", "imagePullPolicy": "IfNotPresent"},
                {"name": "c", "image": "x:1"},
            ],
        },
    }
    annotations = {"postrenderer.helm.sh/postrender-filename": "x.yaml"}
    assert made == [
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly", "annotations": annotations, "labels": labels},
            "spec": {"jobTemplate": {"spec": {"template": template}}},
        },
        {**beside, "metadata": {"name": "web-http-kindinfra", "labels": labels}},
    ]


def test_pods_that_pull_from_a_private_registry_name_the_secret_for_it(tmp_path: Path) -> None:
    text = "{kind: Pod, metadata: {name: a}, spec: {containers: [{image: IMAGE}]}}\n---\n"
    pull = {"name": "kindinfra-pull-1", "registry": "hub.example/team"}

    made = post_render(
        text.replace("IMAGE", "web") + text.replace("IMAGE", "redis"),
        rules(tmp_path, images={"web": "hub.example/team/web@sha256:1"}, pull=pull),
    )

    assert [one["spec"].get("imagePullSecrets") for one in made] == [
        [{"name": "kindinfra-pull-1"}],
        None,
    ]


def test_a_list_is_taken_apart_and_what_is_no_object_is_left_to_helm(tmp_path: Path) -> None:
    text = "{kind: List, apiVersion: v1, items: [{kind: A, metadata: {name: a}}]}\n---\n[1]\n"

    made = post_render(text, rules(tmp_path))

    assert made == [{"kind": "A", "metadata": {"name": "a", "labels": {}}}, [1]]


@pytest.mark.parametrize(
    "text",
    ["1e3", "yes", "0o7", "007", "1.10", "~", "a\u2028b\u0085c\x7fd", "\U0001f600", "{{ x }}", "'"],
)
def test_a_string_is_the_same_string_for_every_reader(text: str) -> None:
    stream = to_stream([{"data": {"key": text}}])

    assert list(load_documents(stream)) == [{"data": {"key": text}}]
    assert list(yaml.safe_load_all(stream)) == [{"data": {"key": text}}]
    assert "\u2028" not in stream
    assert "\x7f" not in stream


def test_the_command_reads_rules_and_leaves_what_it_made(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(rules(tmp_path, images={"web": "localhost/web:1"}).to_json())
    text = "{kind: Pod, apiVersion: v1, metadata: {name: a}, spec: {containers: [{image: web}]}}"

    done = subprocess.run(
        [sys.executable, "-m", "pytest_kindinfra.deploy.postrenderer", str(file)],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip

    (made,) = load_documents(done.stdout)
    assert made["spec"]["containers"] == [
        {"image": "localhost/web:1", "imagePullPolicy": "IfNotPresent"}
    ]
    assert json.loads((tmp_path / "made.json").read_text()) == [made]
    assert (tmp_path / "made.json").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(rules(tmp_path).to_json())

    done = subprocess.run(
        [sys.executable, "-m", "pytest_kindinfra.deploy.postrenderer", str(file)],
        input="a: [1", capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == (
        "kindinfra: what helm rendered cannot be read: line 2: did not find expected ',' or ']'\n"
    )
