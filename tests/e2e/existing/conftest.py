"""Leave word of the threads that this process has left when it ends."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_unconfigure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", {}).get("workerid", "controller")
    Path(f"threads-{worker}").write_text("\n".join(one.name for one in threading.enumerate()))
