"""The steps of a bring-up; each knows no other (import-linter sees to it)."""
