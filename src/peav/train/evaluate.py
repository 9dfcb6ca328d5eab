"""Retrieval on held-out clips from cached features, quick enough to run while training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from peav.data.collate import Batch, Collator
from peav.data.features import FeatureCache
from peav.data.manifest import Row
from peav.eval.metrics import recall_at_k
from peav.objectives.pairs import Embedding, media, text
from peav.train.step import Forward

Embed = Callable[[Batch, Sequence[Embedding]], Forward]

DIRECTIONS: dict[str, tuple[Embedding, Embedding]] = {
    "t2av": (text("audio_video", "audio_video"), media("audio_video")),
    "t2a": (text("audio", "audio"), media("audio")),
    "t2v": (text("video", "video"), media("video")),
    "a2v": (media("audio"), media("video")),
    "v2a": (media("video"), media("audio")),
}
SPEECH = "speech2transcript"


@torch.inference_mode()
def evaluate(
    embed: Embed, rows: Sequence[Row], cache: FeatureCache, collator: Collator, candidates: int, batch_size: int = 64
) -> dict[str, float]:
    """R@1 of each direction among the first `candidates` rows that have audio, video and captions.

    Speech to transcript is taken among the first `candidates` rows with a transcript of its own. The figures are
    fractions; a direction without rows is left out; `chance` is one over the number of candidates.
    """
    whole = [row for row in rows if row.audio_path and row.video_path and len(row.captions) == 3][:candidates]
    results: dict[str, float] = {}
    if whole:
        needed = tuple(dict.fromkeys(side for pair in DIRECTIONS.values() for side in pair))
        silent = [replace(row, transcript=None) for row in whole]
        embedded = _embed(embed, silent, cache, collator, needed, batch_size)
        for name, (query, target) in DIRECTIONS.items():
            results[name] = recall_at_k(embedded[query] @ embedded[target].T, 1)
        results["chance"] = 1 / len(whole)
    said = list({row.transcript: row for row in reversed(rows) if row.audio_path and row.transcript}.values())
    said = [replace(row, captions={}) for row in reversed(said)][:candidates]
    if said:
        query, target = media("audio"), text("audio", "audio")
        embedded = _embed(embed, said, cache, collator, (query, target), batch_size)
        results[SPEECH] = recall_at_k(embedded[query] @ embedded[target].T, 1)
        results[f"{SPEECH}_chance"] = 1 / len(said)
    return results


def _embed(
    embed: Embed,
    rows: Sequence[Row],
    cache: FeatureCache,
    collator: Collator,
    needed: Sequence[Embedding],
    batch_size: int,
) -> dict[Embedding, np.ndarray]:
    parts: dict[Embedding, list[np.ndarray]] = {embedding: [] for embedding in needed}
    rng = np.random.default_rng(0)
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        batch = collator(chosen, [cache.load(row) for row in chosen], rng)
        output = embed(batch, needed)
        for embedding in needed:
            parts[embedding].append(output.embeddings[embedding].float().cpu().numpy())
    return {embedding: np.concatenate(arrays) for embedding, arrays in parts.items()}
