"""DataStorage's HTTP interface."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from kubernaut_kit.web import Answer, Refusal, Request, Route

from datastorage.recorder import Outcome, QueueUnavailableError, StoreUnavailableError
from datastorage.records import AuditEvent, InvalidRecordError, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubernaut_kit.metrics import Counters

    from datastorage.deadletters import DeadLetterQueue
    from datastorage.postgres import PostgresStore
    from datastorage.recorder import Recorder

T = TypeVar("T")

_MOST_EVENTS = 1000
_WHERE_TO = {Outcome.STORED: HTTPStatus.CREATED, Outcome.QUEUED: HTTPStatus.ACCEPTED}


class Api:
    """The endpoints, over a store and a recorder."""

    def __init__(
        self,
        store: PostgresStore,
        queue: DeadLetterQueue,
        recorder: Recorder,
        counters: Counters,
    ) -> None:
        self._store = store
        self._queue = queue
        self._recorder = recorder
        self._counters = counters

    def routes(self) -> list[Route]:
        """Return every route of the service."""
        return [
            Route("GET", "/health", self.health),
            Route("POST", "/api/v1/audit/events", self.record_event),
            Route("POST", "/api/v1/audit/events/batch", self.record_batch),
            Route("GET", "/api/v1/audit/events", self.find_events),
            Route("POST", "/api/v1/workflows", self.register_workflow),
            Route("GET", "/api/v1/workflows", self.find_workflows),
            Route("GET", "/api/v1/workflows/{workflow_id}", self.find_workflow),
        ]

    def health(self, _request: Request) -> Answer:
        """Say what can be reached. 200 even without PostgreSQL: events are still taken in then."""
        parts = {"postgres": self._store.alive(), "redis": self._queue.alive()}
        return Answer({"status": "healthy" if all(parts.values()) else "degraded"} | parts)

    def record_event(self, request: Request) -> Answer:
        """Keep one event."""
        event = _parsed(AuditEvent.parse, request.body)
        return self._record([event], {"event_id": event.event_id})

    def record_batch(self, request: Request) -> Answer:
        """Keep a list of events, all or none."""
        if not isinstance(request.body, list) or not request.body:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a batch must be a list with events in it")
        events = [_parsed(AuditEvent.parse, item) for item in request.body]
        return self._record(events, {"event_ids": [event.event_id for event in events]})

    def find_events(self, request: Request) -> Answer:
        """Return the trail of one remediation, page by page."""
        if not (correlation_id := request.query.get("correlation_id")):
            raise Refusal(HTTPStatus.BAD_REQUEST, "correlation_id is missing")
        after = _number(request, "after", 0)
        limit = min(_number(request, "limit", 100), _MOST_EVENTS)
        found = self._ask(lambda: self._store.events(correlation_id, after=after, limit=limit))
        return Answer({"events": found})

    def register_workflow(self, request: Request) -> Answer:
        """Give a workflow its id, the same one however often it is registered."""
        workflow = _parsed(Workflow.parse, request.body)
        entry, created = self._ask(lambda: self._store.register(workflow))
        return Answer(entry.as_json(), HTTPStatus.CREATED if created else HTTPStatus.OK)

    def find_workflows(self, request: Request) -> Answer:
        """Return the catalogue, or the part of it that is for one signal."""
        found = self._ask(lambda: self._store.workflows(signal=request.query.get("signal")))
        return Answer({"workflows": [entry.as_json() for entry in found]})

    def find_workflow(self, request: Request) -> Answer:
        """Return the workflow with an id."""
        workflow_id = request.values["workflow_id"]
        if not _is_uuid(workflow_id):
            raise Refusal(HTTPStatus.BAD_REQUEST, f"{workflow_id} is no UUID")
        found = self._ask(lambda: self._store.workflows(workflow_id=workflow_id))
        if not found:
            raise Refusal(HTTPStatus.NOT_FOUND, f"no workflow has the id {workflow_id}")
        return Answer(found[0].as_json())

    def _record(self, events: Sequence[AuditEvent], receipt: dict[str, object]) -> Answer:
        try:
            outcome = self._recorder.record(events)
        except InvalidRecordError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, *error.problems) from error
        except QueueUnavailableError as error:
            message = f"neither PostgreSQL nor Redis can be reached: {error}"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, message) from error
        self._counters.add("datastorage_events_total", len(events), outcome=outcome.value)
        return Answer(receipt | {"outcome": outcome.value}, _WHERE_TO[outcome])

    def _ask(self, question: Callable[[], T]) -> T:
        """Return the answer of the store, or refuse: reading has no second place to go."""
        try:
            return question()
        except StoreUnavailableError as error:
            message = f"PostgreSQL cannot be reached: {error}"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, message) from error


def _parsed(parse: Callable[[object], T], body: object) -> T:
    try:
        return parse(body)
    except InvalidRecordError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, *error.problems) from error


def _number(request: Request, name: str, default: int) -> int:
    value = request.query.get(name, str(default))
    if not (value.isascii() and value.isdigit()):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{name} must be a number, not {value}")
    return int(value)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
