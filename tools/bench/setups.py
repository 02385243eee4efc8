"""The same system brought up by scripts, by other plugins and by us, in turns within one run.

A project is generated: a base image, services that start from it, and edges between them. Its
images are made up (large, and costly to build) or those of the example. Each contender gets it with
contents that nobody built yet (cold), then the same with a new cluster (warm); some then get one
byte edited with the cluster kept (edit).
Time ends when every service has answered on its port of this host with the right text, which this
program asks itself. Method: as many rounds as asked for, contenders in another order each time;
ratios are of medians, with an interval from pairs. `picture.py` draws what `--json` wrote.

    tools/bench/setups.py [--rounds 3] [--only best,ours] [--edges applied] [--json FILE]
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

from bringing import Bench, remove_images
from contenders import CONTENDERS, EDITORS
from contents import Sizes
from figures import quartiles, ratio
from generated import make_project

ROOT = Path(__file__).parents[2]


def measure(words: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return seconds by state (cold, warm, edit) and contender, one for each round."""
    found: dict[str, dict[str, list[float]]] = {state: {} for state in words.states.split(",")}
    names = words.only.split(",") if words.only else list(CONTENDERS)
    for number in range(words.rounds):
        for name in random.sample(names, len(names)):
            for state, seconds in bring_up(name, words).items():
                found[state].setdefault(name, []).append(seconds)
                print(f"{number + 1} {state} {name:<16} {seconds:6.1f}", flush=True)
            remove_images()
    return found


def bring_up(name: str, words: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of one contender by state, in a project of its own."""
    seconds = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        salt = secrets.token_hex(8)
        make_project(Path(folder), salt=salt, edges=words.edges, sizes=words.sizes)
        for state in words.states.split(","):
            bench = Bench(Path(folder), salt, words.edges, words.node_image, words.peers)
            if state != "edit":
                seconds[state] = bench.run(CONTENDERS[name])
            elif name in EDITORS:
                seconds[state] = bench.run_after_edit(CONTENDERS[name])
    return seconds


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """Print medians, quartiles, and how ours compares."""
    for state, by_name in found.items():
        print(f"\n{state}: seconds until every endpoint has answered")
        for name, values in sorted(by_name.items(), key=lambda item: quartiles(item[1])[1]):
            low, middle, high = quartiles(values)
            line = f"  {middle:6.1f} ({low:.1f} to {high:.1f})  {CONTENDERS[name].about}"
            if "ours" in by_name and name != "ours":
                part, least, most = ratio(by_name["ours"], values)
                line += f"; ours takes {part:.2f} of it ({least:.2f} to {most:.2f})"
            print(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="contenders, parted by commas: " + ", ".join(CONTENDERS))
    parser.add_argument("--states", default="cold,warm,edit", help="in this order; cold is first")
    parser.add_argument("--edges", choices=("ready", "applied"), default="ready")
    parser.add_argument("--images", choices=("made-up", "example"), default="made-up")
    parser.add_argument("--node-image", default="kindest/node:v1.34.4")
    parser.add_argument("--peers", type=Path, default=ROOT / ".tools/peers/bin/python")
    parser.add_argument("--base-mb", type=int, default=20, help="beside python:3.11-slim's 180")
    parser.add_argument("--own-mb", type=int, default=50)
    parser.add_argument("--burn", type=float, default=3.0, help="CPU seconds of each build")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    made_up = Sizes(base_mb=words.base_mb, own_mb=words.own_mb, burn=words.burn)
    words.sizes = made_up if words.images == "made-up" else None
    found = measure(words)
    show(found)
    if words.json:
        about = {name: one.about for name, one in CONTENDERS.items()}
        sizes = asdict(words.sizes) if words.sizes else "example"
        document = {"edges": words.edges, "sizes": sizes, "about": about, "seconds": found}
        words.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
