"""The end of a run: keep evidence, call hooks, delete the cluster, write the report."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.kubeconfigs import option_words
from pytest_kindinfra.clusters.sweep import tear_down
from pytest_kindinfra.errors import CancelledError, KindInfraError, StateError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.run.ci import folded
from pytest_kindinfra.run.page import write_timeline
from pytest_kindinfra.run.report import (
    Outcome,
    build_line,
    failure_lines,
    kept_lines,
    outdated_line,
    reused_lines,
    run_report,
    trace,
)
from pytest_kindinfra.run.surroundings import machine, versions
from pytest_kindinfra.run.table import needs_of, table_lines
from pytest_kindinfra.state.clusterrecords import ClusterKept, ClusterNamed, SnapshotUsed
from pytest_kindinfra.state.codec import file_name, to_json
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.records import (
    CacheUsed,
    ClusterReady,
    GitState,
    ImageFailed,
    ImageReady,
    NodeLost,
    ServiceReady,
)
from pytest_kindinfra.state.results import Failed, Result, failure_of
from pytest_kindinfra.state.rotation import rotate
from pytest_kindinfra.system.files import append_private, is_there, size_of, write_private
from pytest_kindinfra.system.timeline import Deadline, call_within, now

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Plan
    from pytest_kindinfra.protocols.cluster import Provider
    from pytest_kindinfra.run.prepare import Prepared
    from pytest_kindinfra.system.interrupts import Haste
    from pytest_kindinfra.system.secrets import Redactor


_LOG_BYTES = 1 << 20


def keep_evidence(
    cluster: str,
    *,
    folder: Path,
    provider: Provider,
    namespaces: Sequence[str],
    redactor: Redactor,
    deadline: Deadline,
) -> None:
    """Write `events.txt`, `pods/` and `kind/` into `folder`, for its owner to read only.

    Args:
        cluster: The cluster's name.
        folder: The run directory, with the kubeconfig.
        provider: Who exports the kind nodes' logs.
        namespaces: Whose pods and events are kept.
        redactor: Knows what is not kept.
        deadline: When to give up.
    """
    if not provider.exists(cluster, deadline):
        return
    kubeconfig = RunDirectory(folder).kubeconfig
    if size_of(kubeconfig):
        call_within(
            partial(_keep_namespaces, kubeconfig, namespaces, folder, redactor),
            deadline,
            what="the API server",
        )
    _keep_logs(cluster, folder / "kind", provider, redactor, deadline)


def _keep_namespaces(
    kubeconfig: Path, namespaces: Sequence[str], folder: Path, redactor: Redactor
) -> None:
    """Keep what the API server says; given up in the middle, each file is whole or not there."""
    from pytest_kindinfra.kube.cluster import Kube

    kube = Kube(kubeconfig)
    try:
        for namespace in namespaces:
            with suppress(KindInfraError):
                _keep_namespace(kube, namespace, folder, redactor)
    finally:
        kube.close()


def _keep_logs(
    cluster: str, folder: Path, provider: Provider, redactor: Redactor, deadline: Deadline
) -> None:
    """Export the kind nodes' logs; a file with a secret is written again without it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        provider.export_logs(cluster, folder, deadline)
    finally:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found = path.read_bytes()
                if (shown := redactor.data(found)) != found:
                    path.write_bytes(shown)


def _keep_namespace(kube: Kube, namespace: str, folder: Path, redactor: Redactor) -> None:
    lines = [f"{namespace} {_event_line(event)}\n" for event in kube.events(namespace)]
    append_private(folder / "events.txt", redactor.text("".join(lines)))
    pods = folder / "pods"
    pods.mkdir(mode=0o700, exist_ok=True)
    for pod in kube.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]:
        _keep_pod(kube, pod, pods, redactor)


