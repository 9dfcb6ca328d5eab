"""The GRID corpus (Cooke et al. 2006): six-word sentences of a small grammar, said to a camera.

Retrieval among a few sentences asks for few of the words. Here a clip is held against every sentence of the grammar,
where one wrong word is a miss, and sound is held against pictures where timing does not help: both of a clip show when
its sentence begins and how long it lasts, which finds the clip without a word being heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from peav.data.manifest import Row
from peav.data.recordings import read_recordings
from peav.errors import EvaluationError
from peav.eval.directions import GRID
from peav.eval.embedder import Embedder
from peav.eval.metrics import ranks
from peav.eval.protocols import KS, Retrieval, ranked, retrieval
from peav.eval.tables import Column, Table
from peav.types import Modality
from peav.utils.text import counted

GRAMMAR: dict[str, tuple[str, ...]] = {
    "command": ("bin", "lay", "place", "set"),
    "color": ("blue", "green", "red", "white"),
    "preposition": ("at", "by", "in", "with"),
    "letter": tuple("abcdefghijklmnopqrstuvxyz"),  # w has three syllables and is left out
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "adverb": ("again", "now", "please", "soon"),
}
CANDIDATES = 150
MARGIN = 0.2  # seconds; few clips have less silence before the first word
LIKE = 30
SENTENCE_DIRECTIONS: dict[str, Modality] = {"speech2sentence": "audio", "video2sentence": "video"}


def sentences() -> list[str]:
    """All 64 000 sentences of the grammar."""
    return [" ".join(words) for words in product(*GRAMMAR.values())]


def retrievals(embedder: Embedder, rows: Sequence[Row], candidates: int = CANDIDATES, seed: int = 0) -> list[Retrieval]:
    """From speech or silent video to the transcript and between sound and picture, these without their timing too."""
    results = retrieval(embedder, rows, GRID, candidates, seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    timed = _with_both(embedder, [rows[i] for i in order if rows[i].words])
    return results + untimed(embedder, timed[:candidates], seed)


def untimed(embedder: Embedder, rows: Sequence[Row], seed: int = 0, like: int = LIKE) -> list[Retrieval]:
    """Sound against picture where neither when a sentence is said nor how long it lasts tells clips apart.

    Sound and picture are each cut at a moment of its own up to `MARGIN` before the first word, drawn alike for all
    clips, and after the last; each clip is searched among the `like` whose sentences last most nearly as long as its
    own. Fewer than two rows give no result.
    """
    if len(rows) < 2:
        return []
    rng = np.random.default_rng(seed)
    heard = [replace(_cut(row, rng), video_path=None) for row in rows]
    seen = [replace(_cut(row, rng), audio_path=None) for row in rows]
    sounds, pictures = embedder.media(heard, ["audio"])["audio"], embedder.media(seen, ["video"])["video"]
    read = ~np.isnan(sounds).any(1) & ~np.isnan(pictures).any(1)
    if not read.all():
        return untimed(embedder, [row for row, there in zip(rows, read, strict=True) if there], seed, like)
    scores = sounds @ pictures.T
    lasts = np.array([row.words[-1].end - row.words[0].start for row in rows])
    apart = np.abs(lasts[:, None] - lasts)
    np.fill_diagonal(apart, -1.0)  # its own comes first, whoever else lasts just as long
    near = apart.argsort(1, kind="stable")[:, :like]
    own = np.arange(near.shape[1]) == 0
    return [
        ranked(f"{name}, untimed", np.take_along_axis(each, near, 1), np.tile(own, (len(rows), 1)))
        for name, each in (("a2v", scores), ("v2a", scores.T))
    ]


def _cut(row: Row, rng: np.random.Generator) -> Row:
    """The row from a random moment shortly before its first word to one shortly after its last."""
    before, after = rng.uniform(0.0, MARGIN, 2)
    return replace(row, start=max(0.0, row.words[0].start - before), end=row.words[-1].end + after)


def sentence_table(embedder: Embedder, folder: str | Path, split: str | None = "test") -> Table:
    """Every clip against all sentences of the grammar: how often its own comes first, and each of its words.

    A word is right where the sentence that comes first has it, whatever its other words are; where two come first, none
    is. Chance is a random sentence, for a word the commonest one of the clips.

    Raises:
        EvaluationError: no clip with sound and pictures, or a transcript that is not of the grammar. ManifestError.
    """
    media_spaces = tuple(SENTENCE_DIRECTIONS.values())
    rows = _with_both(embedder, read_recordings(folder, split))
    everything = sentences()
    number = {sentence: i for i, sentence in enumerate(everything)}
    strange = next((row for row in rows if row.transcript not in number), None)
    if strange is not None:
        raise EvaluationError(f"{strange.id}: {strange.transcript!r} is not a sentence of GRID's grammar")
    embedder.media(rows, media_spaces)
    rows = _with_both(embedder, rows)  # some may prove unreadable only when they are decoded
    if not rows:
        raise EvaluationError(f"{folder}: no clip with sound and pictures in the split {split!r}")
    own = np.array([number[row.transcript or ""] for row in rows])
    media = embedder.media(rows, media_spaces)
    table = [
        _sentence_row(name, media[modality] @ embedder.texts(everything, modality).T, own)
        for name, modality in SENTENCE_DIRECTIONS.items()
    ]
    said = zip(*(everything[i].split() for i in own), strict=True)
    commonest = [Counter(words).most_common(1)[0][1] / len(rows) for words in said]
    chance = {f"recall@{k}": k / len(everything) for k in KS}
    table.append({"direction": "chance", **chance, **dict(zip(GRAMMAR, commonest, strict=True))})
    columns = [
        Column("direction", "direction"),
        *(Column(f"recall@{k}", f"R@{k}", "percent") for k in (1, 10)),
        *(Column(slot, slot, "percent") for slot in GRAMMAR),
    ]
    judged = f"all {counted(len(everything), 'sentence')}, {counted(len(rows), 'clip')}"
    return Table(f"{Path(folder).name}: {judged} (%), split {split or 'all'}", columns, table)


def _with_both(embedder: Embedder, rows: Sequence[Row]) -> list[Row]:
    """Those with sound and pictures."""
    return [row for row, has in zip(rows, embedder.streams(rows), strict=True) if {"audio", "video"} <= has]


def _sentence_row(name: str, scores: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    place = ranks(scores, np.arange(scores.shape[1]) == own[:, None])
    shape = [len(words) for words in GRAMMAR.values()]
    found, right = (np.stack(np.unravel_index(index, shape)) for index in (scores.argmax(1), own))
    alone = (scores == scores.max(1, keepdims=True)).sum(1) == 1
    words = dict(zip(GRAMMAR, ((found == right) & alone).mean(1).tolist(), strict=True))
    return {"direction": name, **{f"recall@{k}": float((place <= k).mean()) for k in KS}, **words}
