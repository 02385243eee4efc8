"""Both tables, and two customers."""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.db import migrations, models


def add_customers(apps: Any, _schema_editor: object) -> None:
    customer = apps.get_model("shop", "Customer")
    customer.objects.bulk_create([customer(name="Ada"), customer(name="Grace")])


class Migration(migrations.Migration):
    operations = (
        migrations.CreateModel(
            name="Customer",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=100, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("total", models.IntegerField()),
                (
                    "customer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="shop.customer"
                    ),
                ),
            ],
        ),
        migrations.RunPython(add_customers),
    )
