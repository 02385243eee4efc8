"""`kindinfra pull`: fetch what a run needs from elsewhere, for runs without a network."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.commands.images import prepare_services
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.content import bases_of, read_source
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.plan.repositories import remote_chart
from pytest_kindinfra.run.prepare import Door
from pytest_kindinfra.system.timeline import Deadline, now
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.run.prepare import Prepared


_NO_NODE_IMAGE = (
    "the node image is not named, so kind chooses one when it creates a cluster\n"
    'To fix: [cluster] node_image = "kindest/node:vX.Y.Z", or --kindinfra-node-image'
)


_IMAGES = "images"
_CHARTS = "charts"
"""Folders in that of `--save`."""


def pull(services: Sequence[str], *, save: Path | None, say: Callable[[str], None]) -> bool:
    """Pull images and charts that a run of these services needs and that are not here.

    Images are the node image, those that Dockerfiles start from, and other images of services.
    Charts of repositories go to the cache folder.

    Args:
        services: Their names; none means all that are declared.
        save: A folder that gets an archive of each image, and the charts; made if missing.
        say: Gets lines for the user as things come.

    Returns:
        Whether everything is there.

    Raises:
        DeclarationError: With all problems; a chart that cannot be pulled is one.
        EngineError: The engine does not answer.
        KindInfraError: The folder cannot be written.
    """
    prepared = prepare_services(
        declaration_folder(Path.cwd()),
        services or None,
        options={},
        door=Door(purpose="plan", run_id="RUN_ID"),
    )
    charts = list(_charts(prepared))
    for chart in charts:
        say(f"{chart.name}: in the cache folder")
    engine = make_tools(prepared.settings.engine).engine
    images = _Images(engine, prepared, say)
    well = images.pull()
    if not prepared.request.node_image and not _nodes_of(prepared):
        say(_NO_NODE_IMAGE)
    if save is not None and well:
        _save(images.references, charts, images=images, folder=save, say=say)
    return well


def _charts(prepared: Prepared) -> Iterator[Path]:
    """Yield the packed charts of repositories: rendering the plan has pulled them."""
    plan = prepared.plan
    for service in plan.services:
        if service.helm and remote_chart(service.helm):
            yield plan.releases[service.name].chart


def _nodes_of(prepared: Prepared) -> list[str]:
    """Return the node images that the kind config names."""
    nodes = (prepared.request.kind_config or {}).get("nodes") or ()
    return [str(node["image"]) for node in nodes if node.get("image")]


def _references(prepared: Prepared) -> dict[str, None]:
    """Return the images that come from registries, each once, in the order of their use."""
    plan, request = prepared.plan, prepared.request
    found = [request.node_image] if request.node_image else []
    found += _nodes_of(prepared)
    for image in plan.images:
        if image.prebuilt:
            found.append(image.prebuilt)
        elif not image.archive:
            names = {one.name: one.names for one in plan.images if one.name in image.needs}
            source = read_source(image, folder=request.folder)
            found += bases_of(image, source, names=names).external
    found += [one for external in plan.external.values() for one in external]
    return dict.fromkeys(found)


@dataclass(frozen=True, slots=True)
class _Images:
    """The images of registries that a plan needs."""

    engine: Engine
    prepared: Prepared
    say: Callable[[str], None]

    @property
    def references(self) -> list[str]:
        """Their references as written."""
        return list(_references(self.prepared))

    def deadline(self) -> Deadline:
        """Return the deadline of one pull that begins now."""
        seconds = self.prepared.settings.timeout
        return Deadline.after(seconds, option="--kindinfra-timeout")

    def pull(self) -> bool:
        """Pull those that the engine does not have, in parallel; return whether all are there."""
        self.engine.check(self.deadline())
        references = self.references
        there = self.engine.image_ids(references, self.deadline())
        for reference in there:
            self.say(f"{reference}: in the engine")
        missing = [one for one in references if one not in there]
        with ThreadPoolExecutor(max_workers=self.prepared.settings.build_jobs) as pool:
            return all(list(pool.map(self._pulled, missing)))

    def _pulled(self, reference: str) -> bool:
        began = now()
        try:
            self.engine.pull(reference, self.deadline())
        except KindInfraError as error:
            self.say(f"{reference}: not pulled\n{error}")
            return False
        self.say(f"{reference}: pulled in {now() - began:.1f} s")
        return True


def _save(
    references: Sequence[str],
    charts: Sequence[Path],
    *,
    images: _Images,
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Write all of it, and say how another machine takes it in."""
    try:
        (folder / _IMAGES).mkdir(parents=True, exist_ok=True)
        for reference in references:
            file = folder / _IMAGES / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', reference)}.tar"
            images.engine.save(reference, file, images.deadline())
            say(f"{reference}: saved in {file}")
        for chart in charts:
            kept = folder / _CHARTS / chart.parent.name / chart.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(chart, kept)
            say(f"{chart.name}: saved in {kept}")
    except OSError as error:
        msg = (
            f'"{error.filename or folder}" cannot be written: {error.strerror}\n'
            "To fix: give another folder with --save, or make this one writable"
        )
        raise KindInfraError(msg) from error
    say("on the other machine:")
    if references:
        program, files = images.engine.name, shlex.quote(str(folder / _IMAGES))
        say(f'  for file in {files}/*.tar; do {program} load --input "$file"; done')
    if charts:
        packed = shlex.quote(str(folder / _CHARTS))
        say(f"  mkdir -p {_cache()} && cp -R {packed} {_cache()}/")


def _cache() -> str:
    """Return the cache folder as a shell finds it on another machine."""
    return f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/pytest-kindinfra"
