"""Providers of clusters."""
