"""A chart of what another chart rendered, for hooks that helm 3 shows to no post-renderer.

helm 4 pipes hooks through it too. For helm 3 the objects of a chart whose hooks run images of
this run are asked for (as of the cluster, so that `lookup` works), rewritten, and put into a
chart of the same name and version that says just that. It must not know services.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.charts import is_hook
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kubeyaml import load_documents
from pytest_kindinfra.podspecs import image_fields
from pytest_kindinfra.postrenderer import post_render, to_stream
from pytest_kindinfra.privatefiles import write_private
from pytest_kindinfra.references import stand_in
from pytest_kindinfra.rewriting import rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject, Release
    from pytest_kindinfra.postrenderer import Rules

_COPIED = ("apiVersion", "name", "version", "appVersion", "description", "type", "icon")


def hooks_need_us(release: Release, rules: Rules) -> bool:
    """Whether a hook would run another image, or pull one that is there, as the chart has it."""
    return any(_needs_us(obj, release, rules) for obj in release.objects if is_hook(obj))


def freeze(answer: str, described: str, *, rules: Rules, crds: str, into: Path) -> None:
    """Write a chart of what helm would install.

    Args:
        answer: What `helm upgrade --install --dry-run=server --output json` printed.
        described: The Chart.yaml of the chart itself.
        rules: What becomes of its objects.
        crds: Its CRDs, which helm installs first and as they are.
        into: The folder of the new chart; made.

    Raises:
        KindInfraError: The answer cannot be read.
    """
    about = next(iter(load_documents(described)))
    chart = {key: about[key] for key in _COPIED if key in about}
    objects = post_render(_documents(answer), rules)
    (into / "templates").mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(into / "Chart.yaml", json.dumps(chart))
    write_private(into / "templates" / "all.yaml", _escaped(to_stream(objects)))
    write_private(into.parent / "made.json", json.dumps(objects, default=str))
    if crds.strip():
        (into / "crds").mkdir(exist_ok=True, mode=0o700)
        write_private(into / "crds" / "all.yaml", crds)


def _needs_us(hook: KubeObject, release: Release, rules: Rules) -> bool:
    # These are the reference itself when helm renders them with this run's values.
    ours = {stand_in(name) for name in release.mentions}
    plain = rewrite(hook, images={}, namespace=None, labels={})
    with_us = rewrite(
        hook,
        images={one: ref for one, ref in rules.images.items() if one not in ours},
        pin=rules.pin,
        placeholders=rules.placeholders,
        namespace=None,
        labels={},
    )
    pulled = any(
        field.table.get(field.key) in ours and field.table.get(field.policy or "") == "Always"
        for field in image_fields(hook)
    )
    return pulled or with_us != plain


def _documents(answer: str) -> str:
    """Return manifest and hooks of a release as one stream."""
    try:
        release: dict[str, Any] = json.loads(answer)
        hooks: Sequence[dict[str, Any]] = release.get("hooks") or ()
        texts = [str(release.get("manifest", "")), *(str(hook["manifest"]) for hook in hooks)]
    except (ValueError, KeyError, AttributeError) as error:
        msg = f"helm's answer to --dry-run=server --output json cannot be read: {error!r}"
        raise KindInfraError(msg) from error
    return "\n---\n".join(texts)


def _escaped(stream: str) -> str:
    """Return JSON in which helm finds no template: two braces stand in strings only."""
    return stream.replace("{{", "\\u007b\\u007b")
