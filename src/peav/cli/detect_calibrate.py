"""`peav detect calibrate`: a threshold for every label from a few recordings with marked events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from peav.cli import options
from peav.cli.console import err, fail, out, print_json, shown
from peav.cli.detect_eval import Results, Truth


def detect_calibrate(
    found: Results,
    truth: Truth,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of thresholds, for --threshold.")],
    median: options.Median = 0.0,
    as_json: options.Json = False,
) -> None:
    """Fit a threshold for each label: the one at which the F1 of its frames is highest.

    Needs scores: run `peav detect FILES --labels ... -o FOLDER --scores` first, then this on FOLDER, and give what it
    writes to `peav detect --threshold`. Of equal thresholds it takes the highest. Labels without a marked event are
    left out and keep 0.3. Give the --median that you will detect with.
    """
    from peav.eval.detection_tables import read_result_scores
    from peav.events.formats import read_events
    from peav.events.thresholds import fit_thresholds, write_thresholds

    true = read_events(truth, folders=True)
    scores = read_result_scores(found, true)
    if scores is None:
        fail(f"{found}: no scores in it; run peav detect with --scores")
    both = sorted(set(scores) & set(true))
    if not both:
        fail(f"no recording is on both sides: {min(scores)} was judged, {min(true, default='none')} is true")
    thresholds = fit_thresholds([scores[name] for name in both], [true[name] for name in both], median)
    write_thresholds(output, thresholds)
    left_out = [label for label in scores[both[0]].labels if label not in thresholds]
    if as_json:
        print_json({"thresholds": thresholds, "recordings": len(both), "left_out": left_out, "output": str(output)})
        return
    for label, value in thresholds.items():
        out.print(f"{value:.3f}  {label}", markup=False, highlight=False)
    if left_out:
        err.print(f"[yellow]note:[/] {len(left_out)} labels have no event and keep 0.3: {escape(', '.join(left_out))}")
    out.print(f"{shown(output)}: thresholds from {len(both)} recordings")
