"""The curves of a run as one HTML page, drawn from its log."""

from __future__ import annotations

import json
import math
from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from peav.objectives.pairs import PAIRS
from peav.utils.page import document, resource
from peav.utils.storage import write_all
from peav.utils.text import clock

POINTS = 500  # of a curve: about as many as a panel has pixels
SECTIONS = ("Loss", "Pairs", "Other losses", "Figures on validation clips", "Optimizer", "Speed")
OPTIMIZER = {"lr": "learning rate", "norm": "gradient norm"}
SPEED = {"clips_per_second": "clips a second", "seconds": "seconds a step", "wait": "seconds a step waits for data"}
SPEED |= {"memory": "GiB of memory at most", "peak_share": "share of the device's matrix-product peak"}
BAR = (
    '<div class="bar"><label>smoothing <input id="smoothing" type="range" min="0" max="0.98" step="0.02" value="0.8">'
    '</label><label>step <input id="step" type="range"><output></output></label>'
    '<label><input id="log" type="checkbox"> logarithmic</label></div>'
)


def write_curves(output: str | Path) -> Path:
    """Draw the page of a run anew: `curves.html` in its folder, whose path is returned.

    Raises FileNotFoundError where the folder has no `log.jsonl`.
    """
    return Curves(Path(output)).write()


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of the log by one name each: `loss`, `losses/a_ac`, `eval/t2a`, `clips_per_second`."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{part}": number for part, number in value.items()}
        elif name not in ("step", "clips"):
            found[name] = value
    if "clips" in record:
        found["clips_per_second"] = record["clips"] / max(record["seconds"], 1e-3)  # logged to thousandths
    return found


@dataclass(frozen=True)
class Curve:
    """The values of one name, and the steps that have it."""

    steps: array[int] = field(default_factory=lambda: array("i"))
    values: array[float] = field(default_factory=lambda: array("f"))

    def points(self) -> dict[str, list[float]]:
        """At most `POINTS` stretches of steps: `x`, the last of each, and `mean`; `low` and `high` of long curves."""
        values, steps = np.array(self.values, np.float64), np.array(self.steps)
        count = min(len(values), POINTS)
        edges = np.arange(count + 1) * len(values) // count
        starts = edges[:-1]
        found = {"mean": np.add.reduceat(values, starts) / np.diff(edges)}
        if len(values) > count:
            found |= {"low": np.minimum.reduceat(values, starts), "high": np.maximum.reduceat(values, starts)}
        short = {name: [float(f"{value:.5g}") for value in some] for name, some in found.items()}
        return {"x": steps[edges[1:] - 1].tolist(), **short}

    def best(self) -> tuple[int, float]:
        """The step of the highest value, and the value."""
        place = int(np.argmax(self.values))
        return self.steps[place], round(self.values[place], 4)


class Curves:
    """Reads a run's log as it grows, each line once. The page has a bounded size, however long the run."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._curves: defaultdict[str, Curve] = defaultdict(Curve)
        self._read = 0  # bytes

    def write(self) -> Path:
        """Draw `curves.html` of all whole lines. Raises FileNotFoundError."""
        self._read_on()
        names = sorted((name for name in self._curves if not _is_chance(name)), key=_section)
        body = f"<header><h1>{escape(self.output.name)}</h1><p>{self._summary()}</p></header><main>{BAR}"
        for place, some in groupby(names, _section):
            figures = "".join(map(self._figure, some))
            body += f'<section><h2>{SECTIONS[place]}</h2><div class="panels">{figures}</div></section>'
        style, script = (resource("peav.train", "templates", f"curves.{kind}") for kind in ("css", "js"))
        path = self.output / "curves.html"
        data = {name: self._panel(name) for name in names}
        write_all(path, document(f"{self.output.name}: curves", f"{body}</main>", style, script, data))
        return path

    def _read_on(self) -> None:
        """Take in the lines that are new; a process may be writing the last one, or was killed when it did."""
        with open(self.output / "log.jsonl", "rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                record = json.loads(line)
                for name, value in scalars(record).items():
                    if math.isfinite(value):
                        curve = self._curves[name]
                        curve.steps.append(record["step"])
                        curve.values.append(value)

    def _summary(self) -> str:
        """How far the run is, and how long its steps took."""
        steps = self._curves["loss"].steps[-1] if "loss" in self._curves else 0
        took, waited = (sum(self._curves.get(name, Curve()).values) for name in ("seconds", "wait"))
        return f"{steps:,} steps in {clock(took)}, {100 * waited / max(took, 1e-9):.1f} % of it waiting for data"

    def _panel(self, name: str) -> dict[str, Any]:
        """What curves.js draws."""
        found: dict[str, Any] = self._curves[name].points()
        if name == "lr":
            return found | {"kind": "exact"}
        if not name.startswith("eval/"):
            return found | {"kind": "speed" if name in SPEED else "loss"}
        chance = self._curves.get(f"{name}_chance", self._curves.get("eval/chance"))
        return found | {
            "kind": "figure",
            "best": self._curves[name].best(),
            "chance": None if chance is None else round(chance.values[-1], 4),
        }

    def _figure(self, name: str) -> str:
        curve = self._curves[name]
        title = escape((OPTIMIZER | SPEED).get(name, name.partition("/")[2] or name))
        label = f"{title}: " + " and ".join(
            f"{curve.values[at]:.4g} at step {curve.steps[at]}" for at in dict.fromkeys((0, len(curve.steps) - 1))
        )
        best = "best {1:.4g} at step {0}".format(*curve.best()) if name.startswith("eval/") else ""
        return (
            f'<figure data-name="{escape(name)}"><figcaption><b>{title}</b> <small>{best}</small> <span></span>'
            f'</figcaption><svg role="img" aria-label="{label}{", " * bool(best)}{best}"></svg></figure>'
        )


def _is_chance(name: str) -> bool:
    """Whether it is what guessing would give, a line in another panel."""
    return name.startswith("eval/") and name.endswith("chance")


def _section(name: str) -> int:
    """Which of `SECTIONS` a curve belongs to."""
    group, _, own = name.partition("/")
    if group == "losses":
        return 1 if own in PAIRS else 2
    if group == "eval":
        return 3
    return 0 if name == "loss" else 4 if name in OPTIMIZER else 5
