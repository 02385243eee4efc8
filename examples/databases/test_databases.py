"""Tests that write into the same databases at the same time, and see only their own rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DatabaseError

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("postgres")
@pytest.mark.parametrize("number", range(6))
def test_each_test_has_the_rows_of_the_template_and_its_own(engine: Engine, number: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO orders (customer, total) VALUES (1, :total)"), {"total": number}
        )

    with engine.connect() as connection:
        names = connection.execute(text("SELECT name FROM customers ORDER BY name")).scalars()
        orders = connection.execute(text("SELECT id, total FROM orders")).all()
    assert list(names) == ["Ada", "Grace"]
    assert [tuple(order) for order in orders] == [(1, number)]


@pytest.mark.kindinfra("postgres")
def test_constraints_are_those_of_the_schema(engine: Engine) -> None:
    with pytest.raises(DatabaseError, match="customers_name_key"), engine.begin() as connection:
        connection.execute(text("INSERT INTO customers (name) VALUES ('Ada')"))


@pytest.mark.kindinfra("redis")
@pytest.mark.parametrize("number", range(4))
def test_keys_are_those_of_the_test(kindinfra: Stack, redis_database: int, number: int) -> None:
    client = ["redis-cli", "-n", str(redis_database)]
    kindinfra.exec("redis", [*client, "SET", f"key-{number}", "x"], check=True)

    assert kindinfra.exec("redis", [*client, "KEYS", "*"]).stdout == f"key-{number}\n"
