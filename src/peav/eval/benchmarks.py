"""The benchmarks of `peav eval`: which rows, which protocol, one table each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from peav.data.logmel import log_mel_statistics
from peav.data.manifest import Row, read_manifest
from peav.data.recordings import read_recordings
from peav.eval.embedder import Embedder
from peav.eval.grid import CANDIDATES, retrievals
from peav.eval.protocols import (
    KS,
    WORLD_DIRECTIONS,
    Classification,
    ProtocolError,
    Retrieval,
    linear_probe,
    probe,
    retrieval,
    zero_shot,
)
from peav.eval.tables import Column, Table
from peav.media import load_audio

LOG_MEL = "log-mel statistics, linear probe"
TAUGHT = "zero-shot, the probes' classes"


def world(embedder: Embedder, manifest: str | Path, split: str = "test", candidates: int = 256, seed: int = 0) -> Table:
    """Retrieval in seven directions among one split of any manifest.

    Raises:
        ProtocolError: the split has fewer than two rows that any direction can use. ManifestError, MediaError.
    """
    rows = read_manifest(manifest, split)
    results = retrieval(embedder, rows, WORLD_DIRECTIONS, candidates, seed)
    if not results:
        raise ProtocolError(f"{manifest}: no direction has two rows in the split {split!r} ({len(rows)} rows)")
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
        ProtocolError: no clip to test on, or none left to learn from. ManifestError, MediaError.
    """
    parts = [divide(folder, fold) for folder in folders]
    train, test = ([row for part in side for row in part] for side in zip(*parts, strict=True))
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
    statistics = []
    for row in rows:
        assert isinstance(row.audio_path, Path), "read_recordings gives every row a whole file"
        statistics.append(_log_mel_of(row.audio_path, row.start or 0.0, row.end))
    return np.stack(statistics)


@lru_cache(4096)  # the clips of several folders are asked for by folder, then together
def _log_mel_of(sound: Path, start: float, end: float | None) -> np.ndarray:
    rate = 48000
    return log_mel_statistics(load_audio(sound, start=start, end=end, sampling_rate=rate), rate)


def divide(folder: str | Path, fold: int | None) -> tuple[list[Row], list[Row]]:
    """The labelled clips to learn from and those to test on.

    Raises:
        ProtocolError: one of the two is empty.
    """
    rows = [row for row in read_recordings(folder) if row.extra.get("label") and row.captions.get("audio")]
    held_out = [row.split == "test" if fold is None else row.extra.get("fold") == fold for row in rows]
    train = [row for row, tested in zip(rows, held_out, strict=True) if not tested]
    test = [row for row, tested in zip(rows, held_out, strict=True) if tested]
    if not train or not test:
        folds = sorted({row.extra["fold"] for row in rows if row.extra.get("fold") is not None})
        side = "the split test" if fold is None else f"fold {fold}"
        raise ProtocolError(f"{folder}: {side} leaves no clips to test on or to learn from; it has folds {folds}")
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
        ProtocolError: fewer than two clips. ManifestError, MediaError.
    """
    rows = read_recordings(folder, split)
    results = retrievals(embedder, rows, candidates, seed)
    if not results:
        raise ProtocolError(f"{folder}: no direction has two rows in the split {split!r} ({len(rows)} rows)")
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
