"""Starts holmesgpt-api."""

from __future__ import annotations

import argparse

import uvicorn
from kubernaut_kit import lifecycle
from kubernaut_kit.settings import Settings

from holmesgpt_api.app import create_app


def main() -> None:
    """Serve until SIGTERM, which uvicorn handles itself."""
    lifecycle.start("holmesgpt-api")
    parser = argparse.ArgumentParser()
    parser.add_argument("-config", default="/etc/holmesgpt/config.yaml")
    settings = Settings.from_file(parser.parse_args().config)
    uvicorn.run(
        create_app(settings),
        host="0.0.0.0",  # noqa: S104 - inside a pod
        port=settings.get("server.port", int),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
