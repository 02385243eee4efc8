"""pytest-django creates a database for each worker; the fixture says where the server is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.conf import settings

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,  # noqa: ARG001 - names it for the worker
    kindinfra: Stack,
) -> None:
    """Called by pytest-django before it connects for the first time."""
    sql = kindinfra.endpoint("postgres")
    settings.DATABASES["default"].update(HOST=sql.host, PORT=sql.port)
