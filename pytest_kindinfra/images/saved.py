"""Images that are not built: looked for in the engine or a folder, and saved into one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.archive import load_image_file
from pytest_kindinfra.images.names import find_by_context, give_names
from pytest_kindinfra.images.tags import archive_reference, tag_image
from pytest_kindinfra.model import BuiltImage
from pytest_kindinfra.system.files import why_no_file, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kindinfra.images.digests import Digests
    from pytest_kindinfra.images.store import ImageStore
    from pytest_kindinfra.model import Image, Plan
    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.system.timeline import Deadline


MANIFEST = "manifest.json"


_FOR_ALL = 0o666
"""Another user may load what is saved here; the umask decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """One image.

    Attributes:
        reference: What it is called in its archive.
        context: Its name by the sources that it was built from.
        file: The archive's name in the folder; None for one that others start from only.
        bases: The images of registries that it was built from, to their ids.
    """

    reference: str
    context: str
    file: str | None
    bases: dict[str, str] = field(default_factory=dict)


def read_saved_images(folder: Path) -> dict[str, SavedImage]:
    """Return what a folder says that it has: declared name to image.

    Raises:
        KindInfraError: There is no such folder, or another program wrote it.
    """
    path = folder / MANIFEST
    try:
        images = json.loads(path.read_bytes())["images"]
        return {str(name): _image(one) for name, one in images.items()}
    except FileNotFoundError:
        problem = "no such file"
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        problem = f"not written by kindinfra build --save: {error!r}"
    msg = f"{path}: {problem}\nTo fix: kindinfra build --save={folder}"
    raise KindInfraError(msg)


def _write_saved_images(folder: Path, images: Mapping[str, SavedImage]) -> None:
    """Say what the folder has; written last, when all of it is there."""
    records = {name: asdict(one) for name, one in sorted(images.items())}
    text = json.dumps({"images": records}, indent=1) + "\n"
    write_whole(folder / MANIFEST, text, mode=_FOR_ALL)


def _image(record: Any) -> SavedImage:
    file = record["file"]
    if file is not None and file != Path(file).name:
        msg = f"{file!r} is no name of a file"
        raise ValueError(msg)
    bases = {str(name): str(one) for name, one in record["bases"].items()}
    reference, context = str(record["reference"]), str(record["context"])
    return SavedImage(reference=reference, context=context, file=file, bases=bases)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSources:
    """Where images that are not built may come from.

    Attributes:
        folder: Where relative paths start.
        engine: Its images are used as they are.
        digests: Digests of the files that images would be built from.
        saved: A folder of saved images with its manifest, name to image; None without one.
        names: Declared images to their further names.
        store: The registry of images, None without one.
    """

    folder: Path
    engine: Engine
    digests: Digests
    saved: tuple[Path, Mapping[str, SavedImage]] | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    store: ImageStore | None = None


def find_images(
    plan: Plan,
    sources: ImageSources,
    *,
    before: Callable[[Image], object],
    deadline: Callable[[], Deadline],
) -> dict[str, BuiltImage]:
    """Return the images that services of the plan run; the engine has them then.

    Args:
        plan: The images, each after its bases.
        sources: Where to look.
        before: Called with each image before its files are looked at.
        deadline: Makes the deadline of a piece of work that begins now.

    Raises:
        KindInfraError: Some are missing, or were made from other content; names all of them.
    """
    run = {name for service in plan.services for name in service.images}
    expected: dict[str, BuiltImage] = {}
    found: dict[str, BuiltImage] = {}
    problems: dict[str, str] = {}
    for image in plan.images:
        before(image)
        expected[image.name] = one = _expected(image, expected, sources, deadline())
        if image.name in run:
            there = _found(image, one, sources, deadline())
            if isinstance(there, BuiltImage):
                found[image.name] = there
            else:
                problems[image.name] = there
    if problems:
        raise KindInfraError(_message(problems, plan, sources))
    return found


def _expected(
    image: Image, bases: Mapping[str, BuiltImage], sources: ImageSources, deadline: Deadline
) -> BuiltImage:
    """Return what a build would start from, under the name by its sources."""
    if image.prebuilt:
        return BuiltImage(name=image.name, reference=image.prebuilt, cached=True)
    if image.archive:
        context = archive_reference(image, folder=sources.folder, digests=sources.digests)
        return _known_by(image, context)
    saved = sources.saved[1].get(image.name) if sources.saved else None

    def ids(references: Sequence[str]) -> Mapping[str, str]:
        return saved.bases if saved else sources.engine.image_ids(references, deadline)

    tagged = tag_image(
        image,
        named={name: bases[name].by_sources for name in image.needs},
        folder=sources.folder,
        ids=ids,
        names=sources.names,
        digests=sources.digests,
    )
    return replace(_known_by(image, tagged.reference), bases=tagged.bases)