def _keep_pod(kube: Kube, pod: dict[str, Any], folder: Path, redactor: Redactor) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    pod["metadata"].pop("managedFields", None)
    text = json.dumps(redactor.record(pod), indent=1)
    write_private(folder / f"{namespace}.{name}.json", text)
    containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    for container in containers:
        for previous in (False, True):
            with suppress(KindInfraError):
                text = kube.pod_logs(
                    namespace,
                    name,
                    container["name"],
                    previous=previous,
                    lines=5000,
                    limit_bytes=_LOG_BYTES,
                )
                ending = ".previous.log" if previous else ".log"
                path = folder / f"{namespace}.{name}.{container['name']}{ending}"
                write_private(path, redactor.text(text))


def _event_line(event: dict[str, Any]) -> str:
    about = event.get("involvedObject", {})
    when = event.get("lastTimestamp") or event.get("eventTime") or ""
    what = f"{about.get('kind', '')}/{about.get('name', '')}:"
    words = (when, event.get("type"), event.get("reason"), what, event.get("message"))
    return " ".join(str(word) for word in words if word)


_DELETE_SECONDS = 120.0


EVIDENCE_SECONDS = 60.0
"""For what is kept of a failed run, and for each hook of its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A bring-up under way."""

    prepared: Prepared
    tools: Tools


def settle_rest(plan: Plan, run: RunDirectory, *, error: BaseException, redactor: Redactor) -> None:
    """Settle the cluster and each service that has no result yet as failed with `error`."""
    services = [(ServiceReady, one.name, f'service "{one.name}"') for one in plan.services]
    for kind, name, subject in ((ClusterReady, "", "the cluster"), *services):
        failure = failure_of(error, subject=subject, redact=redactor.text)
        with suppress(OSError, StateError):  # settled, or the disk is full: the lock says it
            run.fail(kind, failure, name)


def end(
    started: Started,
    run: RunDirectory,
    *,
    hook: Any,
    write: Callable[[str], None],
    failed: bool,
    interrupted: bool,
    interrupts: Haste,
    evidence: float = EVIDENCE_SECONDS,
) -> Outcome:
    """Keep evidence of a failure, delete the cluster unless it is to be kept, and report.

    Args:
        started: What was started.
        run: The run directory.
        hook: Calls `pytest_kindinfra_*` by keyword.
        write: Shows a line.
        failed: A test failed.
        interrupted: The run was ended before its end.
        interrupts: Who is impatient: the next one cuts the evidence short, or a hook.
        evidence: Seconds for the evidence, and for the hooks after it.
    """
    careful_write = partial(_write_safely, lambda line: write(started.tools.redactor.text(line)))
    careful = partial(_careful, careful_write)
    failures = read_failures(run)
    real = [one for one in failures.values() if not one.cancelled]
    skipped = bool(real) and _is_skipped(started, real)
    failed = failed or (bool(real) and not skipped)
    keep, cluster = started.prepared.settings.keep, started.prepared.request.cluster
    kept = keep == "always" or (keep == "on-failure" and failed)
    made = started.tools.own.begun
    if made:
        careful("the run directory", lambda: _restore(run, careful_write))
    cut = interrupts.next()
    if made and (failed or interrupted) and not interrupts.hurried:
        careful("evidence", lambda: _keep_evidence(started, run, hook, evidence, cut))
    cut = interrupts.next()
    if made:
        careful("before teardown", lambda: _call_before_teardown(run, hook, evidence, cut))
    stays = made and (kept or _is_for_reuse(started))
    if stays:
        careful("keeping", lambda: run.write(ClusterKept(cluster=cluster)))
    elif made:
        # One that could not be deleted is no kept one: the next run tries again.
        stays = not careful("teardown", lambda: _delete(started, run))
    careful("closing", started.tools.closing.close)
    passed = "skipped" if skipped else "passed"
    interrupted = interrupted or interrupts.hurried
    state = "failed" if failed else "interrupted" if interrupted else passed
    outcome = Outcome(state=state, kept=stays, failures=failures)
    careful("the report", lambda: _report(started, run, outcome))
    return outcome


