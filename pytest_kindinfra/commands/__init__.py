"""The `kindinfra` command, and the functions for scripts."""