def _known_by(image: Image, context: str) -> BuiltImage:
    return BuiltImage(name=image.name, reference=context, cached=True, contexts=(context,))


def _found(
    image: Image, expected: BuiltImage, sources: ImageSources, deadline: Deadline
) -> BuiltImage | str:
    """Return an image with the reference of its content, or why the engine has not got it."""
    engine, context = sources.engine, expected.by_sources
    if image.prebuilt:
        if engine.image_ids([context], deadline):
            return expected
        return f'the prebuilt "{context}" is not in the engine: {engine.name} pull {context}'
    reference = find_by_context(engine, image.name, [context], deadline)
    if reference is None and sources.store and (pushed := sources.store.find(image, [context])):
        return replace(expected, reference=pushed, pushed=pushed)
    if reference is None:
        built = context
        if image.archive:
            load_image_file(sources.folder / image.archive, context, engine, deadline)
        elif sources.saved is None:
            return f"{context} is not in the engine"
        elif problem := _load_saved(image.name, context, sources.saved, engine, deadline):
            return problem
        else:
            built = sources.saved[1][image.name].reference
        reference = give_names(engine, image.name, built, [context], deadline)
    return replace(expected, reference=reference)


def _load_saved(
    name: str,
    context: str,
    saved: tuple[Path, Mapping[str, SavedImage]],
    engine: Engine,
    deadline: Deadline,
) -> str | None:
    """Have an image of the folder in the engine; return why that is not possible."""
    folder, images = saved
    one = images.get(name)
    if one is None or one.file is None:
        return f"{folder} has no archive of it"
    if one.context != context:
        return f"{folder} has {one.context}, but the files here give {context}"
    if why := why_no_file(folder / one.file):
        return f"{folder / one.file}: {why}"
    loaded = engine.load(folder / one.file, deadline)
    if loaded == one.reference:
        return None
    return f"{folder / one.file} holds {loaded}, not {one.reference}"


def _message(problems: Mapping[str, str], plan: Plan, sources: ImageSources) -> str:
    """Return what is missing and the command that builds it."""
    count = "1 image is" if len(problems) == 1 else f"{len(problems)} images are"
    built = {image.name for image in plan.images if not (image.prebuilt or image.archive)}
    services = [one.name for one in plan.services if built & problems.keys() & set(one.images)]
    save = f" --save={sources.saved[0]}" if sources.saved else ""
    lines = [f"{count} missing, and this run does not build images (--kindinfra-no-build):"]
    lines += [f"  {name}: {problem}" for name, problem in problems.items()]
    if services:
        lines.append(f"To fix: kindinfra build{save} {' '.join(services)}")
    return "\n".join(lines)


def save_images(
    plan: Plan,
    built: Mapping[str, BuiltImage],
    *,
    into: Path,
    engine: Engine,
    deadline: Callable[[], Deadline],
) -> dict[str, SavedImage]:
    """Write an archive of each image that was built, and the manifest that names them.

    Those that only others start from get no archive: their layers are in those others.
    Prebuilt images and archives are left out; they come from elsewhere.

    Args:
        plan: What was built.
        built: Declared name to image.
        into: The folder; made if missing.
        engine: Who has the images.
        deadline: Makes the deadline of a piece of work that begins now.

    Raises:
        CommandError: One could not be written.
    """
    into.mkdir(parents=True, exist_ok=True)
    run = {name for service in plan.services for name in service.images}
    bases = {name for image in plan.images for name in image.needs}
    saved: dict[str, SavedImage] = {}
    for image in plan.images:
        if image.prebuilt or image.archive:
            continue
        one = built[image.name]
        file = f"{image.name}.tar" if image.name in run or image.name not in bases else None
        if file:
            engine.save(one.reference, into / file, deadline())
        saved[image.name] = SavedImage(
            reference=one.reference, context=one.by_sources, file=file, bases=one.bases
        )
    _write_saved_images(into, saved)
    return saved
