"""Tests of Django's models, in several workers at the same time."""

from __future__ import annotations

import os

import pytest
from django.db import IntegrityError, connection, transaction
from shop.models import Customer, Order

pytestmark = [pytest.mark.kindinfra("postgres"), pytest.mark.django_db]


@pytest.mark.parametrize("number", range(4))
def test_each_test_has_the_rows_of_the_migrations_and_its_own(number: int) -> None:
    ada = Customer.objects.get(name="Ada")
    Order.objects.create(customer=ada, total=number)

    assert [str(order) for order in Order.objects.all()] == [f"{number} of Ada"]


def test_constraints_are_postgresqls() -> None:
    with pytest.raises(IntegrityError, match="duplicate key value"), transaction.atomic():
        Customer.objects.create(name="Ada")


def test_the_database_is_the_workers() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    assert connection.settings_dict["NAME"] == (f"test_shop_{worker}" if worker else "test_shop")
