"""What DataStorage keeps, and how it is read from a request. Pure: no database is known here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime


class InvalidRecordError(ValueError):
    """A request's body is no such record; *problems* names everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One thing that happened to one remediation."""

    event_id: str
    """Chosen by the writer if it may have to repeat itself: a second event of an id is dropped."""
    correlation_id: str
    event_type: str
    actor: str
    occurred_at: str
    payload: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: object) -> AuditEvent:
        """Read an event, whose id and time are filled in if they are missing."""
        fields = _Fields(body, "an audit event")
        event = cls(
            event_id=fields.identifier("event_id"),
            correlation_id=fields.text("correlation_id"),
            event_type=fields.text("event_type"),
            actor=fields.text("actor"),
            occurred_at=fields.moment("occurred_at"),
            payload=fields.mapping("payload"),
        )
        fields.complain()
        return event

    def as_json(self) -> dict[str, object]:
        """Return what `parse` reads."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A remediation that can be run, as its author describes it."""

    name: str
    version: str
    signal: str
    """The type of signal that it is a remedy for."""
    description: str

    @classmethod
    def parse(cls, body: object) -> Workflow:
        """Read a workflow as it is registered, without the id that the catalogue gives it."""
        fields = _Fields(body, "a workflow")
        workflow = cls(
            name=fields.text("name"),
            version=fields.text("version"),
            signal=fields.text("signal"),
            description=fields.text("description"),
        )
        fields.complain()
        return workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguedWorkflow:
    """A workflow and the id by which everyone else knows it."""

    workflow_id: str
    name: str
    version: str
    signal: str
    description: str

    def as_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return asdict(self)


class _Fields:
    """Reads the fields of a body one by one, and complains about all of them at once."""

    def __init__(self, body: object, what: str) -> None:
        if not isinstance(body, Mapping):
            raise InvalidRecordError([f"{what} must be an object"])
        self._body = body
        self._problems: list[str] = []

    def text(self, name: str) -> str:
        value = self._body.get(name)
        if isinstance(value, str) and value:
            return value
        return self._wrong(name, "a text that is not empty")

    def identifier(self, name: str) -> str:
        value = self._body.get(name) or str(uuid.uuid4())
        try:
            return str(uuid.UUID(value))
        except (ValueError, AttributeError, TypeError):
            return self._wrong(name, "a UUID")

    def moment(self, name: str) -> str:
        value = self._body.get(name) or datetime.now(UTC).isoformat()
        try:
            moment = datetime.fromisoformat(value)
        except (ValueError, TypeError):
            return self._wrong(name, "a time in ISO 8601")
        return moment.isoformat() if moment.tzinfo else self._wrong(name, "a time with its zone")

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self._body.get(name, {})
        if not isinstance(value, Mapping):
            self._wrong(name, "an object")
            return {}
        return value

    def complain(self) -> None:
        if self._problems:
            raise InvalidRecordError(self._problems)

    def _wrong(self, name: str, wanted: str) -> str:
        self._problems.append(f"{name} must be {wanted}")
        return ""
