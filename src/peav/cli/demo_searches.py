"""The demo's searches: every way across sound, pictures and words, over clips whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peav.data.manifest import Row
from peav.encoder import Encoder
from peav.eval.metrics import chance_at_k, ranks, recall_at_k
from peav.types import MODALITIES, DecodeFailure, Modality

SHOWN = 5


@dataclass
class Item:
    """A clip of the demo, or one of the user's own files (which has no captions)."""

    path: Path
    captions: dict[str, str] = field(default_factory=dict)  # audio, video, audio_video -> one caption
    transcript: str | None = None
    own: bool = False
    embeddings: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call it."""
        return self.path.name if self.own else self.path.stem

    def about(self, kind: str) -> str:
        """What is heard or seen in it, or its name where nobody has said."""
        return self.captions.get(kind, self.name)


@dataclass(frozen=True)
class Answer:
    """One result of a query: a place in the targets, its rank from 1, its score and whether it is right."""

    target: int
    rank: int
    score: float
    right: bool


@dataclass(frozen=True)
class Query:
    """A query that is shown: a place in the queries, the rank of its right answer, and the best answers.

    Where the right answer is not among the best, it stands in for the last of them.
    """

    query: int
    rank: int
    answers: list[Answer]


@dataclass(frozen=True, eq=False)
class Search:
    """One way to search. `queries` and `targets` say what each row and column of `scores` is."""

    key: str
    title: str
    note: str
    query_kind: str  # text, audio or video
    target_kind: str
    queries: list[tuple[str, int | None]]  # (text, item)
    targets: list[tuple[str, int | None]]
    scores: np.ndarray  # (queries, targets)
    right: np.ndarray  # same shape, bool
    shown: list[Query]

    @property
    def recall(self) -> dict[str, float]:
        """Share of queries whose right answer is first, and among the first five; and what chance would give."""
        found = {f"R@{k}": recall_at_k(self.scores, k, self.right) for k in (1, 5)}
        return {**found, "chance R@1": chance_at_k(self.right, 1)}

    def to_dict(self, items: Sequence[Item]) -> dict[str, Any]:
        """For JSON: figures and the queries that are shown."""

        def name(entry: tuple[str, int | None]) -> str:
            return entry[0] if entry[1] is None else items[entry[1]].name

        shown = [
            {
                "query": name(self.queries[query.query]),
                "rank_of_right": query.rank,
                "answers": [
                    {
                        "target": name(self.targets[a.target]),
                        "rank": a.rank,
                        "score": round(a.score, 4),
                        "right": a.right,
                    }
                    for a in query.answers
                ],
            }
            for query in self.shown
        ]
        return {
            "search": self.key,
            "queries": len(self.queries),
            "targets": len(self.targets),
            **self.recall,
            "shown": shown,
        }


def items_of(rows: Sequence[Row]) -> list[Item]:
    """Demo clips from manifest rows."""
    return [
        Item(
            path=Path(str(row.video_path or row.audio_path)),
            captions={kind: texts[0] for kind, texts in row.captions.items() if texts},
            transcript=row.transcript,
        )
        for row in rows
    ]


def embed(encoder: Encoder, items: list[Item]) -> list[DecodeFailure]:
    """Embed every item in place (a long file by its first window); drops and returns those that cannot be read."""
    bad = []
    for result in encoder.stream([item.path for item in items], MODALITIES, show_progress=True):
        if isinstance(result, DecodeFailure):
            bad.append(result)
        elif result.start == 0:
            items[result.index].embeddings = result.embeddings
    items[:] = [item for item in items if item.embeddings]
    return bad


def run_searches(encoder: Encoder, items: Sequence[Item], per_search: int = 4) -> list[Search]:
    """All five searches, leaving out those for which there is nothing to ask."""
    makers: list[Callable[[], Search | None]] = [
        lambda: _by_caption(encoder, items, "video", "v_vc", per_search),
        lambda: _by_caption(encoder, items, "audio", "a_ac", per_search),
        lambda: _across(encoder, items, "audio", "video", per_search),
        lambda: _across(encoder, items, "video", "audio", per_search),
        lambda: _transcripts(encoder, items, per_search),
    ]
    return [search for make in makers if (search := make()) is not None]


def _by_caption(encoder: Encoder, items: Sequence[Item], medium: Modality, pair: str, per_search: int) -> Search | None:
    texts = list(dict.fromkeys(item.captions[medium] for item in items if medium in item.captions and not item.own))
    targets = [i for i, item in enumerate(items) if medium in item.embeddings]
    texts = [text for text in texts if any(items[i].captions.get(medium) == text for i in targets)]
    if not texts:
        return None
    scores = encoder.logits(encoder.encode_text(texts, medium), _stack(items, targets, medium), pair)
    right = np.array([[items[i].captions.get(medium) == text for i in targets] for text in texts])
    sees = "looks" if medium == "video" else "sounds"
    return _search(
        f"text -> {medium}",
        f"Words to {'pictures' if medium == 'video' else 'sound'}",
        f"A sentence that says how a clip {sees}; the answer is found by its {medium} alone.",
        ("text", medium),
        [(text, None) for text in texts],
        [("", i) for i in targets],
        np.asarray(scores),
        right,
        per_search,
    )


def _across(encoder: Encoder, items: Sequence[Item], source: str, target: str, per_search: int) -> Search | None:
    both = [i for i, item in enumerate(items) if {"audio", "video"} <= item.embeddings.keys()]
    targets = [i for i, item in enumerate(items) if target in item.embeddings]
    if not both:
        return None
    scores = encoder.logits(_stack(items, both, source), _stack(items, targets, target), "a_v")
    names = {"audio": "Sound", "video": "Pictures"}
    return _search(
        f"{source} -> {target}",
        f"{names[source]} to {names[target].lower()}",
        "Heard without seeing: which pictures go with it?"
        if source == "audio"
        else "Seen without hearing: which sound goes with it?",
        (source, target),
        [("", i) for i in both],
        [("", i) for i in targets],
        np.asarray(scores),
        np.array(both)[:, None] == np.array(targets)[None],
        per_search,
    )


def _transcripts(encoder: Encoder, items: Sequence[Item], per_search: int) -> Search | None:
    spoken = [i for i, item in enumerate(items) if item.transcript and "audio" in item.embeddings]
    texts = list(dict.fromkeys(items[i].transcript or "" for i in spoken))
    if len(texts) < 2:
        return None
    scores = encoder.logits(_stack(items, spoken, "audio"), encoder.encode_text(texts, "audio"), "a_ac")
    return _search(
        "speech -> transcript",
        "Speech to what was said",
        "A voice in a clip; the answer is the sentence that it speaks, found among all the sentences spoken.",
        ("audio", "text"),
        [("", i) for i in spoken],
        [(text, None) for text in texts],
        np.asarray(scores),
        np.array([[items[i].transcript == text for text in texts] for i in spoken]),
        per_search,
    )


def _search(
    key: str,
    title: str,
    note: str,
    kinds: tuple[str, str],
    queries: list[tuple[str, int | None]],
    targets: list[tuple[str, int | None]],
    scores: np.ndarray,
    right: np.ndarray,
    per_search: int,
) -> Search:
    place = ranks(scores, right)
    # Evenly spread over the clips, not the best ones: what is shown is what is to be expected.
    chosen = sorted({int(i) for i in np.linspace(0, len(queries) - 1, min(per_search, len(queries)))})
    shown = []
    for query in chosen:
        order = np.argsort(-scores[query], kind="stable")
        first_right = int(np.flatnonzero(right[query][order])[0])
        ranked = [*range(min(SHOWN, len(order)))]
        if first_right not in ranked:
            ranked[-1] = first_right
        answers = [
            Answer(int(order[i]), i + 1, float(scores[query, order[i]]), bool(right[query, order[i]])) for i in ranked
        ]
        shown.append(Query(query, int(place[query]), answers))
    return Search(key, title, note, *kinds, queries, targets, scores, right, shown)


def _stack(items: Sequence[Item], places: Sequence[int], space: str) -> np.ndarray:
    return np.stack([items[i].embeddings[space] for i in places])
