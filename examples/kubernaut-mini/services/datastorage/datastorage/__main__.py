"""Starts DataStorage."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kubernaut_kit import lifecycle
from kubernaut_kit.metrics import Counters
from kubernaut_kit.settings import Settings
from kubernaut_kit.web import JsonServer, Route

from datastorage.api import Api
from datastorage.deadletters import DeadLetterQueue
from datastorage.postgres import PostgresStore
from datastorage.recorder import (
    Outcome,
    QueueUnavailableError,
    Recorder,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    import logging

_PAUSE = 1.0
"""Seconds between two tries to replay while PostgreSQL or Redis is away."""


def main() -> None:
    """Connect, then serve."""
    log = lifecycle.start("datastorage")
    settings = Settings.from_environment("/etc/datastorage/config.yaml")
    store = connect(settings, log)
    queue = DeadLetterQueue(
        settings.get("redis.host", str),
        settings.get("redis.port", int),
        settings.get("redis.queue", str),
    )
    recorder = Recorder(store, queue)
    counters = Counters(
        {
            "datastorage_events_total": "Audit events taken in, by where they went.",
            "datastorage_replayed_total": "Dead letters worked off, by what became of them.",
        }
    )
    lifecycle.in_background(work_off, queue, recorder, counters, log)
    log.info("serving")
    lifecycle.serve(
        JsonServer(
            settings.get("server.port", int), Api(store, queue, recorder, counters).routes()
        ),
        JsonServer(
            settings.get("server.metrics_port", int), [Route("GET", "/metrics", counters.answer)]
        ),
    )


def connect(settings: Settings, log: logging.Logger) -> PostgresStore:
    """Connect to PostgreSQL, or end: a restart by the kubelet is the longer patience."""
    secrets = Path(settings.get("database.secrets", str))
    store = PostgresStore(
        patience=2.0,
        host=settings.get("database.host", str),
        port=settings.get("database.port", int),
        dbname=settings.get("database.name", str),
        user=(secrets / "username").read_text(encoding="utf-8").strip(),
        password=(secrets / "password").read_text(encoding="utf-8").strip(),
    )
    try:
        store.open(patience=settings.get("database.patience_seconds", float))
    except StoreUnavailableError as error:
        log.critical("PostgreSQL cannot be reached: %s", error)
        sys.exit(1)
    return store


def work_off(
    queue: DeadLetterQueue, recorder: Recorder, counters: Counters, log: logging.Logger
) -> NoReturn:
    """Store dead letters forever, from the start again whenever one of the two is away."""
    while True:
        try:
            queue.recover()
            while True:
                count(recorder.replay(), counters)
        except (StoreUnavailableError, QueueUnavailableError) as error:
            log.warning("dead letters must wait: %s", error)
            time.sleep(_PAUSE)


def count(outcome: Outcome, counters: Counters) -> None:
    """Count what became of a letter, if there was one."""
    if outcome is not Outcome.NOTHING:
        counters.add("datastorage_replayed_total", outcome=outcome.value)


if __name__ == "__main__":
    main()
