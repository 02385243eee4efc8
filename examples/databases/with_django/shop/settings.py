"""What Django needs; where the database is, only the tests know."""

from __future__ import annotations

INSTALLED_APPS = ["shop"]
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": "postgres",
        "PASSWORD": "secret",
    }
}