def _is_skipped(started: Started, failures: Sequence[Failed]) -> bool:
    """Whether tests were skipped for all of these failures, as `--kindinfra-missing` wants."""
    missing = all(one.missing for one in failures)
    return missing and started.prepared.settings.missing == "skip"


def read_failures(run: RunDirectory) -> dict[str, Failed]:
    """Return the failed results: `cluster`, or a service's or image's name, to its record.

    An image is among them only if no service names it as the cause already.
    """
    results: list[tuple[type[Result], str, str]] = [
        (NodeLost, "", "cluster"),
        (ClusterReady, "", "cluster"),
        *((ServiceReady, name, name) for name in run.names(ServiceReady)),
    ]
    failures: dict[str, Failed] = {}
    for kind, name, shown in results:
        if failure := _failure(run, kind, name):
            failures.setdefault(shown, failure)
    roots = {failure.root for failure in failures.values()}
    for name in run.names(ImageFailed):
        if (failure := _failure(run, ImageFailed, name)) and failure.root not in roots:
            failures.setdefault(f"image {name}", failure)
    return failures


def _failure(run: RunDirectory, kind: type[Result], name: str) -> Failed | None:
    """Return a failed result; one that cannot be believed counts as a failure too."""
    try:
        result = run.settled(kind, name)
    except StateError as error:
        return failure_of(error, subject=file_name(kind, name))
    return result if isinstance(result, Failed) else None


def closing_lines(
    started: Started, run: RunDirectory, outcome: Outcome, *, width: int, color: bool
) -> list[str]:
    """Return the closing table, the failures in full, and what was kept."""
    phases, images = started.tools.timeline.phases, run.read_all(ImageReady)
    plan, request = started.prepared.plan, started.prepared.request
    cached = [name for name, ready in images.items() if ready.image.cached]
    lines = table_lines(phases, cached=cached, width=width, color=color, needs=needs_of(plan))
    lines[:-1] = folded("kindinfra: all phases", lines[:-1], environ=os.environ, at=now())
    builds = build_line(phases, cached=len(cached), images=plan.images, jobs=request.build_jobs)
    notes = (builds, outdated_line(phases))
    lines += [text for note in filter(None, notes) for text in ("", note)]
    lines += failure_lines(outcome.failures)
    if outcome.kept and (reused := _reused_dir(started)) and _is_for_reuse(started):
        what = "services in" if request.existing else "cluster"
        name, end = f"{what} {request.cluster}", _down(started)
        lines += reused_lines(name, kubeconfig=reused.kubeconfig, end=end)
    elif outcome.kept:
        delete = started.tools.provider.delete_command(request.cluster)
        what = f"what is of run {run.path.name} in cluster" if request.existing else "cluster"
        lines += kept_lines(f"{what} {request.cluster}", kubeconfig=run.kubeconfig, delete=delete)
    return [*map(started.tools.redactor.text, lines), f"logs and details: {run.path}"]


def _is_for_reuse(started: Started) -> bool:
    """Whether the run's cluster is there for the next one; one that is unclear stays as well."""
    if (reused := _reused_dir(started)) is None:
        return False
    try:
        return reused.read(ClusterKept) is not None
    except StateError:
        return True


def _reused_dir(started: Started) -> RunDirectory | None:
    """Return the reused directory of the run's cluster if that outlives the run."""
    path = started.tools.own.reused_dir
    return RunDirectory(path) if path else None


def _restore(run: RunDirectory, write: Callable[[str], None]) -> None:
    """Make a run directory again that was removed during the run, for its owner only; say so."""
    if is_there(run.file(ClusterNamed)):
        return
    write(
        f"kindinfra: the run directory {run.path} was removed while the run went on, and with it "
        "its results and logs\nTo fix: keep git clean and the like away from it, or "
        "--kindinfra-artifacts=DIR"
    )
    run.make()


def _down(started: Started) -> list[str]:
    """Return the command that ends the cluster."""
    return ["kindinfra", "down", *option_words(started.prepared.settings)]


