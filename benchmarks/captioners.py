"""Which sounds weak captions name: the share of clips whose caption has the label or a synonym.

    pip install ai-edge-litert
    python benchmarks/captioners.py                         ESC-10 fold 3, which tiny did not train on
    python benchmarks/captioners.py --fold 1 --fold 2       clips that options may be chosen by (tiny knows them)

Right: a word of the clip's label in esc_synonyms.yaml stands in the caption. Another: a word of another label of these
clips does, or of any, where all clips have one label. Silent: the caption is empty. Words: of a caption, on average.
CPU seconds: a clip, without decoding. In brackets, 95 % of bootstrap samples of the clips.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table

from peav.data.manifest import Row
from peav.data.recordings import read_recordings
from peav.engine.captioners.audio_tagger import AudioTagger
from peav.engine.captioners.base import Captioner
from peav.engine.captioners.tagger import Tagger
from peav.engine.clip import Answer, Clip, Sample
from peav.features.decode import Decoded
from peav.media import load_audio

SYNONYMS = Path(__file__).with_name("esc_synonyms.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/esc10"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"), help="with YAMNet in it")
    parser.add_argument("--fold", type=int, action="append")
    parser.add_argument("--texts", action="store_true", help="print every caption")
    parser.add_argument("--top", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for row in read_recordings(options.data) if row.extra["fold"] in (options.fold or [3])]
    samples = [Sample(Clip(row.id, row), Decoded(load_audio(row.audio_path), None)) for row in rows if row.audio_path]
    table = Table("captioner", "right", "another", "silent", "words", "CPU s", title=f"{len(rows)} clips")
    for title, captioner in captioners(options.models, options.top):
        captioner.setup()
        begin = time.process_time()
        texts = [texts_of(captioner, sample) for sample in samples]
        seconds = (time.process_time() - begin) / len(samples)
        table.add_row(title, *figures(rows, texts), f"{seconds:.3f}")
        if options.texts:
            Console(width=120).print(*(f"{row.id}: {text}" for row, text in zip(rows, texts, strict=True)), sep="\n")
    Console(width=120).print(table)


def captioners(models: Path, top: int) -> Iterator[tuple[str, Captioner]]:
    files = str(models / "yamnet.tflite"), str(models / "yamnet_class_map.csv")
    yield "tiny", Tagger("tiny", device="cpu", top=top)
    yield "YAMNet", AudioTagger("yamnet", *files, top=top)
    yield "YAMNet, mean", AudioTagger("yamnet", *files, top=top, pool="mean")


def texts_of(captioner: Captioner, sample: Sample) -> str:
    ((_, answer),) = captioner([sample])
    if not isinstance(answer, Answer):
        raise answer
    return str(answer.value)


def figures(rows: list[Row], texts: list[str]) -> list[str]:
    words = yaml.safe_load(SYNONYMS.read_text(encoding="utf-8"))
    labels = {row.extra["label"] for row in rows}
    labels = labels if len(labels) > 1 else set(words)
    named = [{label for label in labels if names(words[label], text)} for text in texts]
    right = np.array([row.extra["label"] in found for row, found in zip(rows, named, strict=True)])
    another = np.array([bool(found - {row.extra["label"]}) for row, found in zip(rows, named, strict=True)])
    silent = np.array([not text for text in texts])
    return [share(right), share(another), share(silent), f"{np.mean([len(text.split()) for text in texts]):.1f}"]


def names(words: str, text: str) -> bool:
    """Whether one of the words, a regular expression, stands in a text."""
    return re.search(rf"\b({words})\b", text, re.IGNORECASE) is not None


def share(hits: np.ndarray) -> str:
    """A share in %, with the 95 % of bootstrap samples (10 000, seed 0)."""
    drawn = np.random.default_rng(0).integers(len(hits), size=(10_000, len(hits)))
    low, high = np.percentile(hits[drawn].mean(1), [2.5, 97.5])
    return f"{hits.mean():.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    main()
