"""What many services and many workers cost beyond the work itself, with programs that only play.

Fifty services in layers, each of which needs one of the layer before, are brought up for eight
workers. `docker`, `kind` and the API server are the fakes of the functional tests and take a known
time for each step, so the longest chain of these times is the least that any set-up can take; the
rest is ours. The fakes' own work (a process for each call, the answers of the API server) counts
as ours too, since it cannot be told apart.

    tools/bench/crowd.py [--services 50] [--layers 10] [--workers 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import quartiles

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.functional.project import Project

CREATE, BUILD, SAVE, READY = 12.0, 1.0, 0.2, 1.5
"""Seconds. A layer takes `READY`; images are built and loaded while the cluster is created."""
TOLERATED = 1.05


def bring_up(services: int, layers: int, workers: int) -> list[dict[str, Any]]:
    """Return the phases of a run that has a test for each service."""
    with (
        tempfile.TemporaryDirectory(prefix="crowd-") as folder,
        Project(Path(folder), temporary=Path(folder) / "tmp") as project,
    ):
        declare(project, services, layers)
        run = project.run(workers=workers)
        if run.outcomes != {"passed": services}:
            raise SystemExit(run.text)
        phases: list[dict[str, Any]] = run.report["phases"]
        return phases


def declare(project: Project, services: int, layers: int) -> None:
    """Write the project: ten images, services in layers, and a test for each service."""
    width = services // layers
    names = [f"s{number}" for number in range(services)]
    tests = []
    for number, name in enumerate(names):
        needs = (names[number - width],) if number >= width else ()
        project.service(name, image=number < layers, needs=needs)
        tests.append(f"@pytest.mark.kindinfra({name!r})\ndef test_{name}(kindinfra): ...\n")
    project.tests("\n".join(tests))
    project.clusters.ready_after = READY
    project.behave("create", seconds=CREATE)
    project.behave("save", seconds=SAVE)
    for name in names[:layers]:
        project.behave(f"build {name}", seconds=BUILD)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    least = CREATE + words.layers * READY
    found = []
    for number in range(words.rounds):
        phases = bring_up(words.services, words.layers, words.workers)
        start = min(one["start"] for one in phases if one["name"] == "create cluster")
        found.append(max(one["end"] for one in phases if one["name"] != "delete cluster") - start)
        print(
            f"{number + 1} {found[-1]:6.2f} s, {found[-1] / least:.3f} of {least:.1f}", flush=True
        )
    low, middle, high = quartiles(found)
    print(
        f"{words.services} services, {words.workers} workers: {middle:.2f} s ({low:.2f} to "
        f"{high:.2f}), {middle / least:.3f} of the longest chain; aim {TOLERATED}"
    )


if __name__ == "__main__":
    main()
