"""The relative error of every output on the golden checkpoints, in both public layouts, both clips, fp32.

python benchmarks/parity.py            (seconds; needs the golden checkpoints beside the checkout)
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from peav.checkpoint import load_model
from peav.model import PEAV

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden"
sys.path.insert(0, str(ROOT / "tests" / "model"))

from golden_data import LAYOUTS, load_clip, relative_error, run_peaframe, run_peav  # noqa: E402


def main() -> None:
    if not GOLDEN.is_dir():
        sys.exit(f"{GOLDEN} is absent: it holds the golden checkpoints")
    worst: dict[tuple[str, str], float] = {}
    for family, outputs in (("pe-av", "outputs_pe_av"), ("pe-a-frame", "outputs_pe_a_frame")):
        reference = load_file(GOLDEN / f"{outputs}.safetensors")
        for layout in LAYOUTS:
            model = load_model(GOLDEN / f"{family}-{layout}")
            run = run_peav if isinstance(model, PEAV) else run_peaframe
            for index in (0, 1):
                for name, value in run(model, load_clip(GOLDEN, index)).items():
                    key = (f"{family} {name}", layout)
                    worst[key] = max(worst.get(key, 0.0), relative_error(value, reference[f"clip{index}.{name}"]))
    table = Table("output", *LAYOUTS, title="relative error to the original, the worse of two clips")
    for name in dict.fromkeys(name for name, _ in worst):
        table.add_row(name, *(f"{worst[name, layout]:.1e}" for layout in LAYOUTS))
    Console().print(table)
    print(f"largest: {max(worst.values()):.1e} (promised: 2e-5)")


if __name__ == "__main__":
    main()
