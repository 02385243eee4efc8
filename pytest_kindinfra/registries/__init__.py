"""Registries beside the cluster: who runs one, and who lets kind nodes know of it."""
