"""The container engines, Docker and podman, and the registry beside them."""
