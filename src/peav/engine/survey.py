"""What looks at the whole run: confidences by quantiles, and captions that stand for too many clips.

Each pass is in two parts. A partition gives a small summary that JSON can hold; the summaries of all partitions give
the decision, which depends neither on their order nor on how clips are cut into partitions. Duplicates have a file of
their own, `peav.engine.duplicates`.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from peav.engine.clip import Clip, Confidence
from peav.errors import RecipeError

SAMPLE = 10_000  # clips that quantiles are fitted on
THIRDS = (1 / 3, 1 / 3)
Summary = dict[str, Any]


def sample(clips: Iterable[Clip], count: int = SAMPLE) -> Summary:
    """A partition's part in the fit: of each captioner the scores of the first `count` clips by the hash of their ids.

    `{captioner: [[hash, score, model of the caption], ...]}`.
    """
    scores: Summary = {}
    for clip in clips:
        place = hashlib.sha256(clip.id.encode(errors="surrogatepass")).hexdigest()
        for name, weak in clip.weak.items():
            if weak.score is not None:
                scores.setdefault(name, []).append([place, weak.score, weak.model])
    return {name: heapq.nsmallest(count, own) for name, own in sorted(scores.items())}


def merge_samples(samples: Iterable[Summary], count: int = SAMPLE) -> Summary:
    """The sample of all their clips together, holding no more than five samples at a time."""
    merged: dict[str, list[Any]] = {}
    for one in samples:
        for name, own in one.items():
            held = merged.setdefault(name, [])
            held += own
            if len(held) >= 4 * count:  # now and then: for each of thousands of partitions it would take minutes
                held[:] = heapq.nsmallest(count, held)
    return {name: heapq.nsmallest(count, held) for name, held in sorted(merged.items())}


def fit_quantiles(
    samples: Iterable[Summary], count: int = SAMPLE, shares: tuple[float, float] = THIRDS
) -> dict[str, Any]:
    """Where each captioner's scores are low and high, of the first `count` clips of the run by the hash of their ids.

    Args:
        samples: of the partitions, see `sample`.
        count: as the samples were made with, or less.
        shares: how many of the scores are low, and how many are high.

    Returns:
        What JSON can hold: `{"count", "shares", "captioners": {name: {"low", "high", "scores", "models"}}}`. A score
        below `low` is low, one above `high` is high: equal scores have equal confidence, and where all are equal it is
        medium.

    Raises:
        RecipeError: shares that are none, or come to more than 1.
    """
    if min(shares) < 0 or sum(shares) > 1 + 1e-9:
        raise RecipeError(
            f"shares {shares[0]:g} and {shares[1]:g} of low and high scores: they are 0 to 1, together too"
        )
    fits = {}
    for name, own in merge_samples(samples, count).items():
        scores = sorted(score for _, score, _ in own)
        below, above = (min(len(scores) - 1, int(len(scores) * share + 1e-9)) for share in shares)
        low, high = scores[below], scores[len(scores) - 1 - above]
        models = sorted({model for _, _, model in own})
        fits[name] = {"low": low, "high": max(low, high), "scores": len(scores), "models": models}
    return {"count": count, "shares": list(shares), "captioners": fits}


def calibrate(clip: Clip, fit: Mapping[str, Any]) -> None:
    """Write the confidence of each weak caption that has a score.

    Raises:
        RecipeError: the fit knows nothing of a captioner.
    """
    for name, weak in clip.weak.items():
        if weak.score is None:
            continue
        if name not in fit["captioners"]:
            known = ", ".join(fit["captioners"]) or "none"
            raise RecipeError(f"captioner {name}: the quantiles were fitted without it (on {known}); fit them again")
        own = fit["captioners"][name]
        confidence: Confidence = "low" if weak.score < own["low"] else "high" if weak.score > own["high"] else "medium"
        clip.weak[name] = replace(weak, confidence=confidence)


def caption_key(text: str) -> str:
    """What tells a caption from others, but for case, punctuation and spaces: 16 hex digits."""
    words = " ".join(re.findall(r"\w+", text.casefold()))
    return hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()[:16]


def caption_counts(clips: Iterable[Clip]) -> Summary:
    """A partition's captions: `{kind: {caption_key: clips}}`."""
    counts: Summary = {}
    for clip in clips:
        for kind, text in clip.captions.items():
            own, key = counts.setdefault(kind, {}), caption_key(text)
            own[key] = own.get(key, 0) + 1
    return counts


def repeated(counts: Iterable[Summary], share: float = 0.01, least: int = 10) -> dict[str, dict[str, int]]:
    """Captions that stand for too many clips of the run, by kind: `{kind: {caption_key: clips}}`.

    Too many is more than `least`, and more than `share` of the clips that have a caption of the kind. Takes 16 bytes
    of memory for each caption of each partition.
    """
    keys: dict[str, list[np.ndarray]] = {}
    numbers: dict[str, list[np.ndarray]] = {}
    for one in counts:
        for kind, own in one.items():
            keys.setdefault(kind, []).append(np.array([int(key, 16) for key in own], np.uint64))
            numbers.setdefault(kind, []).append(np.fromiter(own.values(), np.int64, len(own)))
    found = {}
    for kind in sorted(keys):
        unique, places = np.unique(np.concatenate(keys[kind]), return_inverse=True)
        clips = np.zeros(len(unique), np.int64)
        np.add.at(clips, places, np.concatenate(numbers[kind]))
        many = np.flatnonzero(clips > max(least, share * clips.sum()))
        found[kind] = {f"{unique[place]:016x}": int(clips[place]) for place in many}
    return found
