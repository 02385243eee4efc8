"""A database for each test: a copy of a template, which is filled once in a run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kindinfra import Stack

TEMPLATE = "template_shop"
SCHEMA = Path(__file__).parent / "schema.sql"


def psql(kindinfra: Stack, sql: str, *, database: str = "postgres") -> None:
    """Run statements in PostgreSQL's own pod: no client is needed on this machine."""
    command = ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]
    kindinfra.exec("postgres", command, input=sql, check=True, timeout=120)


@pytest.fixture(scope="session")
def template(kindinfra: Stack, kindinfra_once: Callable[[str, Callable[[], str]], str]) -> str:
    """A database with the schema and its first rows; made once, by one of the workers."""

    def make() -> str:
        psql(kindinfra, f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
        psql(kindinfra, f"CREATE DATABASE {TEMPLATE}")
        psql(kindinfra, SCHEMA.read_text(), database=TEMPLATE)
        psql(kindinfra, f"ALTER DATABASE {TEMPLATE} ALLOW_CONNECTIONS false")
        return TEMPLATE

    return kindinfra_once("template", make)


@pytest.fixture
def database(kindinfra: Stack, template: str) -> Iterator[str]:
    """The URL of a database of the test's own, as SQLAlchemy writes it."""
    name, sql = f"test_{uuid4().hex}", kindinfra.endpoint("postgres")
    psql(kindinfra, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield f"postgresql+pg8000://postgres:secret@{sql.host}:{sql.port}/{name}"
    psql(kindinfra, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """SQLAlchemy's engine for that database."""
    engine = create_engine(database)
    yield engine
    engine.dispose()


@pytest.fixture
def redis_database(kindinfra: Stack) -> int:
    """The number of a database of Redis that only this worker uses, empty."""
    number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    kindinfra.exec("redis", ["redis-cli", "-n", str(number), "FLUSHDB"], check=True)
    return number
