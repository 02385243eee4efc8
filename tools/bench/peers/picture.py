"""Draw what `setups.py --json` wrote: a row for each contender, a panel for each state.

.tools/peers/bin/python tools/bench/peers/picture.py bench.json bench.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

OURS, THEIRS = "#2a6fdb", "#b5bcc7"


def draw(document: dict, path: Path) -> None:
    """Draw medians as bars and each round as a dot."""
    states = {state: found for state, found in document["seconds"].items() if found}
    rows = [len(found) for found in states.values()]
    figure = Figure(figsize=(9, 1.2 + 0.42 * sum(rows)), layout="constrained")
    panels = figure.subplots(len(states), squeeze=False, height_ratios=rows)
    for panel, (state, found) in zip(panels[:, 0], states.items(), strict=True):
        names = sorted(found, key=lambda name: -median(found[name]))
        labels = [f"{document['about'][name]}  {median(found[name]):.1f} s" for name in names]
        colours = [OURS if name == "ours" else THEIRS for name in names]
        panel.barh(labels, [median(found[name]) for name in names], color=colours)
        for label, name in zip(labels, names, strict=True):
            panel.plot(found[name], [label] * len(found[name]), "o", color="#333", markersize=3)
        panel.set_title(state, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel("seconds until every endpoint has answered")
    figure.savefig(path)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
