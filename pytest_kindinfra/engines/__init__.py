"""The container engines, Docker and podman, and the registry that runs in them."""
