"""Retrieval on held-out clips from cached features, quick enough to run while training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import torch

from peav.data.collate import Batch, Collator
from peav.data.manifest import Row
from peav.eval.directions import CLIPS, DIRECTIONS, SPEECH
from peav.eval.metrics import chance_at_k, recall_at_k
from peav.features.keys import clip_key
from peav.features.live import LiveFeatures
from peav.features.store import FeatureCache
from peav.objectives.pairs import Embedding
from peav.train.contrastive_module import Forward
from peav.types import modalities

Embed = Callable[[Batch, Sequence[Embedding]], Forward]
Features = FeatureCache | LiveFeatures
Embedded = tuple[list[Row], Mapping[Embedding, np.ndarray]]
"""The rows that could be read, and their embeddings."""
BATCH = 64
SIDES: dict[str, tuple[Embedding, Embedding]] = {
    name: (query.embedding, target.embedding) for name, (query, target) in DIRECTIONS.items()
}


@torch.inference_mode()
def evaluate(
    embed: Embed, rows: Sequence[Row], cache: Features, collator: Collator, candidates: int
) -> dict[str, float]:
    """R@1 of each direction among the first `candidates` rows that have audio, video and captions.

    Where there is none of all kinds, as in plain pairs of sound and text, each direction has rows of its own, see
    `_partial`.
    Speech to transcript is taken among the first `candidates` rows with a transcript of its own. The figures are
    fractions; a direction without rows is left out; `chance` is one over the number of candidates. Clips that cannot be
    read are left out.
    """
    embedded = partial(_embed, embed, cache, collator)
    # A transcript is an audio caption, too: the collator could draw it in the caption's place.
    silent = [replace(row, transcript=None) for row in rows]
    whole = [row for row in silent if row.audio_path and row.video_path and len(row.captions) == 3 and not row.plain]
    sides = embedded(whole[:candidates], tuple(dict.fromkeys(side for name in CLIPS for side in SIDES[name])))
    if sides[0]:
        results = {name: _recall(sides, name) for name in CLIPS}
        results["chance"] = 1 / len(sides[0])
    else:
        results = _partial(embedded, silent, cache, candidates)
    said = list({row.transcript: row for row in reversed(rows) if row.audio_path and row.transcript}.values())
    said = [replace(row, captions={}) for row in reversed(said)][:candidates]
    sides = embedded(said, SIDES[SPEECH])
    if sides[0]:
        results[SPEECH] = _recall(sides, SPEECH)
        results[f"{SPEECH}_chance"] = 1 / len(sides[0])
    return results


def has(row: Row, side: Embedding, cache: Features) -> bool:
    """Whether a row has what one side of a pair is made of."""
    says = side.caption is None or side.caption in row.captions or (side.caption == "audio" and bool(row.transcript))
    return says and side.modality in (None, *modalities(*cache.streams(row)))


def _partial(
    embedded: Callable[[Sequence[Row], Sequence[Embedding]], Embedded],
    rows: Sequence[Row],
    cache: Features,
    candidates: int,
) -> dict[str, float]:
    """Each direction, and its chance, among the first `candidates` rows that have both its sides.

    A text may be a label that many rows share: then any of these is right.
    """
    results: dict[str, float] = {}
    for name in CLIPS:
        sides = SIDES[name]
        fit = (row for row in rows if all(has(row, side, cache) for side in sides))
        chosen, found = embedded(list(islice(fit, candidates)), sides)
        if len(chosen) < 2:
            continue
        caption = sides[0].caption
        says = [clip_key(row) if caption is None else tuple(row.captions[caption]) for row in chosen]
        right = np.array([[one == other for other in says] for one in says])
        results[name] = _recall((chosen, found), name, right)
        results[f"{name}_chance"] = chance_at_k(right, 1)
    return results


def _recall(embedded: Embedded, name: str, right: np.ndarray | None = None) -> float:
    """R@1 of a direction; `right` as in `recall_at_k`."""
    query, target = SIDES[name]
    _, sides = embedded
    return recall_at_k(sides[query] @ sides[target].T, 1, right)


def _embed(
    embed: Embed, cache: Features, collator: Collator, rows: Sequence[Row], needed: Sequence[Embedding]
) -> Embedded:
    kept: list[Row] = []
    parts: dict[Embedding, list[np.ndarray]] = {embedding: [] for embedding in needed}
    rng = np.random.default_rng(0)  # the same captions each time, so that figures compare
    for chosen, clips in cache.in_batches(rows, BATCH):
        kept += chosen
        batch = collator(chosen, clips, rng)
        output = embed(batch, needed)
        for embedding in needed:
            parts[embedding].append(output.embeddings[embedding].float().cpu().numpy())
    return kept, {embedding: np.concatenate(arrays) for embedding, arrays in parts.items() if arrays}
