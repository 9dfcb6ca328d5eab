"""The GRID corpus (Cooke et al. 2006): six-word sentences of a small grammar, said to a camera.

Retrieval among a few sentences asks for few of the words. Here a clip is held against every sentence of the grammar,
where one wrong word is a miss, and against clips whose sentence lies elsewhere in time, because sound and lips of one
clip share when a sentence begins and ends, which finds a clip without a word being heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from peav.data.manifest import Row
from peav.data.recordings import read_recordings
from peav.eval.embedder import Embedder
from peav.eval.metrics import ranks
from peav.eval.protocols import KS, ProtocolError, Retrieval, ranked, retrieval
from peav.eval.tables import Column, Table
from peav.objectives.pairs import Medium

GRAMMAR: dict[str, tuple[str, ...]] = {
    "command": ("bin", "lay", "place", "set"),
    "colour": ("blue", "green", "red", "white"),
    "preposition": ("at", "by", "in", "with"),
    "letter": tuple("abcdefghijklmnopqrstuvxyz"),  # w has three syllables and is left out
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "adverb": ("again", "now", "please", "soon"),
}
DIRECTIONS = ("speech2transcript", "transcript2speech", "video2transcript", "a2v", "v2a")
CANDIDATES = 150
SENTENCE_DIRECTIONS: dict[str, Medium] = {"speech2sentence": "audio", "video2sentence": "video"}


def sentences() -> list[str]:
    """All 64 000 sentences of the grammar."""
    return [" ".join(words) for words in product(*GRAMMAR.values())]


def clips_of(folder: str | Path, split: str | None) -> list[Row]:
    """The clips of a split of `read_recordings`; None: all, for a model that was trained on none.

    Raises:
        ProtocolError: fewer than two. ManifestError.
    """
    rows = read_recordings(folder, split)
    if len(rows) < 2:
        raise ProtocolError(f"{folder}: no direction has two rows in the split {split!r} ({len(rows)} rows)")
    return rows


def retrievals(embedder: Embedder, rows: Sequence[Row], candidates: int = CANDIDATES, seed: int = 0) -> list[Retrieval]:
    """From speech or silent video to the transcript and between sound and picture, these without their timing too."""
    results = retrieval(embedder, rows, DIRECTIONS, candidates, seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    timed = [rows[i] for i in order if rows[i].words and rows[i].audio_path and rows[i].video_path]
    return results + untimed(embedder, timed[:candidates], seed)


def untimed(embedder: Embedder, rows: Sequence[Row], seed: int = 0) -> list[Retrieval]:
    """Sound against picture with the silence around the sentence cut at random, in each of the two by itself.

    What is left of the timing is how long the words last. Fewer than two rows give no result.
    """
    if len(rows) < 2:
        return []
    rng = np.random.default_rng(seed)
    heard = [replace(_cut(row, rng), video_path=None) for row in rows]
    seen = [replace(_cut(row, rng), audio_path=None) for row in rows]
    sound = embedder.media(heard, ["audio"])["audio"]
    picture = embedder.media(seen, ["video"])["video"]
    same = np.eye(len(rows), dtype=bool)
    return [
        ranked("a2v, silence cut", sound @ picture.T, same),
        ranked("v2a, silence cut", picture @ sound.T, same),
    ]


def _cut(row: Row, rng: np.random.Generator) -> Row:
    """The row from a random moment before its first word to one after its last."""
    first, last = row.words[0].start, row.words[-1].end
    return replace(row, start=rng.uniform(0.0, first), end=rng.uniform(last, max(last, row.extra["duration"])))


def sentence_table(embedder: Embedder, folder: str | Path, split: str | None = "test") -> Table:
    """Every clip against all sentences of the grammar: how often its own comes first, and each of its words.

    A word is right where the sentence that comes first has it, whatever its other words are.

    Raises:
        ProtocolError: fewer than two clips, or a transcript that is not of the grammar. ManifestError, MediaError.
    """
    rows = clips_of(folder, split)
    everything = sentences()
    number = {sentence: i for i, sentence in enumerate(everything)}
    strange = next((row for row in rows if row.transcript not in number), None)
    if strange is not None:
        raise ProtocolError(f"{strange.id}: {strange.transcript!r} is not a sentence of GRID's grammar")
    own = np.array([number[row.transcript or ""] for row in rows])
    media = embedder.media(rows, tuple(SENTENCE_DIRECTIONS.values()))
    table = [
        _sentence_row(name, media[medium] @ embedder.texts(everything, medium).T, own)
        for name, medium in SENTENCE_DIRECTIONS.items()
    ]
    chance = {slot: 1 / len(words) for slot, words in GRAMMAR.items()}
    table.append({"direction": "chance", **{f"recall@{k}": k / len(everything) for k in KS}, **chance})
    columns = [
        Column("direction", "direction"),
        *(Column(f"recall@{k}", f"R@{k}", "percent") for k in (1, 10)),
        *(Column(slot, slot, "percent") for slot in GRAMMAR),
    ]
    title = f"{Path(folder).name}: all {len(everything)} sentences, {len(rows)} clips (%), split {split or 'all'}"
    return Table(title, columns, table)


def _sentence_row(name: str, scores: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    place = ranks(scores, np.arange(scores.shape[1]) == own[:, None])
    shape = [len(words) for words in GRAMMAR.values()]
    found, right = (np.stack(np.unravel_index(index, shape)) for index in (scores.argmax(1), own))
    words = dict(zip(GRAMMAR, (found == right).mean(1).tolist(), strict=True))
    return {"direction": name, **{f"recall@{k}": float((place <= k).mean()) for k in KS}, **words}
