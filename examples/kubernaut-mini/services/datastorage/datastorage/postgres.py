"""The only module that speaks SQL."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolTimeout

from datastorage.recorder import StoreUnavailableError
from datastorage.records import CataloguedWorkflow, InvalidRecordError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datastorage.records import AuditEvent, Workflow

_INSERT_EVENT = """
    INSERT INTO audit_events (event_id, correlation_id, event_type, actor, occurred_at, payload)
    VALUES (%(event_id)s, %(correlation_id)s, %(event_type)s, %(actor)s, %(occurred_at)s,
            %(payload)s)
    ON CONFLICT (event_id) DO NOTHING
"""
_FIND_EVENTS = """
    SELECT event_id::text, correlation_id, event_type, actor, occurred_at, payload, position
    FROM audit_events
    WHERE correlation_id = %(correlation_id)s AND position > %(after)s
    ORDER BY position
    LIMIT %(limit)s
"""
# The update changes nothing; it is there for RETURNING, which says nothing about a row that
# DO NOTHING did not touch. xmax is 0 in a row that this statement inserted.
_REGISTER = """
    INSERT INTO workflow_catalogue (name, version, signal, description)
    VALUES (%(name)s, %(version)s, %(signal)s, %(description)s)
    ON CONFLICT (name, version) DO UPDATE SET name = EXCLUDED.name
    RETURNING workflow_id::text, name, version, signal, description, xmax = 0 AS created
"""
_FIND_WORKFLOWS = """
    SELECT workflow_id::text, name, version, signal, description
    FROM workflow_catalogue
    WHERE (%(signal)s::text IS NULL OR signal = %(signal)s)
      AND (%(workflow_id)s::uuid IS NULL OR workflow_id = %(workflow_id)s)
    ORDER BY name, version
"""


class PostgresStore:
    """Audit events and workflows in one database, over a few connections."""

    def __init__(self, *, patience: float, **connection: str | int) -> None:
        """Wait up to *patience* seconds for a connection in each call."""
        self._pool = ConnectionPool(
            make_conninfo("", **connection, connect_timeout=2),
            min_size=1,
            max_size=8,
            timeout=patience,
            reconnect_timeout=60,
            # A connection that died with its server is found out here, and not by a request.
            check=ConnectionPool.check_connection,
            open=False,
        )

    def open(self, *, patience: float) -> None:
        """Connect, trying for *patience* seconds: the database may be a little late."""
        self._pool.open()
        try:
            self._pool.wait(timeout=patience)
        except PoolTimeout as error:
            message = f"no connection within {patience:g} s"
            raise StoreUnavailableError(message) from error

    def alive(self) -> bool:
        """Tell whether a query is answered now."""
        try:
            with self._connection() as connection:
                connection.execute("SELECT 1")
        except StoreUnavailableError:
            return False
        return True

    def insert(self, events: Sequence[AuditEvent]) -> None:
        """Keep all of *events* or none; one whose id is known already is no error."""
        rows = [event.as_json() | {"payload": Jsonb(event.payload)} for event in events]
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.executemany(_INSERT_EVENT, rows)

    def events(self, correlation_id: str, *, after: int, limit: int) -> list[dict[str, object]]:
        """Return the events of one remediation in the order in which they were stored."""
        wanted = {"correlation_id": correlation_id, "after": after, "limit": limit}
        with self._connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(_FIND_EVENTS, wanted).fetchall()
        return [row | {"occurred_at": row["occurred_at"].isoformat()} for row in rows]

    def register(self, workflow: Workflow) -> tuple[CataloguedWorkflow, bool]:
        """Return the catalogue's entry for *workflow*, and whether it is new."""
        with self._connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            [row] = cursor.execute(_REGISTER, asdict(workflow)).fetchall()
        created = bool(row.pop("created"))
        return CataloguedWorkflow(**row), created

    def workflows(
        self, *, signal: str | None = None, workflow_id: str | None = None
    ) -> list[CataloguedWorkflow]:
        """Return the workflows for one signal, the one with an id, or all."""
        wanted = {"signal": signal, "workflow_id": workflow_id}
        with (
            self._connection() as connection,
            connection.cursor(row_factory=class_row(CataloguedWorkflow)) as cursor,
        ):
            return cursor.execute(_FIND_WORKFLOWS, wanted).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        """Lend a connection for one transaction; all ways of being away become one error.

        What PostgreSQL cannot keep (a text with a NUL in it) is the record's fault.
        """
        try:
            with self._pool.connection() as connection:
                yield connection
        except (PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise StoreUnavailableError(str(error)) from error
        except psycopg.DataError as error:
            raise InvalidRecordError([str(error)]) from error
