"""The demo's page: one HTML file with everything in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from peav.cli.demo_searches import Answer, Item, Query, Search
from peav.media.preview import poster, preview, wave_shape
from peav.utils.page import document, resource

LEVELS = 8


@dataclass(frozen=True)
class Facts:
    """What the page says about the run."""

    model: str
    parameters: int
    seconds: float
    clips: int
    own: int


def build(items: Sequence[Item], searches: Sequence[Search], facts: Facts) -> str:
    """The page as one string; clips, pictures, styles and script are inside, nothing is fetched."""
    posters = {i: poster(item.path) for i, item in enumerate(items) if "video" in item.embeddings}
    waves = {i: _wave(wave_shape(item.path)) for i, item in enumerate(items) if "audio" in item.embeddings}
    media = {i: preview(item.path, i in posters) for i, item in enumerate(items)}
    pictures = "".join(f".p{i}{{background-image:url({address})}}" for i, address in posters.items())
    show = _Show(items, waves)
    body = [
        _header(searches, facts),
        "<main>",
        *(show.search(number, search) for number, search in enumerate(searches)),
        _maps(searches),
        show.gallery(),
        "</main>",
        _footer(facts),
    ]
    style, script = (resource("peav.cli", "templates", f"demo.{kind}") for kind in ("css", "js"))
    return document("peav demo", "".join(body), style + pictures, script, media)


def _header(searches: Sequence[Search], facts: Facts) -> str:
    own = f" and {facts.own} of your own files" if facts.own else ""
    cards = "".join(
        f'<a href="#s{number}"><strong>{escape(search.title)}</strong><b>{search.recall["R@1"]:.0%}</b> '
        f'<span class="small">right at once<br>chance {search.recall["chance R@1"]:.0%}, '
        f"{len(search.queries)} queries</span></a>"
        for number, search in enumerate(searches)
    )
    return (
        "<header><h1>Sound, pictures and words in one space</h1>"
        f"<p>{facts.clips} generated clips{own} went through <code>{escape(facts.model)}</code> "
        f"({facts.parameters / 1e6:.1f} M parameters) in {facts.seconds:.0f} s. Each search below ranks all of them by "
        "nothing but the dot product of two embeddings. The right answer is framed in green.</p>"
        "<p>The queries are spread evenly over the clips, not picked for how well they go. Click anything to play it: "
        "you get only what the model got, the sound alone or the pictures alone.</p>"
        f'<nav class="summary">{cards}</nav></header>'
    )


class _Show:
    """Writes the parts of the page that show clips."""

    def __init__(self, items: Sequence[Item], waves: dict[int, str]) -> None:
        self.items, self.waves = items, waves

    def search(self, number: int, search: Search) -> str:
        """One way to search: its figures and some of its queries."""
        figures = "".join(f"<div><b>{value:.0%}</b><span>{name}</span></div>" for name, value in search.recall.items())
        queries = "".join(self._query(search, query) for query in search.shown)
        return (
            f'<section id="s{number}"><div class="head"><div><h2>{escape(search.title)}</h2>'
            f'<p>{escape(search.note)}</p></div><div class="figures">{figures}</div></div>{queries}</section>'
        )

    def gallery(self) -> str:
        """Every clip with what is said of it."""
        cells = []
        for i, item in enumerate(self.items):
            text = item.captions.get("audio_video") or next(iter(item.captions.values()), item.name)
            said = f"<p><q>{escape(item.transcript)}</q></p>" if item.transcript else ""
            own = '<span class="tag">yours</span>' if item.own else ""
            kind = "video" if "video" in item.embeddings else "audio"
            cells.append(f"<div>{self._medium(i, kind, both=True)}{own}<p>{escape(text)}</p>{said}</div>")
        return (
            '<section><div class="head"><div><h2>All the clips</h2><p>With sound and pictures, and the caption that '
            f'says what is heard and seen.</p></div></div><div class="gallery">{"".join(cells)}</div></section>'
        )

    def _query(self, search: Search, query: Query) -> str:
        text, item = search.queries[query.query]
        asked = f'<p class="words">“{escape(text)}”</p>' if item is None else self._asked(item, search.query_kind)
        of = len(search.targets)
        first = query.rank == 1
        verdict = f"found at once, among {of}" if first else f"right answer at rank {query.rank} of {of}"
        low, high = float(search.scores[query.query].min()), float(search.scores[query.query].max())
        answers = "".join(
            self._answer(search, answer, (answer.score - low) / ((high - low) or 1)) for answer in query.answers
        )
        words = " words" if search.target_kind == "text" else ""
        return (
            f'<div class="query"><div class="ask">{asked}'
            f'<p class="verdict{" first" if first else ""}">{verdict}</p></div>'
            f'<ol class="answers{words}">{answers}</ol></div>'
        )

    def _asked(self, item: int, kind: str) -> str:
        about = escape(self.items[item].about(kind))
        return f'{self._medium(item, kind)}<p class="small">{about}</p>'

    def _answer(self, search: Search, answer: Answer, share: float) -> str:
        text, item = search.targets[answer.target]
        meter = f'<div class="meter"><i style="width:{max(share, 0.02):.0%}"></i></div>'
        right = "right" if answer.right else ""
        rank = f"<b>{'✓ ' if answer.right else ''}{answer.rank}</b>"
        if item is None:
            return f'<li class="line {right}"><span>{escape(text)}</span>{meter}<div class="label">{rank}</div></li>'
        about = escape(self.items[item].about(search.target_kind))
        return (
            f'<li class="{right}">{self._medium(item, search.target_kind)}{meter}'
            f'<div class="label" title="score {answer.score:.2f}: {about}">{rank}<span>{about}</span></div></li>'
        )

    def _medium(self, item: int, kind: str, both: bool = False) -> str:
        """A clip to click: its picture or the shape of its sound."""
        see = kind == "video"
        hear = both or not see
        picture = "" if see else self.waves[item]
        css = f"medium p{item}" if see else "medium"
        what = "the clip" if both else "the pictures" if see else "the sound"
        name = escape(f"play {what}: {self.items[item].about('audio_video' if both else kind)}")
        return (
            f'<button class="{css}" data-clip="{item}" data-see="{int(see)}" data-hear="{int(hear)}" '
            f'aria-label="{name}" aria-pressed="false">{picture}</button>'
        )


def _wave(shape: Sequence[float]) -> str:
    """Bars around a middle line."""
    bars = "".join(f"M{4 * i + 2} {50 - max(1.5, 46 * v):.0f}V{50 + max(1.5, 46 * v):.0f}" for i, v in enumerate(shape))
    path = f'<path d="{bars}" stroke="currentColor" stroke-width="2.2" stroke-linecap="round"/>'
    return f'<svg viewBox="0 0 {4 * len(shape)} 100" preserveAspectRatio="none" aria-hidden="true">{path}</svg>'


def _maps(searches: Sequence[Search]) -> str:
    figures = "".join(
        f"<figure>{heat_map(search.scores, search.right)}<figcaption><b>{escape(search.title)}</b>, "
        f"{search.scores.shape[0]} x {search.scores.shape[1]}</figcaption></figure>"
        for search in searches
    )
    return (
        '<section><div class="head"><div><h2>Every query against every clip</h2><p>A row for each query, a column for '
        "each candidate; the stronger the color, the higher the score in its row. Green frames are the right answers."
        f'</p></div></div><div class="maps">{figures}</div></section>'
    )


def heat_map(scores: np.ndarray, right: np.ndarray) -> str:
    """(queries, targets) scores as SVG; each row is scaled to its own range, runs of one color are one shape."""
    low, high = scores.min(1, keepdims=True), scores.max(1, keepdims=True)
    share = (scores - low) / np.maximum(high - low, 1e-12)
    # Squared, so that only what stands out is strong.
    levels = np.minimum((share**2 * LEVELS).astype(int), LEVELS - 1)
    paths = "".join(f'<path class="h{level}" d="{_runs(levels == level)}"/>' for level in range(1, LEVELS))
    truth = "".join(f"M{x} {y}h1v1h-1z" for y, x in zip(*np.nonzero(right), strict=True))
    rows, columns = scores.shape
    return (
        f'<svg viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" style="aspect-ratio:{columns}/{rows}" '
        f'shape-rendering="crispEdges" role="img" aria-label="the scores of {rows} queries for {columns} candidates">'
        f'{paths}<path class="truth" d="{truth}"/></svg>'
    )


def _runs(mask: np.ndarray) -> str:
    """A bool image as rectangles one row high."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return "".join(f"M{x} {y}h{end - x}v1H{x}z" for (y, x), (_, end) in zip(starts, stops, strict=True))


def _footer(facts: Facts) -> str:
    return (
        f"<footer>Made by <code>peav demo</code> with <code>{escape(facts.model)}</code>. "
        "The shipped <code>tiny</code> "
        "is small on purpose and was trained on clips of this kind: with access to the hub, "
        "<code>peav demo --model facebook/pe-av-small --media DIR</code> shows the real thing on real recordings. "
        "Method: PE-AV, arXiv 2512.19687.</footer>"
    )
