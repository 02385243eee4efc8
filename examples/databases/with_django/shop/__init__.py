"""A small Django application with its own settings."""
