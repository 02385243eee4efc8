"""How soon waiters learn what they wait for, and what their waiting costs.

As many processes as a run has workers wait for results that another process writes, beside the
recipe of pytest-xdist's documentation (a file lock around a file with the value), in turns within
one run. Then the writer is killed, and it is timed until each waiter knows.

    tools/bench/waiting.py [--workers 8] [--rounds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = """
import json, os, sys, time
from pathlib import Path
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.errors import ProvisionerDiedError
from pytest_kindinfra.state.records import ServiceReady
run = RunDirectory(Path(sys.argv[1]))
rounds = int(sys.argv[2])
print("here", flush=True)
for number in range(rounds):
    try:
        (endpoint,) = run.wait_for(ServiceReady, f"r{number}").endpoints
    except ProvisionerDiedError:
        print(json.dumps({"died": time.time()}), flush=True)
        break
    print(json.dumps({"seen": time.time() - float(endpoint.name)}), flush=True)
cpu = os.times()
print(json.dumps({"cpu": cpu.user + cpu.system}), flush=True)
"""
RECIPE = """
import json, os, sys, time
from pathlib import Path
from filelock import FileLock
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
print("here", flush=True)
for number in range(rounds):
    file = folder / f"r{number}.json"
    while True:  # the first one there is the writer, who has the lock
        with FileLock(f"{file}.lock"):
            if file.is_file():
                value = json.loads(file.read_text())
                break
    print(json.dumps({"seen": time.time() - value["written"]}), flush=True)
"""
WRITER = """
import json, sys, time
from pathlib import Path
from filelock import FileLock
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.records import ServiceReady
from pytest_kindinfra.model import Endpoint
run = RunDirectory(Path(sys.argv[1]))
run.make()
lock, provisioning = hold(run.lock), hold(run.provisioning)
locks = {}
def of(number):
    lock = FileLock(run.path / f"r{number}.json.lock")
    lock.acquire()
    return lock
for number in range(int(sys.argv[2])):
    locks[number] = of(number)
print("here", flush=True)
for line in sys.stdin:
    kind, number = line.split()
    if kind == "ours":
        endpoint = Endpoint(
            service="s", name=repr(time.time()), scheme="tcp", host="127.0.0.1", port=1
        )
        run.settle(ServiceReady(endpoints=(endpoint,)), f"r{number}")
    else:
        (run.path / f"r{number}.json").write_text(json.dumps({"written": time.time()}))
        locks[int(number)].release()
"""


def start(script: str, folder: Path, rounds: int) -> subprocess.Popen[str]:
    """Start one process and wait until it is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(rounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout  # noqa: S101 - a pipe was asked for
    assert process.stdout.readline() == "here\n"  # noqa: S101
    return process


def said(process: subprocess.Popen[str], key: str) -> float:
    """Return what a process says next."""
    assert process.stdout  # noqa: S101
    return float(json.loads(process.stdout.readline())[key])


def times(kind: str, workers: int, rounds: int, pause: float) -> tuple[list[float], list[float]]:
    """Return seconds from each writing to each waiter's knowing, and from the writer's death."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run-1"
        writer = start(WRITER, folder, rounds)
        waiters = [
            start(OURS if kind == "ours" else RECIPE, folder, rounds + 1) for _ in range(workers)
        ]
        delays = []
        for number in range(rounds):
            time.sleep(pause)
            print(kind, number, file=writer.stdin, flush=True)
            delays += [said(waiter, "seen") for waiter in waiters]
        died = []
        if kind == "ours":
            os.kill(writer.pid, signal.SIGKILL)
            moment = time.time()
            died = [said(waiter, "died") - moment for waiter in waiters]
        for process in (writer, *waiters):
            process.kill()
            process.communicate()
        return delays, died


def cost(seconds: float) -> float:
    """Return the share of one core that one waiter takes while nothing happens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run-1"
        writer = start(WRITER, folder, 1)
        waiter = start(OURS, folder, 1)
        ticks = os.sysconf("SC_CLK_TCK")

        def used() -> float:
            fields = (
                (Path("/proc") / str(waiter.pid) / "stat").read_text().rpartition(")")[2].split()
            )
            return (int(fields[11]) + int(fields[12])) / ticks

        before, begin = used(), time.monotonic()
        time.sleep(seconds)
        share = (used() - before) / (time.monotonic() - begin)
        for process in (writer, waiter):
            process.kill()
            process.communicate()
        return share


def shown(name: str, values: list[float]) -> str:
    """Return one line: median, 95th percentile and maximum in milliseconds."""
    ordered = sorted(values)
    high = ordered[int(len(ordered) * 0.95)]
    middle = statistics.median(ordered)
    return f"{name:<34} {middle * 1e3:8.1f} {high * 1e3:8.1f} {ordered[-1] * 1e3:8.1f}"


def main() -> None:
    """Time both, in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    words = parser.parse_args()
    delays: dict[str, list[float]] = {"ours": [], "recipe": []}
    died: list[float] = []
    for _ in range(words.turns):
        for kind in ("ours", "recipe"):
            found, dead = times(kind, words.workers, words.rounds, pause=0.1)
            delays[kind] += found
            died += dead
    print(f"{words.workers} waiters; milliseconds              median      95 %      max")
    print(shown("result written to result seen", delays["ours"]))
    print(shown("the same, file lock recipe", delays["recipe"]))
    print(shown("provisioner killed to known", died))
    ratio = statistics.median(delays["recipe"]) / statistics.median(delays["ours"])
    print(f"the recipe takes {ratio:.1f} times as long (medians)")
    print(f"cost of waiting: {cost(10.0) * 100:.2f} % of a core for each worker")


if __name__ == "__main__":
    main()
