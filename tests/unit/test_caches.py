"""Build caches: what the keys may say, and exports that nothing depends on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.context import Hooks, Request, new_context
from pytest_kindinfra.errors import CancelledError, CommandError
from pytest_kindinfra.images.caches import CacheExports, cache_problems, cache_values
from pytest_kindinfra.model import Declaration, Image, Plan
from pytest_kindinfra.protocols.engine import BuildRequest
from pytest_kindinfra.system.timeline import Timeline
from tests.fakes import FakeEngine, fake_tools

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.state.directory import RunDirectory

HUB = "type=registry,ref=hub.example:5000/cache"


def problems(*, prepared: bool = False, **keys: Any) -> list[str]:
    return list(cache_problems(Image(name="api", **keys), prepared=prepared))


def test_values_are_those_of_buildx_and_a_reference_alone_is_a_registrys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    values = ("hub.example/cache", f"{HUB},mode=max", "type=local,dest=~/cache")

    assert cache_values(values) == (
        "type=registry,ref=hub.example/cache",
        f"{HUB},mode=max",
        "type=local,dest=/home/me/cache",
    )
    assert problems(cache_to=values, cache_from=values) == []


def test_a_variable_that_is_empty_leaves_a_cache_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHE", raising=False)
    assert cache_values(("${CACHE:-}",)) == ()

    monkeypatch.setenv("CACHE", "hub.example/cache")
    assert cache_values(("${CACHE:-}",)) == ("type=registry,ref=hub.example/cache",)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("cache_to", "ref=hub.example/c", "it has no type; write type=registry,ref=REFERENCE"),
        ("cache_from", "type=registry,mode=max", "type=registry needs ref=REFERENCE"),
        (
            "cache_to",
            "type=inline",
            (
                "such a cache is a part of the image and cannot be exported later; write "
                '"--cache-to=type=inline" in build_options'
            ),
        ),
        ("cache_to", "${NOT_SET_HERE}", 'variable "NOT_SET_HERE" is not set'),
    ],
)
def test_a_mistake_is_named_with_its_place(key: str, value: str, problem: str) -> None:
    keys: dict[str, Any] = {key: (value,)}

    assert problems(**keys) == [f'[images.api] {key} has "{value}": {problem}']


def test_a_hook_may_still_set_a_variable() -> None:
    assert problems(prepared=True, cache_to=("${NOT_SET_HERE}",)) == []


class Bench:
    """Exports of a run, and what it said."""

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        self.engine, self.timeline = FakeEngine(), Timeline()
        self.said: list[str] = []
        self.over = threading.Event()
        self.changed: list[str] = []
        self._folder = folder
        context = new_context(
            Plan(declaration=Declaration(folder=folder), services=(), images=(), objects={}),
            Request(
                cluster="c", run_id="1", namespace="default", build_jobs=1, timeout=20,
                kind_config=None, node_image=None, tuning=False, folder=folder,
            ),
            tools=fake_tools(engine=self.engine, timeline=self.timeline),
            run=run,
            hooks=Hooks(say=self.said.append),
            cancelled=threading.Event(),
        )  # fmt: skip
        self.exports = CacheExports(context)

    def add(self, name: str, *cache_to: str, options: tuple[str, ...] = ()) -> None:
        request = BuildRequest(
            name=name, reference=f"localhost/{name}:1", context=self._folder,
            dockerfile=self._folder / "Dockerfile", target=None, build_args={},
            unshown=frozenset(), contexts={}, options=options, cache_to=cache_to,
        )  # fmt: skip
        self.exports.add(request, lambda: self.changed)

    def run(self) -> None:
        self.exports.run(self.over)


@pytest.fixture
def bench(run: RunDirectory, tmp_path: Path) -> Bench:
    return Bench(run, tmp_path)


def test_an_image_without_a_cache_needs_no_export(bench: Bench) -> None:
    bench.add("api")

    assert not bench.exports.wanted


def test_caches_are_exported_with_every_step_from_the_builders_cache(bench: Bench) -> None:
    bench.add("api", HUB, options=("--no-cache", "--builder", "farm"))
    bench.add("web", HUB)

    assert bench.exports.wanted
    bench.run()

    first, second = bench.engine.builds
    assert (first.name, first.exports, first.cache_to) == ("api", True, (HUB,))
    assert first.options == ("--builder", "farm")
    assert second.name == "web"
    assert [one.name for one in bench.timeline.phases] == ["export api", "export web"]
    assert not bench.exports.wanted


def test_a_failure_is_said_and_the_next_is_exported(bench: Bench) -> None:
    def refuse(request: BuildRequest) -> None:
        if request.name == "api":
            raise CommandError(["docker"], exit_code=1, output="x\nERROR: 401 Unauthorized")

    bench.engine.on_build = refuse
    bench.add("api", HUB)
    bench.add("web", HUB)

    bench.run()

    (text,) = bench.said
    assert text.startswith('image "api": its build cache was not exported: a command failed')
    assert "To fix: `docker login hub.example:5000` as a user" in text
    api, web = bench.timeline.phases
    assert (api.ok, api.note) == (False, "build cache not exported: ERROR: 401 Unauthorized")
    assert web.ok


@pytest.mark.parametrize(
    ("output", "fix"),
    [
        (
            "ERROR: Cache export is not supported for the docker driver.",
            "name a builder that can export caches (--kindinfra-builder)",
        ),
        (
            (
                "ERROR: failed to solve: error writing manifest blob: failed commit on ref "
                '"sha256:ee": unexpected status from PUT request to '
                "http://hub.example:5000/v2/cache/manifests/latest: 400 Bad Request"
            ),
            "add image-manifest=true to cache_to in [images.api]",
        ),
    ],
)
def test_what_a_builder_or_a_registry_lacks_has_its_own_remedy(
    output: str, fix: str, bench: Bench
) -> None:
    def refuse(_: BuildRequest) -> None:
        raise CommandError(["docker"], exit_code=1, output=output)

    bench.engine.on_build = refuse
    bench.add("api", HUB)

    bench.run()

    assert f"To fix: {fix}" in bench.said[0]


def test_what_changed_since_the_build_is_not_exported(bench: Bench) -> None:
    bench.changed = ["main.go"]
    bench.add("api", HUB)

    bench.run()

    assert bench.engine.builds == []
    (text,) = bench.said
    assert text == (
        'image "api": its build cache was not exported: files of its context changed after the '
        'build: "main.go"'
    )


def test_the_end_of_the_run_ends_all_that_is_left(bench: Bench) -> None:
    def end(_: BuildRequest) -> None:
        msg = "the run is ending"
        raise CancelledError(msg)

    bench.engine.on_build = end
    bench.add("api", HUB)
    bench.add("web", HUB)

    bench.run()

    assert bench.said == ['build caches were not exported, since the run ended: "api", "web"']
