"""Doors to the machine: programs, time, secrets, files."""
