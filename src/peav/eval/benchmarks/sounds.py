"""Classes of single sounds: ESC-10, ESC-50, or any folder of labeled recordings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from peav.data.manifest import Row
from peav.data.recordings import read_recordings
from peav.errors import EvaluationError, MediaError
from peav.eval.benchmarks import Benchmark
from peav.eval.embedder import RATE, Embedder
from peav.eval.protocols import Classification, linear_probe, probe, zero_shot
from peav.eval.tables import Table, classification_table
from peav.features.decode import Cut, decode_each, decode_task
from peav.features.keys import clip_key
from peav.features.logmel import log_mel_statistics

logger = logging.getLogger(__name__)
LOG_MEL = "log-mel statistics, linear probe"
SOUND = Cut(None, 1, None)  # all of it
_LOG_MEL: dict[str, np.ndarray] = {}  # by clip: those of several folders are asked for by folder, then together
TAUGHT = "zero-shot, the probes' classes"


@dataclass
class Sounds(Benchmark):
    """Classification of single sounds with a `label` (ESC-10, ESC-50), zero-shot and by a linear probe.

    Zero-shot classes are described by their captions. The probe learns from the clips that are not tested on and is
    tested on the classes that it has seen there; so does the same probe of `LOG_MEL`, which any model should beat.
    Where these are fewer classes, `TAUGHT` is zero-shot on the same clips and classes as the probes.

    Attributes:
        path: a folder of recordings.
        more: other folders, whose classes are told apart together with those of the first.
        fold: the fold to test on; None: the `test` split of `read_recordings`, which training leaves out, and which the
            data say, not the folder's name.
    """

    more: tuple[Path, ...] = ()
    fold: int | None = None

    def run(self, embedder: Embedder) -> list[Table]:
        """One table.

        Raises:
            EvaluationError: no clip to test on, or none left to learn from. ManifestError.
        """
        folders = (self.path, *self.more)
        parts = [divide(folder, self.fold) for folder in folders]
        train, test = ([row for part in side for row in part] for side in zip(*parts, strict=True))
        results = _classify(embedder, *(_readable(embedder, side) for side in (train, test)))
        held_out = "split test" if self.fold is None else f"fold {self.fold}"
        names = " and ".join(folder.name for folder in folders)
        return [classification_table(f"{names}: sounds (%), {held_out}", results)]


def _classify(embedder: Embedder, train: Sequence[Row], test: Sequence[Row]) -> list[Classification]:
    prompts: dict[str, list[str]] = {}
    for row in (*train, *test):
        known = prompts.setdefault(row.extra["label"], [])
        known.extend(caption for caption in row.captions["audio"] if caption not in known)
    learnt = {row.extra["label"] for row in train}
    probed = [row for row in test if row.extra["label"] in learnt]
    taught = {label: texts for label, texts in prompts.items() if label in learnt}
    return [
        zero_shot(embedder, test, _labels(test), prompts),
        *([replace(zero_shot(embedder, probed, _labels(probed), taught), method=TAUGHT)] if taught != prompts else []),
        linear_probe(embedder, train, _labels(train), probed, _labels(probed)),
        probe(LOG_MEL, _log_mel(train), _labels(train), _log_mel(probed), _labels(probed)),
    ]


def _log_mel(rows: Sequence[Row]) -> np.ndarray:
    """(n, D) float64."""
    return np.stack([_LOG_MEL[clip_key(row)] for row in rows])


def _readable(embedder: Embedder, rows: Sequence[Row]) -> list[Row]:
    """Those whose sound can be read, embedded and turned into log-mel statistics; the others are left out."""
    embedder.media(rows, ["audio"])
    rows = [row for row, has in zip(rows, embedder.streams(rows), strict=True) if "audio" in has]
    new = [row for row in rows if clip_key(row) not in _LOG_MEL]
    tasks = [decode_task(row.audio_path, None, row.start, row.end, SOUND) for row in new]
    for row, decoded in zip(new, decode_each(tasks, None), strict=True):
        if isinstance(decoded, MediaError):
            logger.warning("left out: %s", decoded)
        elif decoded.waveform is not None:
            _LOG_MEL[clip_key(row)] = log_mel_statistics(decoded.waveform, RATE)
    return [row for row in rows if clip_key(row) in _LOG_MEL]


def divide(folder: str | Path, fold: int | None) -> tuple[list[Row], list[Row]]:
    """The labeled clips to learn from and those to test on.

    Raises:
        EvaluationError: one of the two is empty.
    """
    rows = [row for row in read_recordings(folder) if row.extra.get("label") and row.captions.get("audio")]
    held_out = [row.split == "test" if fold is None else row.extra.get("fold") == fold for row in rows]
    train = [row for row, tested in zip(rows, held_out, strict=True) if not tested]
    test = [row for row, tested in zip(rows, held_out, strict=True) if tested]
    if not train or not test:
        folds = sorted({row.extra["fold"] for row in rows if row.extra.get("fold") is not None})
        side = "the split test" if fold is None else f"fold {fold}"
        raise EvaluationError(f"{folder}: {side} leaves no clips to test on or to learn from; it has folds {folds}")
    return train, test


def _labels(rows: Sequence[Row]) -> list[str]:
    return [row.extra["label"] for row in rows]
