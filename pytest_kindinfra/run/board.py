"""What the live board shows: a row for each image and service, and the critical path. Pure.

`session` and `commands` put it on a terminal; `system.screen` keeps it below what others write.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_kindinfra.run.messages import Progress, Work
from pytest_kindinfra.system.timeline import phase_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_kindinfra.model import Image, Plan, Service


State = Literal["waiting", "working", "failed", "ready"]


_CLUSTER = "cluster"


_CLUSTER_SECONDS = 25.0
"""What a cluster is taken to need, where services have no seconds of earlier runs either."""


_SECONDS = 5.0


_DOING = {
    "queue": "waiting for its turn to be created",
    "create": "creating",
    "enter": "entering",
    "take": "preparing for reuse",
    "delete": "deleting",
    "clear": "deleting what is owned",
    "run": "running its step",
    "deploy": "applying",
    "wait": "starting",
}
"""What a row says of a phase where the timeline's words are too long for it."""


_OF_IMAGES = frozenset({"build", "push", "export", "load"})


_NODES_READY = "waiting until nodes and DNS are ready"


class BoardRow(NamedTuple):
    """One row.

    Attributes:
        kind: `cluster`, `image` or `service`; `ready` or `waiting` for several in one row.
        name: Of what.
        state: What has become of it.
        text: What is being done, how far it has come, and what was printed last.
        seconds: For how long, None for what does not run.
        critical: It is on the path that decides when all is ready.
    """

    kind: str
    name: str
    state: State
    text: str = ""
    seconds: float | None = None
    critical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What there is to show.

    Attributes:
        plan: What is brought up.
        cluster: The cluster's name.
        since: When the run began, in seconds since the epoch.
        seconds: Phase (`build api`) to the seconds that it took in an earlier run.
        progress: How far everything has come.
        ended: What has run and has ended: `build api`, `load api`.
        ending: The run ends: nothing else comes up.
    """

    plan: Plan
    cluster: str
    since: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    ended: frozenset[str] = frozenset()
    ending: bool = False

    def after(self, progress: Progress) -> Scene:
        """Return the scene after that message."""
        before, still = (
            {f"{work.kind} {work.subject}" for work in one.running}
            for one in (self.progress, progress)
        )
        return replace(self, progress=progress, ended=self.ended | (before - still))

    @property
    def over(self) -> bool:
        """Whether nothing goes on and nothing will come."""
        names = [_CLUSTER, *(_key("service", one.name) for one in self.plan.services)]
        settled = all(name in self.progress.settled for name in names)
        return not self.progress.running and (settled or self.ending)

    @property
    def ready(self) -> tuple[int, int]:
        """How many services are ready, and how many there are."""
        settled = self.progress.settled
        names = [f"service {one.name}" for one in self.plan.services]
        return sum(settled.get(name, False) for name in names), len(names)


def rows_of(scene: Scene, *, at: float) -> list[BoardRow]:
    """Return a row for the cluster, each image and each service, in the plan's order.

    Args:
        scene: What there is to show.
        at: The time, in seconds since the epoch.
    """
    path = critical_names(scene, at=at)
    rows = [
        _cluster_row(scene, at),
        *(_image_row(scene, image, at) for image in scene.plan.images),
        *(_service_row(scene, service, at) for service in scene.plan.services),
        *_further_rows(scene, at),
    ]
    if scene.ending:
        rows = [row for row in rows if row.state == "working"]
    return [
        row._replace(critical=_key(row.kind, row.name if row.kind != _CLUSTER else "") in path)
        for row in rows
    ]


def fold(rows: Sequence[BoardRow], *, height: int) -> list[BoardRow]:
    """Return rows that fit in a height: first what is ready shares a row, then what waits.

    Args:
        rows: All rows.
        height: How many may be shown, at least 1.
    """
    shown = list(rows)
    for state in ("ready", "waiting"):
        if len(shown) > height:
            shown = _folded(shown, state)
    if len(shown) <= height:
        return shown
    kept = sorted(shown, key=lambda row: (row.state != "failed", not row.critical))[: height - 1]
    left = len(shown) - len(kept)
    return [*(row for row in shown if row in kept), BoardRow("more", f"{left} rows", "working")]


def _folded(rows: Sequence[BoardRow], state: str) -> list[BoardRow]:
    alike = [row for row in rows if row.state == state]
    if len(alike) <= 1:
        return list(rows)
    names = ", ".join(row.name for row in alike)
    others = [row for row in rows if row.state != state]
    return [*others, BoardRow(state, f"{len(alike)}", alike[0].state, names)]


def critical_names(scene: Scene, *, at: float) -> frozenset[str]:
    """Return what decides when all is ready: `cluster`, `image api`, `service api`.

    It is the longest chain of what is not ready yet, by the seconds of earlier runs; what is
    unknown counts as the mean of its kind.
    """
    settled = scene.progress.settled
    needs = _needs(scene)
    left = _left(scene, needs, at)
    best: dict[str, tuple[float, str]] = {}
    for name, before in needs.items():  # each stands after what it needs
        chains = [(best[one][0], one) for one in before if not settled.get(one) and one in best]
        seconds, previous = max(chains, default=(0.0, ""))
        if name not in settled:
            best[name] = (seconds + left[name], previous)
    if scene.ending or not best:
        return frozenset()
    path = [max(best, key=lambda name: best[name][0])]
    while previous := best[path[-1]][1]:
        path.append(previous)
    return frozenset(path)


def _needs(scene: Scene) -> dict[str, list[str]]:
    """Return what everything waits for."""
    images = {_key("image", one.name): _bases(one) for one in scene.plan.images}
    services = {_key("service", one.name): _needs_of(one) for one in scene.plan.services}
    return {_CLUSTER: [], **images, **services}


def _left(scene: Scene, needs: Mapping[str, object], at: float) -> dict[str, float]:
    """Return the seconds that everything still needs, as far as is known."""
    known = {name: _known(name, scene.seconds) for name in needs}
    spent = {_key_of(one): at - one.start for one in scene.progress.running}
    means = {
        kind: _mean(
            [seconds for name, seconds in known.items() if seconds and name.startswith(kind)]
        )
        for kind in ("image", "service")
    }
    means[_CLUSTER] = _CLUSTER_SECONDS
    return {
        name: max(0.1, (known[name] or means[name.partition(" ")[0]]) - spent.get(name, 0.0))
        for name in needs
    }


def _known(name: str, seconds: Mapping[str, float]) -> float:
    kind, _, subject = name.partition(" ")
    phases = ("build", "load") if kind == "image" else ("run", "deploy", "wait")
    return sum(seconds.get(f"{phase} {subject}", 0.0) for phase in phases)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else _SECONDS


def _cluster_row(scene: Scene, at: float) -> BoardRow:
    row = BoardRow(_CLUSTER, scene.cluster, _settled_as(scene, _CLUSTER) or "waiting")
    if work := _running(scene, _CLUSTER):
        return _at_work(row, work, at)
    return row._replace(text={"ready": "ready", "failed": "failed"}.get(row.state, "to come"))


def _image_row(scene: Scene, image: Image, at: float) -> BoardRow:
    key = _key("image", image.name)
    row = BoardRow("image", image.name, _settled_as(scene, key) or "waiting")
    if work := _running(scene, key):
        return _at_work(row, work, at)
    if row.state == "failed":
        return row._replace(text="failed")
    built = row.state == "ready" or f"build {image.name}" in scene.ended
    if built:
        text = "loaded" if f"load {image.name}" in scene.ended else "built"
        return row._replace(state="ready", text=text)
    return _blocked(row, _missing(scene, _bases(image))) or row._replace(text="waiting to be built")


def _service_row(scene: Scene, service: Service, at: float) -> BoardRow:
    key = _key("service", service.name)
    row = BoardRow("service", service.name, _settled_as(scene, key) or "waiting")
    if row.state != "waiting":
        return row._replace(text=row.state)
    if work := _running(scene, key):
        return _at_work(row, work, at)
    missing = [*_missing(scene, _needs_of(service)), *_on_their_way(scene, service)]
    return _blocked(row, missing) or row._replace(text="about to start")


def _on_their_way(scene: Scene, service: Service) -> list[str]:
    """Return the images of a service that are being loaded, with those that only manifests name."""
    loading = {one.subject for one in scene.progress.running if one.kind == "load"}
    external = scene.plan.external.get(service.name, ())
    return [_key("image", name) for name in (*service.images, *external) if name in loading]


def _further_rows(scene: Scene, at: float) -> list[BoardRow]:
    """Return rows of what runs and is not declared: loads of images that manifests name."""
    known = {_CLUSTER, *_names(scene.plan)}
    works = [one for one in scene.progress.running if _key_of(one) not in known]
    return [_at_work(BoardRow("image", one.subject, "working"), one, at) for one in works]


def _at_work(row: BoardRow, work: Work, at: float) -> BoardRow:
    doing = _DOING.get(work.kind) or phase_kind(work.kind).doing
    if (work.kind, row.kind) == ("wait", _CLUSTER):
        doing = _NODES_READY
    if work.kind == "wait":
        words = [doing, work.reached, _shown(work)]
    else:
        words = [f"{doing} {work.reached}".rstrip(), _shown(work)]
    text = ": ".join(filter(None, words))
    return row._replace(state="working", text=text, seconds=at - work.start)


def _shown(work: Work) -> str:
    """Return what was printed, as plain text, without the numbers that BuildKit puts before it."""
    said = "".join(letter for letter in work.says if letter.isprintable()).strip()
    if work.kind != "build" or not said.startswith("#"):
        return said
    _, _, rest = said.partition(" ")
    time, _, text = rest.partition(" ")
    return text if time.replace(".", "").isdigit() else rest


def _blocked(row: BoardRow, missing: Iterable[str]) -> BoardRow | None:
    """Return the row of what waits for others, None if all of them are there."""
    names = dict.fromkeys(f"the {name}" if name == _CLUSTER else name for name in missing)
    return row._replace(text=f"waiting for {', '.join(names)}") if names else None


def _missing(scene: Scene, needs: Iterable[str]) -> list[str]:
    return [name for name in needs if not scene.progress.settled.get(name)]


def _settled_as(scene: Scene, key: str) -> State | None:
    well = scene.progress.settled.get(key)
    return None if well is None else "ready" if well else "failed"


def _running(scene: Scene, key: str) -> Work | None:
    return next((one for one in scene.progress.running if _key_of(one) == key), None)


def _key_of(work: Work) -> str:
    """Return what a phase is about; the cluster's waits and those of services share a kind."""
    if work.subject == _CLUSTER and work.kind not in {*_OF_IMAGES, "deploy", "run"}:
        return _CLUSTER
    return _key("image" if work.kind in _OF_IMAGES else "service", work.subject)


def _key(kind: str, name: str) -> str:
    return f"{kind} {name}".strip()


def _names(plan: Plan) -> list[str]:
    images = [_key("image", one.name) for one in plan.images]
    return [*images, *(_key("service", one.name) for one in plan.services)]


def _bases(image: Image) -> list[str]:
    return [_key("image", name) for name in image.needs]


def _needs_of(service: Service) -> list[str]:
    cluster = [] if service.before == "nodes" else [_CLUSTER]
    needs = (_key("service", need.name) for need in service.needs)
    return [*cluster, *(_key("image", name) for name in service.images), *needs]
