"""`peav detect calibrate`: a threshold for every label from a few recordings with marked events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.console import err, escape, fail, out, print_json, shown
from peav.cli.detect_eval import Results, Truth, settings
from peav.utils.text import counted


def detect_calibrate(
    found: Results,
    truth: Truth,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of thresholds, for --threshold.")],
    min_events: Annotated[
        int, typer.Option(min=1, help="Labels with fewer marked events are not fitted; they keep the model's own.")
    ] = 5,
    split: Annotated[str | None, typer.Option(help="Of a manifest, fit on the recordings of this split alone.")] = None,
    median: options.Median = None,
    as_json: options.Json = False,
) -> None:
    """Fit a threshold for each label: the one at which the F1 of its frames is highest.

    Needs scores: run `peav detect FILES --labels ... -o FOLDER --scores` first, then this on FOLDER, and give what it
    writes to `peav detect --threshold`. Of equal thresholds it takes the highest. Labels with fewer events than
    --min-events, and those whose threshold would be below 0.01, are left out: they keep the model's own threshold.
    Scores are median-filtered as in the run that wrote them, or by --median, which `peav detect` then needs too.
    """
    from peav.eval.detection_tables import read_result_scores
    from peav.events.formats import read_events
    from peav.events.thresholds import LOWEST, doubtful, fit_thresholds, write_thresholds

    true = read_events(truth, folders=True, split=split)
    scores = read_result_scores(found, true)
    if scores is None:
        fail(f"{found}: no scores in it; run peav detect with --scores")
    both = sorted(set(scores) & set(true))
    if not both:
        fail(f"no recording is on both sides: {min(scores)} was judged, {min(true, default='none')} is true")
    seconds = settings(found).median if median is None else median
    fitted = fit_thresholds([scores[name] for name in both], [true[name] for name in both], seconds)
    left_out = doubtful(scores[both[0]].labels, fitted, [true[name] for name in both], min_events)
    thresholds = {label: value for label, value in fitted.items() if label not in left_out}
    write_thresholds(output, thresholds)
    if left_out:
        err.print(
            f"[yellow]warning:[/] {counted(len(left_out), 'label')} left with the model's own threshold, for want of "
            f"events (fewer than {min_events}) or of scores that tell them (below {LOWEST}): "
            + escape(", ".join(f"{label} ({why})" for label, why in left_out.items())),
            soft_wrap=True,
        )
    if as_json:
        found_all = {"thresholds": thresholds, "recordings": len(both), "left_out": left_out}
        print_json(found_all | {"median": seconds, "output": str(output)})
        return
    for label, value in thresholds.items():
        out.print(f"{value:.3f}  {label}", markup=False, highlight=False)
    out.print(f"{shown(output)}: thresholds from {counted(len(both), 'recording')}")
