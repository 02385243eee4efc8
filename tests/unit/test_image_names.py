"""An image's reference names what it holds; what it was built from only says whether to build."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.engines.common import content_digest
from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.engines.podman import Podman
from pytest_kindinfra.errors import CommandError
from pytest_kindinfra.images.build import BuildSetup, build_image
from pytest_kindinfra.images.names import find_by_context, give_names, is_context_name
from pytest_kindinfra.images.slots import BuildSlots
from pytest_kindinfra.model import BuiltImage, Image
from pytest_kindinfra.protocols.engine import BuildRequest, ImageContent
from pytest_kindinfra.system.runner import Completed
from pytest_kindinfra.system.timeline import Deadline, Timeline
from tests.fakes import FakeEngine, FakeRunner

if TYPE_CHECKING:
    from collections.abc import Callable

API = Image(name="api", dockerfile=Path("api.Dockerfile"), ignore=("out",))
WEB = Image(name="web", dockerfile=Path("web.Dockerfile"), ignore=("out",), needs=("api",))


def copied(request: BuildRequest) -> str:
    """Return what an image holds that copies one folder of a wide context, and starts from others.

    The folder has the image's name.
    """
    files = sorted((request.context / request.name).iterdir())
    return repr(([path.read_text() for path in files], sorted(request.contexts.values())))


@dataclass
class Repository:
    """A folder that is the context of several images, each of which copies a part of it."""

    folder: Path
    engine: FakeEngine = field(default_factory=lambda: FakeEngine(holds=copied))

    def build(self, image: Image, *bases: BuiltImage, anew: bool = False) -> BuiltImage:
        setup = BuildSetup(
            folder=self.folder,
            output=self.folder / "out" / "build",
            engine=self.engine,
            slots=BuildSlots(2),
            timeline=Timeline(),
            anew=anew,
        )
        return build_image(
            image, bases=bases, setup=setup, deadline=lambda seconds: Deadline.after(seconds or 20)
        )

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(text)

    @property
    def builds(self) -> list[str]:
        return [one.name for one in self.engine.builds]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path)
    for path in ("api/main.go", "web/main.go", "README.md"):
        made.write(path, path)
    made.write("api.Dockerfile", "FROM scratch\nCOPY api /\n")
    made.write("web.Dockerfile", "FROM api\nCOPY web /\n")
    return made


class TestAWideContext:
    def test_a_change_that_the_image_does_not_hold_changes_no_reference(
        self, repository: Repository
    ) -> None:
        first = repository.build(API)
        repository.write("README.md", "changed")

        again = repository.build(API)

        assert (again.reference, again.cached) == (first.reference, False)
        assert again.contexts != first.contexts
        assert repository.builds == ["api", "api"]

    def test_a_change_that_the_image_holds_makes_another_reference(
        self, repository: Repository
    ) -> None:
        first = repository.build(API)
        repository.write("api/main.go", "changed")

        assert repository.build(API).reference != first.reference

    def test_sources_that_were_built_before_are_not_built_again(
        self, repository: Repository
    ) -> None:
        """`git checkout -` and back: the image of each state is known."""
        first = repository.build(API)
        repository.write("README.md", "changed")
        repository.build(API)
        repository.write("README.md", "README.md")

        assert repository.build(API).cached
        assert repository.build(API).names == first.names
        assert repository.builds == ["api", "api"]

    def test_the_image_of_the_first_build_stays_the_one_that_is_named(
        self, repository: Repository
    ) -> None:
        """A later one has other times of creation: a registry would take it for another image."""
        first = repository.build(API)
        image = repository.engine.images[first.reference]
        repository.write("README.md", "changed")

        again = repository.build(API)

        assert {repository.engine.images[name] for name in again.names} == {image}

    def test_an_image_whose_base_was_built_again_with_the_same_content_is_not_built(
        self, repository: Repository
    ) -> None:
        """Its own context is not wide: it has nothing to do with the change."""
        web = Image(name="web", context=Path("web"), needs=("api",))
        repository.write("web/Dockerfile", "FROM api\n")
        repository.engine.holds = lambda request: request.name
        first = repository.build(web, repository.build(API))
        repository.write("README.md", "changed")
        base = repository.build(API)

        again = repository.build(web, base)

        assert repository.builds == ["api", "web", "api"]
        assert (again.reference, again.cached) == (first.reference, True)

    def test_an_image_whose_base_has_another_content_is_built(self, repository: Repository) -> None:
        first = repository.build(WEB, repository.build(API))
        repository.write("api/main.go", "changed")

        again = repository.build(WEB, repository.build(API))

        assert again.reference != first.reference
        assert repository.engine.builds[-1].contexts == {"api": repository.build(API).reference}

    def test_it_is_found_by_its_sources_alone_after_a_build_that_its_base_spared_it(
        self, repository: Repository, soon: Deadline
    ) -> None:
        """A run that builds nothing needs no base: that may be gone from the engine."""
        web = Image(name="web", context=Path("web"), needs=("api",))
        repository.write("web/Dockerfile", "FROM api\n")
        repository.engine.holds = lambda request: request.name
        repository.build(web, repository.build(API))
        repository.write("README.md", "changed")
        again = repository.build(web, repository.build(API))

        found = find_by_context(repository.engine, "web", [again.by_sources], soon)

        assert found == again.reference

    def test_a_build_without_cache_names_what_it_made(self, repository: Repository) -> None:
        first = repository.build(API)
        repository.engine.holds = lambda _: "newer packages"

        anew = repository.build(API, anew=True)

        assert anew.reference != first.reference
        assert repository.build(API).reference == anew.reference

    def test_the_same_content_under_two_declared_names_has_two_references(
        self, repository: Repository
    ) -> None:
        repository.engine.holds = lambda _: "the same"
        other = Image(name="other", dockerfile=API.dockerfile, ignore=API.ignore)

        assert repository.build(API).reference != repository.build(other).reference


class TestWhatOthersDidToTheNames:
    def test_the_name_of_the_content_is_given_again(
        self, repository: Repository, soon: Deadline
    ) -> None:
        built = repository.build(API)
        repository.engine.remove(built.reference, soon)

        assert repository.build(API).reference == built.reference
        assert built.reference in repository.engine.images
        assert repository.builds == ["api"]

    def test_without_the_name_of_its_sources_it_is_built_and_is_the_same(
        self, repository: Repository, soon: Deadline
    ) -> None:
        built = repository.build(API)
        repository.engine.remove(built.by_sources, soon)

        assert repository.build(API).reference == built.reference
        assert repository.builds == ["api", "api"]

    def test_without_any_name_it_is_built(self, repository: Repository, soon: Deadline) -> None:
        built = repository.build(API)
        for name in built.names:
            repository.engine.remove(name, soon)

        assert repository.build(API).reference == built.reference
        assert repository.builds == ["api", "api"]

    def test_a_name_that_somebody_gave_to_another_image_is_taken_back(
        self, repository: Repository, soon: Deadline
    ) -> None:
        """Else kind nodes would get the other one."""
        built = repository.build(API)
        image = repository.engine.images[built.reference]
        repository.engine.images["other:1"] = "sha256:other"
        repository.engine.tag("other:1", built.reference, soon)

        repository.build(API)

        assert repository.engine.images[built.reference] == image

    def test_an_image_that_a_build_did_not_leave_in_the_engine_is_an_error(
        self, soon: Deadline
    ) -> None:
        runner = FakeRunner(lambda argv: Completed("", "No such image: api:1", int("tag" in argv)))

        with pytest.raises(CommandError, match="No such image: api:1"):
            give_names(Docker(runner), "api", "api:1", ["localhost/api:ctx-1"], soon)


class TestAnArchive:
    def test_one_that_was_written_again_with_the_same_image_is_the_same(
        self, repository: Repository
    ) -> None:
        """Bazel and others write their archives anew in each build."""
        image = Image(name="api", archive=repository.folder / "api.tar")
        repository.engine.on_load = lambda archive: f"org/api:{archive.read_text()}"
        repository.engine.contents = dict.fromkeys(["sha256:org/api:1", "sha256:org/api:2"], "same")
        repository.write("api.tar", "1")
        first = repository.build(image)
        repository.write("api.tar", "2")

        again = repository.build(image)

        assert first.contexts != again.contexts
        assert len(repository.engine.loads) == 2
        assert again.reference == first.reference


class TestTheContent:
    LAYERS = ("sha256:a", "sha256:b")

    def inspected(self, **other: Any) -> dict[str, Any]:
        return {
            "Id": "sha256:1",
            "Created": "2026-11-28T20:51:10Z",
            "Os": "linux",
            "Architecture": "amd64",
            "RootFS": {"Type": "layers", "Layers": list(self.LAYERS)},
            "Config": {"Env": ["A=1"], "Cmd": ["sh"], "Labels": {"k": "v"}},
            **other,
        }

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"Id": "sha256:2"}, id="the id"),
            pytest.param({"Created": "2026-11-28T20:51:12Z"}, id="the time"),
            pytest.param({"RepoTags": ["x:1"], "Size": 5}, id="names and size"),
            pytest.param({"Variant": ""}, id="an empty variant"),
        ],
    )
    def test_what_a_repeated_build_changes_does_not_count(self, other: dict[str, Any]) -> None:
        assert content_digest(self.inspected(**other)) == content_digest(self.inspected())

    @pytest.mark.parametrize(
        "more",
        [
            {"Hostname": "", "Domainname": "", "AttachStdin": False, "Image": ""},
            {"Entrypoint": None, "OnBuild": None, "Volumes": {}},
            {"WorkingDir": "/"},
            {"ArgsEscaped": True},
        ],
        ids=["fields of older engines", "null and empty", "a default", "of Windows"],
    )
    def test_how_an_engine_prints_the_same_does_not_count(self, more: dict[str, Any]) -> None:
        item = self.inspected()

        printed = {**item, "Config": {**item["Config"], **more}}

        assert content_digest(printed) == content_digest(item)

    @pytest.mark.parametrize(
        "change",
        [
            lambda item: item["RootFS"]["Layers"].append("sha256:c"),
            lambda item: item["RootFS"]["Layers"].reverse(),
            lambda item: item["Config"]["Env"].append("B=2"),
            lambda item: item["Config"].update(Cmd=["bash"]),
            lambda item: item["Config"].update(WorkingDir="/srv"),
            lambda item: item["Config"]["Labels"].update(k="w"),
            lambda item: item.update(Architecture="arm64"),
        ],
    )
    def test_what_a_container_sees_counts(self, change: Callable[[dict[str, Any]], object]) -> None:
        item = self.inspected()
        change(item)

        assert content_digest(item) != content_digest(self.inspected())

    def test_an_image_without_layers_counts_by_its_id(self) -> None:
        empty = {"RootFS": {"Type": "layers"}}

        assert content_digest(self.inspected(**empty)) != content_digest(
            self.inspected(**empty, Id="sha256:2")
        )

    @pytest.mark.parametrize("engine", [Docker, Podman])
    def test_both_engines_print_what_is_needed(
        self, engine: Callable[[FakeRunner], Docker | Podman], soon: Deadline
    ) -> None:
        import json

        item = self.inspected(RepoTags=["localhost/api:1", "localhost/api:ctx-2"])
        runner = FakeRunner(lambda _: json.dumps([item]))

        found = engine(runner).image_contents(["localhost/api:1", "localhost/api:2"], soon)

        names = ("localhost/api:1", "localhost/api:ctx-2")
        expected = ImageContent(digest=content_digest(item), names=names)
        assert found == {"localhost/api:1": expected}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("localhost/api:ctx-0f0f0f0f0f0f0f0f", True),
        ("localhost/api:0f0f0f0f0f0f0f0f", False),
        ("localhost/ctx-api:latest", False),
    ],
)
def test_the_tag_of_a_context_name_says_that_it_is_one(reference: str, *, expected: bool) -> None:
    assert is_context_name(reference) is expected
