"""Coverage of services in pods: fetched before the cluster is deleted, then combined."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from pytest_kindinfra import Image, Stack

HERE = Path(__file__).parent
SAVE_AND_PACK = """
rm -f /coverage/saved
kill -USR1 1
tries=0
until [ -e /coverage/saved ]; do
  [ $tries -lt 300 ] || { echo "no data within 30 s of SIGUSR1" >&2; exit 1; }
  sleep 0.1; tries=$((tries + 1))
done
tar cf - -C /coverage . | base64
"""
"""The service makes `saved` when everything is written: the first file is there before its data."""


def pytest_configure(config: pytest.Config) -> None:
    """Have the services measured."""
    config.pluginmanager.register(CoverageOfPods())


class CoverageOfPods:
    """Fetches what pods have measured, and says where the reports are."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def pytest_kindinfra_before_build(self, image: Image) -> None:
        """Compile the Go service with measuring built in, before its context is hashed."""
        if image.name == "counter":
            measured = ("-cover", "-covermode=atomic", "-tags=measured")
            argv = ["go", "build", *measured, "-o", "counter", "."]
            env = {**os.environ, "CGO_ENABLED": "0"}
            subprocess.run(argv, cwd=HERE / "counter", env=env, check=True)

    def pytest_kindinfra_before_teardown(self, stack: Stack, directory: Path) -> None:
        """Fetch the files of each service, also after success."""
        self._folder = directory / "coverage"
        fetch(stack, "greeter", self._folder / "python")
        fetch(stack, "counter", self._folder / "go")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Combine them, for which the cluster is not needed any more, and say where they are."""
        if self._folder:
            greeter = combined_python(self._folder / "python")
            terminalreporter.write_line(f"coverage of greeter: {greeter}")
            counter = combined_go(self._folder / "go")
            terminalreporter.write_line(f"coverage of counter: {counter}")


def fetch(stack: Stack, service: str, folder: Path) -> None:
    """Copy /coverage of every copy of a service into a folder."""
    folder.mkdir(parents=True)
    for name in stack.services:
        if name.partition(".")[0] == service:  # `service.gw0` with per = "worker"
            packed = stack.exec(name, ["sh", "-c", SAVE_AND_PACK], check=True).stdout
            with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as archive:
                archive.extractall(folder, filter="data")


def combined_python(folder: Path) -> Path:
    """Return the HTML report of coverage.py."""
    from coverage import Coverage

    config = folder / "coveragerc"
    config.write_text(f"[paths]\nsource =\n  {HERE / 'greeter'}\n  /app\n")
    coverage = Coverage(data_file=str(folder / "combined"), config_file=str(config))
    coverage.combine([str(path) for path in folder.glob("data*")])
    coverage.save()
    coverage.html_report(directory=str(folder / "html"))
    return folder / "html" / "index.html"


def combined_go(folder: Path) -> Path:
    """Return the profile that `go tool cover` reads."""
    profile = folder / "profile.txt"
    argv = ["go", "tool", "covdata", "textfmt", f"-i={folder}", f"-o={profile}"]
    subprocess.run(argv, check=True)
    return profile
