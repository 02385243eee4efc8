"""The same system brought up by scripts, by other plugins and by us, in turns within one run.

A project is generated: a base image, services that start from it, and edges between them. Its
images are made up (large, and costly to build) or those of the example. Each contender gets the
states that were asked for, in their order:

    first     contents that nobody built yet, and no snapshot on the machine
    cold      contents that nobody built yet; a snapshot may be there
    warm      the contents of the state before, in a new cluster
    snapshot  as warm, after `kindinfra snapshot make` (ours only)
    edit      one byte edited, the cluster kept (who has a way of doing so)

Time ends when every service has answered on its port of this host with the right text, which this
program asks itself. Processor time is that of the whole machine meanwhile, so nothing else should
run. Method: as many rounds as asked for, contenders in another order each time;
ratios are of medians, with an interval from pairs. `picture.py` draws what `--json` wrote.

    tools/bench/setups.py [--rounds 3] [--only best,ours] [--edges applied] [--json FILE]
                           [--against CHECKOUT]
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bringing import Bench, Spent, remove_images
from contenders import CONTENDERS, EDITORS, Contender, other_version
from contents import Sizes
from figures import quartiles, ratio
from generated import make_project

ROOT = Path(__file__).parents[2]
NEW_CONTENTS = ("first", "cold")


Figures = dict[str, dict[str, list[float]]]
"""By state and contender, one for each round."""


def measure(words: argparse.Namespace) -> tuple[Figures, Figures]:
    """Return the seconds, and the seconds of processor time."""
    found: Figures = {state: {} for state in words.states.split(",")}
    worked: Figures = {state: {} for state in found}
    for number in range(words.rounds):
        for name in random.sample(words.names, len(words.names)):
            for state, spent in bring_up(name, words).items():
                found[state].setdefault(name, []).append(spent.seconds)
                worked[state].setdefault(name, []).append(spent.processor)
                figures = f"{spent.seconds:6.1f} s {spent.processor:6.1f} CPU-s"
                print(f"{number + 1} {state:<8} {name:<16} {figures}", flush=True)
            remove_images()
    return found, worked


def bring_up(name: str, words: argparse.Namespace) -> dict[str, Spent]:
    """Return what one contender spent by state, in projects of its own."""
    spent = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = None
        for state in words.states.split(","):
            if bench is None or state in NEW_CONTENTS:
                project = Path(folder) / state
                project.mkdir()
                salt = secrets.token_hex(8)
                make_project(project, salt=salt, edges=words.edges, sizes=words.sizes)
                bench = Bench(project, salt, words.edges, words.node_image, words.peers)
            one = bring_up_once(bench.anew(), CONTENDERS[name], state)
            spent.update({state: one} if one else {})
    return spent


def bring_up_once(bench: Bench, contender: Contender, state: str) -> Spent | None:
    """Return what one state took; None if the contender has no way of it."""
    if state == "edit":
        return bench.run_after_edit(contender) if contender.name in EDITORS else None
    if state == "snapshot":
        if not contender.snapshots:
            return None
        bench.make_snapshot()
    if state == "first":
        bench.remove_snapshots()
    return bench.run(contender)


def show(found: Figures, worked: Figures) -> None:
    """Print medians, quartiles, processor time, and how ours compares."""
    for state, by_name in found.items():
        print(f"\n{state}: seconds until every endpoint has answered")
        for name, values in sorted(by_name.items(), key=lambda item: quartiles(item[1])[1]):
            low, middle, high = quartiles(values)
            processor = quartiles(worked[state][name])[1]
            line = f"  {middle:6.1f} ({low:.1f} to {high:.1f})  {processor:5.1f} CPU-s"
            line += f"  {CONTENDERS[name].about}"
            if "ours" in by_name and name != "ours":
                part, least, most = ratio(by_name["ours"], values)
                line += f"; ours takes {part:.2f} of it ({least:.2f} to {most:.2f})"
            print(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="contenders, parted by commas: " + ", ".join(CONTENDERS))
    parser.add_argument("--states", default="cold,warm,edit", help="in this order")
    parser.add_argument("--edges", choices=("ready", "applied"), default="ready")
    parser.add_argument("--images", choices=("made-up", "example"), default="made-up")
    parser.add_argument("--node-image", default="kindest/node:v1.34.4")
    parser.add_argument("--peers", type=Path, default=ROOT / ".tools/peers/bin/python")
    parser.add_argument("--base-mb", type=int, default=20, help="beside python:3.11-slim's 180")
    parser.add_argument("--own-mb", type=int, default=50)
    parser.add_argument("--burn", type=float, default=3.0, help="CPU seconds of each build")
    parser.add_argument("--against", type=Path, help="a checkout of another version of ours")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    made_up = Sizes(base_mb=words.base_mb, own_mb=words.own_mb, burn=words.burn)
    words.sizes = made_up if words.images == "made-up" else None
    if words.against:
        CONTENDERS["other"] = other_version(words.against.resolve())
    words.names = words.only.split(",") if words.only else list(CONTENDERS)
    found, worked = measure(words)
    show(found, worked)
    if words.json:
        about = {name: one.about for name, one in CONTENDERS.items()}
        sizes = asdict(words.sizes) if words.sizes else "example"
        document = {
            "edges": words.edges,
            "sizes": sizes,
            "about": about,
            "seconds": found,
            "processor": worked,
        }
        words.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
