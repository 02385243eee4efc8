"""What tests that keep pytest's process busy cost the stack that comes up meanwhile.

One process runs the tests and begins the run: as editors do it, without xdist. In half of the runs
its first test computes without pause until all is ready, as a module of unit tests may. `docker`,
`kind` and the API server are the fakes of the functional tests. Contenders take turns.

    tools/bench/busy.py [--against CHECKOUT] [--rounds 5]

With `--against` another checkout of this project takes part, such as one of an older commit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from figures import quartiles, ratio

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.functional.project import Project

ROOT = Path(__file__).parents[2]
CREATE, BUILD = 2.0, 0.5
"""Seconds that kind and each build take at least."""
SERVICES = ("web", "db", "api", "queue")
BUSY = """
import glob, itertools, time

def test_busy():
    late = time.perf_counter() + 60
    for number in itertools.count():
        sum(range(1000))
        if number % 1000 == 0 and (found := glob.glob(".kindinfra/latest/state/service-*.json")):
            if sum("endpoints" in open(one).read() for one in found) == {count}:
                return
        assert time.perf_counter() < late
"""
NEEDY = """
@pytest.mark.kindinfra({names})
def test_all(kindinfra): ...
"""


def seconds(tree: Path, *, busy: bool) -> float:
    """Return how long the bring-up took, from the begin of its first phase."""
    with (
        tempfile.TemporaryDirectory(prefix="busy-") as folder,
        Project(Path(folder), temporary=Path(folder) / "tmp") as project,
    ):
        for name in SERVICES:
            project.service(name, image=True)
            project.behave(f"build {name}", seconds=BUILD)
        project.behave("create", seconds=CREATE)
        names = ", ".join(map(repr, SERVICES))
        project.tests(NEEDY.format(names=names), "test_needy.py")
        if busy:
            project.tests(BUSY.format(count=len(SERVICES)), "test_busy.py")
        run = project.run("-W", "ignore", workers=None, PYTHONPATH=str(tree))
        if run.code != 0:
            raise SystemExit(run.text)
        phases = run.report["phases"]
        begin = min(phase["start"] for phase in phases)
        ready = max(phase["end"] for phase in phases if phase["kind"] == "wait")
        return float(ready - begin)


def main() -> None:
    """Have the contenders take turns and print medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    trees = {"this": ROOT, **({"other": arguments.against} if arguments.against else {})}
    took: dict[tuple[str, bool], list[float]] = {}
    for _ in range(arguments.rounds):
        for name, tree in trees.items():
            for busy in (False, True):
                took.setdefault((name, busy), []).append(seconds(tree.resolve(), busy=busy))
    print(f"seconds until {len(SERVICES)} services are ready; {arguments.rounds} rounds in turns")
    for (name, busy), values in took.items():
        low, median, high = quartiles(values)
        what = "tests compute meanwhile" if busy else "tests only wait"
        print(f"{name:<6} {what:<24} {median:6.2f}  ({low:.2f} to {high:.2f})")
    for busy in (False, True) if arguments.against else ():
        middle, low, high = ratio(took["this", busy], took["other", busy])
        what = "tests compute meanwhile" if busy else "tests only wait"
        print(f"this to other, {what}: {middle:.2f} (90 %: {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
