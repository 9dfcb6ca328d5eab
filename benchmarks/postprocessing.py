"""How scores are best made into events: chosen on every second of marked recordings, judged on the others, and back.

    peav detect RECORDINGS --labels-file labels.txt -o out --scores
    python benchmarks/postprocessing.py out/scores ../shared/data/sed_mix/manifest.jsonl     (some minutes)

One setting after the other takes the value of highest event F1 (all labels together), until none changes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from peav.eval.detection import Events, Scores, event_counts, micro
from peav.eval.detection_tables import read_result_scores
from peav.events import Postprocessing, find_events
from peav.events.formats import read_events

START = Postprocessing(0.5, median=0.36, min_gap=0.2, min_length=0.2)
GRID = {
    "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    "median": (0.0, 0.2, 0.36, 0.52, 0.68, 0.76, 0.92, 1.08),
    "low": (0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
    "min_gap": (0.0, 0.2, 0.32, 0.48, 0.72, 1.0),
    "min_length": (0.0, 0.12, 0.2, 0.32, 0.48, 0.64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, help="a folder of score tables")
    parser.add_argument("truth", type=Path, help="what `peav detect eval` takes")
    options = parser.parse_args()
    truth = read_events(options.truth, folders=True)
    scores = read_result_scores(options.scores, truth) or {}
    halves = [{name: scores[name] for name in sorted(scores)[first::2]} for first in (0, 1)]
    for name, here, there in (("first, third, ...", *halves), ("second, fourth, ...", *reversed(halves))):
        how = chosen(here, truth)
        figures = (event_f1(part, truth, how) for part in (here, there, scores))
        print(f"{name}\n  {how}\n  F1 here {next(figures):.1f}, on the others {next(figures):.1f}, on all", end=" ")
        print(f"{next(figures):.1f}")


def chosen(scores: Scores, truth: Events) -> Postprocessing:
    """The settings of highest event F1, found one after the other; of equals the highest value."""
    how, best = START, event_f1(scores, truth, START)
    while True:
        before = how
        for name, values in GRID.items():
            figures = [(event_f1(scores, truth, replace(how, **{name: value})), value) for value in values]
            if max(figures)[0] > best:
                best, value = max(figures)
                how = replace(how, **{name: value})
        if how == before:
            return how


def event_f1(scores: Scores, truth: Events, how: Postprocessing) -> float:
    """F1 in percent, all labels counted together."""
    found = {name: find_events(one, how) for name, one in scores.items()}
    labels = next(iter(scores.values())).labels
    return 100 * micro(event_counts(found, {name: truth.get(name, ()) for name in scores}, labels=labels)).f1


if __name__ == "__main__":
    main()
