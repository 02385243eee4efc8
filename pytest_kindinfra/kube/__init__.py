"""Kubernetes: objects as data, the API, readiness and causes, logs, port-forwards."""
