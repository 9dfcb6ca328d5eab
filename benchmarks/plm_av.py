"""Whether a captioner (PLM-AV) names the right sound, on clips that neither it nor `tiny` was trained on.

    peav train plm_av_tiny                                  docs/captioning.md says what it needs
    python benchmarks/plm_av.py runs/plm_av_tiny/model      ESC-10 fold 3

Beside it: `tiny` zero-shot over its shipped vocabulary, and the same captioner told of each clip with the sound of
another one. Columns as in captioners.py; the sounds' words are those of esc_synonyms.yaml, fixed beforehand. Then what
it says of silence and of noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from captioners import figures
from rich.console import Console
from rich.table import Table

from peav.captioner import Captioner
from peav.data.manifest import Row
from peav.data.recordings import read_recordings
from peav.engine.captioners.tagger import Tagger
from peav.engine.clip import Answer, Clip, Sample
from peav.features.decode import Decoded
from peav.media import load_audio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/esc10"))
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--prompt", default="caption")
    asked = parser.parse_args()
    rows = [row for row in read_recordings(asked.data) if row.extra["fold"] == asked.fold]
    table = Table("captions", "right", "another", "silent", "words", title=f"{len(rows)} clips")
    table.add_row("tiny, zero-shot by the template", *figures(rows, tagged(rows)))
    said = []
    for model in asked.model:
        captioner = Captioner.load(model)
        texts = captioner.caption([row.audio_path for row in rows], asked.prompt, max_new_tokens=24)
        table.add_row(model, *figures(rows, texts))
        half = len(rows) // 2  # the rows stand by class: half of them away is another one
        table.add_row(f"{model}, shuffled", *figures(rows, [*texts[half:], *texts[:half]]))
        draw = np.random.default_rng(0)
        nothing = [np.zeros(240_000, np.float32), 0.1 * draw.standard_normal(240_000).astype(np.float32)]
        said += [(model, *captioner.caption(nothing, asked.prompt, sampling_rate=48_000, max_new_tokens=24))]
    console = Console(width=120)
    console.print(table)
    for model, silence, noise in said:
        console.print(f"{model}: of silence: {silence!r}; of noise: {noise!r}", markup=False)


def tagged(rows: list[Row]) -> list[str]:
    """What `tiny` says, zero-shot."""
    tagger = Tagger(name="tiny", kind="audio", model="tiny")
    tagger.setup()
    samples = [Sample(Clip(row.id, row), Decoded(load_audio(row.audio_path), None)) for row in rows]
    answers = dict(tagger(samples))
    return [answer.value if isinstance(answer, Answer) else "" for _, answer in sorted(answers.items())]


if __name__ == "__main__":
    main()
