"""The benchmarks of `peav eval`: which rows, which protocol, one table each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from peav.data.manifest import Row, read_manifest
from peav.data.recordings import read_recordings
from peav.errors import EvaluationError, MediaError
from peav.eval.directions import WORLD
from peav.eval.embedder import RATE, Embedder
from peav.eval.grid import CANDIDATES, retrievals
from peav.eval.protocols import (
    KS,
    Classification,
    Retrieval,
    linear_probe,
    probe,
    retrieval,
    zero_shot,
)
from peav.eval.tables import Column, Table
from peav.features.cache import clip_key
from peav.features.decode import Cut, decode_each, decode_task
from peav.features.logmel import log_mel_statistics

LOG_MEL = "log-mel statistics, linear probe"
SOUND = Cut(None, 1, None)  # all of it
_LOG_MEL: dict[str, np.ndarray] = {}  # by clip: those of several folders are asked for by folder, then together
TAUGHT = "zero-shot, the probes' classes"


def world(embedder: Embedder, manifest: str | Path, split: str = "test", candidates: int = 256, seed: int = 0) -> Table:
    """Retrieval in seven directions among one split of any manifest.

    Raises:
        EvaluationError: the split has fewer than two rows that any direction can use. ManifestError.
    """
    rows = read_manifest(manifest, split)
    results = retrieval(embedder, rows, WORLD, candidates, seed)
    if not results:
        raise EvaluationError(f"{manifest}: no direction has two rows in the split {split!r} ({len(rows)} rows)")
    return retrieval_table(f"{Path(manifest).parent.name}: retrieval (%), split {split}", results)


def sounds(embedder: Embedder, folders: Sequence[str | Path], fold: int | None = None) -> Table:
    """Classification of single sounds with a `label` (ESC-10, ESC-50), zero-shot and by a linear probe.

    Zero-shot classes are described by their captions. The probe learns from the clips that are not tested on and is
    tested on the classes that it has seen there; so does the same probe of `LOG_MEL`, which any model should beat.
    Where these are fewer classes, `TAUGHT` is zero-shot on the same clips and classes as the probes.

    Args:
        folders: one set of recordings; the classes of several together are told apart.
        fold: the fold to test on; None: the `test` split of `read_recordings`, which training leaves out, and which the
            data say, not the folder's name.

    Raises:
        EvaluationError: no clip to test on, or none left to learn from. ManifestError.
    """
    parts = [divide(folder, fold) for folder in folders]
    train, test = ([row for part in side for row in part] for side in zip(*parts, strict=True))
    train, test = (_readable(embedder, side) for side in (train, test))
    prompts: dict[str, list[str]] = {}
    for row in (*train, *test):
        known = prompts.setdefault(row.extra["label"], [])
        known.extend(caption for caption in row.captions["audio"] if caption not in known)
    learnt = {row.extra["label"] for row in train}
    probed = [row for row in test if row.extra["label"] in learnt]
    taught = {label: texts for label, texts in prompts.items() if label in learnt}
    results = [
        zero_shot(embedder, test, _labels(test), prompts),
        *([replace(zero_shot(embedder, probed, _labels(probed), taught), method=TAUGHT)] if taught != prompts else []),
        linear_probe(embedder, train, _labels(train), probed, _labels(probed)),
        probe(LOG_MEL, _log_mel(train), _labels(train), _log_mel(probed), _labels(probed)),
    ]
    held_out = "split test" if fold is None else f"fold {fold}"
    names = " and ".join(Path(folder).name for folder in folders)
    return classification_table(f"{names}: sounds (%), {held_out}", results)


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
            warnings.warn(f"left out: {decoded}", stacklevel=2)
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


def grid(
    embedder: Embedder, folder: str | Path, split: str | None = "test", candidates: int = CANDIDATES, seed: int = 0
) -> Table:
    """Sentences of the GRID corpus, see `eval.grid.retrievals`.

    Args:
        split: `test` or `train` of `read_recordings`; None: all clips, for a model that was trained on none.

    Raises:
        EvaluationError: fewer than two clips. ManifestError.
    """
    rows = read_recordings(folder, split)
    results = retrievals(embedder, rows, candidates, seed)
    if not results:
        raise EvaluationError(f"{folder}: no direction has two rows in the split {split!r} ({len(rows)} rows)")
    return retrieval_table(f"{Path(folder).name}: sentences (%), split {split or 'all'}", results)


def retrieval_table(title: str, results: Sequence[Retrieval]) -> Table:
    """Directions down; recall (per cent), its chance and the median rank across; narrow enough for 80 columns.

    The plain data hold the chance at every k, the number of queries and the mean reciprocal rank as well.
    """
    columns = [
        Column("direction", "direction"),
        Column("targets", "targets", "count"),
        *(Column(f"recall@{k}", f"R@{k}", "percent") for k in KS),
        Column("chance@1", "chance@1", "percent"),
        Column("median_rank", "median", "decimal"),
    ]
    rows = [
        {
            "direction": result.direction,
            "queries": result.queries,
            "targets": result.targets,
            **{f"recall@{k}": value for k, value in result.recall.items()},
            **{f"chance@{k}": value for k, value in result.chance.items()},
            "median_rank": result.median_rank,
            "mrr": result.mrr,
        }
        for result in results
    ]
    return Table(title, columns, rows)


def classification_table(title: str, results: Sequence[Classification]) -> Table:
    """Methods down; accuracy and the share of the commonest class across."""
    columns = [
        Column("method", "method"),
        Column("clips", "clips", "count"),
        Column("classes", "classes", "count"),
        Column("accuracy", "accuracy", "percent"),
        Column("chance", "chance", "percent"),
    ]
    return Table(title, columns, [vars(result) for result in results])