def _write_safely(write: Callable[[str], None], line: str) -> None:
    """Write a line if possible: a terminal that is gone must not end the work."""
    with suppress(Exception):
        write(line)


def _careful(write: Callable[[str], None], what: str, step: Callable[[], object]) -> bool:
    """Do a step whose failure must not stop the next; say so, and return whether it went well."""
    try:
        step()
    except CancelledError:
        write(f"kindinfra: {what}: cut short by an interrupt")
        return False
    except Exception as error:  # noqa: BLE001 - whatever it is, the rest must still happen
        known = isinstance(error, KindInfraError)
        write(f"kindinfra: {what} failed: {error if known else repr(error)}")
        return False
    return True


def _keep_evidence(
    started: Started, run: RunDirectory, hook: Any, seconds: float, cut: threading.Event
) -> None:
    keep_evidence(
        started.prepared.request.cluster,
        folder=run.path,
        provider=started.tools.provider,
        namespaces=_namespaces(started),
        redactor=started.tools.redactor,
        deadline=Deadline.after(seconds, cut),
    )
    stack = Stack(run, waits=False)
    call_within(
        _never_fatal(partial(hook.pytest_kindinfra_diagnose, stack=stack, directory=run.path)),
        Deadline.after(seconds, cut),
        what="pytest_kindinfra_diagnose",
    )


def _namespaces(started: Started) -> list[str]:
    """Return where the services' objects are: the declared namespace, then those in manifests."""
    plan, namespaces = started.prepared.plan, {started.prepared.request.namespace: None}
    namespaces |= dict.fromkeys(plan.namespaces.values())
    for objects in plan.objects.values():
        for obj in objects:
            if namespace := obj.get("metadata", {}).get("namespace"):
                namespaces[str(namespace)] = None
    return list(namespaces)


def _call_before_teardown(
    run: RunDirectory, hook: Any, seconds: float, cut: threading.Event
) -> None:
    stack = Stack(run, waits=False)
    call_within(
        _never_fatal(
            partial(hook.pytest_kindinfra_before_teardown, stack=stack, directory=run.path)
        ),
        Deadline.after(seconds, cut),
        what="pytest_kindinfra_before_teardown",
    )


def _never_fatal(call: Callable[[], object]) -> Callable[[], None]:
    """Return a call of hooks whose `pytest.fail()`, `.skip()` or `.exit()` is a failure like any.

    Those are no Exceptions, so that the cluster would not be deleted after them.
    """

    def careful_call() -> None:
        try:
            call()
        except Exception:
            raise
        except BaseException as error:
            msg = f"{type(error).__name__}: {error}"
            raise KindInfraError(msg) from error

    return careful_call


def _delete(started: Started, run: RunDirectory) -> None:
    kind = "clear" if started.prepared.request.existing else "delete"
    with started.tools.timeline.span(kind, "cluster"):
        tear_down(
            started.prepared.request.cluster,
            tools=started.tools,
            kubeconfig=run.kubeconfig,
            deadline=Deadline.after(_DELETE_SECONDS),
        )


def _report(started: Started, run: RunDirectory, outcome: Outcome) -> None:
    phases = started.tools.timeline.phases
    report = run_report(
        started.prepared.plan,
        cluster=started.prepared.request.cluster,
        phases=phases,
        images={name: ready.image for name, ready in run.read_all(ImageReady).items()},
        endpoints={
            name: result.endpoints if isinstance(result, ServiceReady) else ()
            for name, result in run.settled_all(ServiceReady).items()
        },
        outcome=outcome,
        cache=run.read(CacheUsed),
        git=run.read(GitState),
        versions=versions(run, node_image=started.prepared.request.node_image),
        machine=machine(),
    )
    used = run.read(SnapshotUsed)
    report["snapshot"] = used and to_json(used)
    run.write_report("run.json", report)
    run.write_report("trace.json", trace(phases))
    write_timeline(run.path, report)
    rotate(run.path.parent, keep=started.prepared.settings.keep_runs)
