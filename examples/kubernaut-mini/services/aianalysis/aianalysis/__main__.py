"""Starts the controller."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kubernaut_kit import lifecycle
from kubernaut_kit.metrics import Counters
from kubernaut_kit.settings import Settings
from kubernaut_kit.web import JsonServer, Route

from aianalysis.api import Api
from aianalysis.cluster import KubernetesCluster
from aianalysis.policy import Policy
from aianalysis.reconciler import Reconciler
from aianalysis.services import DataStorage, HolmesGpt
from aianalysis.workqueue import WorkQueue, work

if TYPE_CHECKING:
    import logging

    from aianalysis.model import Key


def main() -> None:
    """Watch, reconcile and serve until SIGTERM."""
    log = lifecycle.start("aianalysis")
    settings = Settings.from_environment("/etc/aianalysis/config.yaml")
    cluster = KubernetesCluster()
    policy = Policy.parse(Path(settings.get("policy", str)).read_text(encoding="utf-8"))
    counters = Counters(
        {
            "aianalysis_settled_total": "Analyses brought to an end, by phase.",
            "aianalysis_errors_total": "Tries that failed and are made again.",
        }
    )
    reconciler = Reconciler(
        cluster,
        HolmesGpt(os.environ["HOLMESGPT_API_URL"]),
        DataStorage(os.environ["DATASTORAGE_URL"]),
        policy,
    )
    reconcile_in_background(cluster, reconciler, settings.get("workers", int), counters, log)
    api = Api(cluster, os.environ["POD_NAMESPACE"])
    metrics = [Route("GET", "/metrics", counters.answer)]
    log.info("serving")
    lifecycle.serve(
        JsonServer(settings.get("ports.api", int), api.routes()),
        JsonServer(settings.get("ports.metrics", int), metrics),
        JsonServer(settings.get("ports.health", int), api.probes()),
    )


def reconcile_in_background(
    cluster: KubernetesCluster,
    reconciler: Reconciler,
    workers: int,
    counters: Counters,
    log: logging.Logger,
) -> None:
    """Start the watch and the workers between which stands a queue."""

    def handle(key: Key) -> None:
        try:
            phase = reconciler.reconcile(key)
        except Exception:
            counters.add("aianalysis_errors_total")
            raise
        if phase is not None:
            log.info("%s/%s: %s", *key, phase)
            counters.add("aianalysis_settled_total", phase=phase)

    queue = WorkQueue()
    for _ in range(workers):
        lifecycle.in_background(work, queue, handle, log)
    lifecycle.in_background(cluster.follow, queue.add, log)


if __name__ == "__main__":
    main()
