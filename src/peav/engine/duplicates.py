"""Clips of a run that repeat others, by perceptual hashes and by embeddings; the clip of the lowest id stays.

Clips are gone through in the order of their ids. One that is like a clip that stays repeats it; else it stays itself.
So whatever is left out is like something that is kept, and the answer depends neither on the order of the summaries
nor on how they are cut into partitions.

Pairs are never all compared. Those that differ in no bit are one group. Of the others, a hash of 256 bits is read as 16
bands of 16 bits, and only clips that share a band are compared: two that differ in at most 15 bits share one for
certain, two that differ in 20, at random places, with a probability of .997. A band that more than CROWD groups share
tells nothing (a black corner) and is left out, which bounds the pairs: 16 * n * CROWD / 2 for n clips and each hash, at
30 ns a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from peav.engine.clip import Clip
from peav.engine.embedding import from_text
from peav.engine.hashes import BITS

BANDS = 16
CROWD = 1024
PAIRS = 1 << 18  # that are in memory at a time
EXACT = 20_000  # embeddings that are compared all with all
ROUGH = 64  # bits that the signs of two embeddings on random planes may differ by, to be compared
HASHES = ("audio", "frames")


def duplicate_summary(clips: Iterable[Clip]) -> dict[str, dict[str, str | None]]:
    """A partition's part: `{id: {"audio", "frames", "space", "embedding"}}` of what was measured of each open clip."""
    found = {}
    for clip in clips:
        if clip.open:
            embedding = clip.measures.get("embedding") or {}
            of_clip = {name: (clip.measures.get("hashes") or {}).get(name) for name in HASHES}
            found[clip.id] = of_clip | {"space": embedding.get("space"), "embedding": embedding.get("values")}
    return found


@dataclass
class _Table:
    """The clips' measures, in the order in which they are gone through."""

    ids: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)  # a byte for which there are, then 32 for each
    embeddings: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)  # by space and place: (D,) float16


class _Linked:
    """Which clips are alike by one measure: `group` (n,) of each, -1 for none, and pairs of groups that are alike."""

    def __init__(self, group: np.ndarray, pairs: list[np.ndarray]) -> None:
        self.group, count = group, int(group.max(initial=-1)) + 1
        found = np.concatenate([np.empty((0, 2), np.int64), *pairs])
        both = np.concatenate([found, found[:, ::-1]])
        both = both[np.argsort(both[:, 0], kind="stable")]
        self.near, self.bounds = both[:, 1], np.searchsorted(both[:, 0], np.arange(count + 1))
        self.kept = np.full(count, len(group))  # by group: the first clip of it that stays

    def first(self, place: int) -> int:
        """The first clip that stays and is like this one; the number of clips: none."""
        own = self.group[place]
        if own < 0:
            return len(self.group)
        near = self.near[self.bounds[own] : self.bounds[own + 1]]
        return int(min(self.kept[own], self.kept[near].min(initial=len(self.group))))

    def keep(self, place: int) -> None:
        """This clip stays."""
        own = self.group[place]
        if own >= 0:
            self.kept[own] = min(self.kept[own], place)


class _Compared:
    """The same of clips that were compared all with all: `alike` (k, k) as bits, `places` (k,) of `count` clips."""

    def __init__(self, alike: np.ndarray, places: np.ndarray, count: int) -> None:
        self.alike, self.places, self.count = alike, places, count
        self.row = {int(place): row for row, place in enumerate(places)}
        self.kept = np.zeros(alike.shape[1], np.uint8)

    def first(self, place: int) -> int:
        """As of `_Linked`."""
        row = self.row.get(place)
        found = np.empty(0) if row is None else np.flatnonzero(np.unpackbits(self.alike[row] & self.kept))
        return int(self.places[found[0]]) if len(found) else self.count

    def keep(self, place: int) -> None:
        """This clip stays."""
        row = self.row.get(place)
        if row is not None:
            self.kept[row // 8] |= 128 >> row % 8


def duplicates(
    summaries: Iterable[Mapping[str, Mapping[str, str | None]]],
    earlier: Mapping[str, str | None] | None = None,
    *,
    distance: int | None = 20,
    cosine: float | None = 0.98,
) -> dict[str, str]:
    """Which clips repeat which: `{id: id that it repeats}`; all others stay.

    Two clips are alike where both have the same hashes and each differs in at most `distance` bits, or where their
    embeddings are of one space and at least of this cosine.

    Args:
        summaries: of the partitions, see `duplicate_summary`.
        earlier: what an earlier run decided of each of its clips, None for one that stayed. It stands: when a manifest
            grew, a clip that was kept is never left out for a new one of a lower id.
        distance: of hashes, in bits of 256; None: they do not count.
        cosine: of embeddings; None: they do not count. Up to 20 000 of one space are compared all with all, more by
            the signs of 256 random projections, in bands as hashes are.

    A million clips with both hashes take 35 s of one core and 0.9 GB where bits are as likely 0 as 1, and at most
    some 8 minutes by the bound above. Embeddings take 2 D bytes a clip more.
    """
    earlier = earlier or {}
    table = _read(summaries, earlier)
    count = len(table.ids)
    alike: list[_Linked | _Compared] = [] if distance is None else [_by_hashes(table.hashes, distance)]
    if cosine is not None:
        alike += [_by_embeddings(own, count, cosine) for _, own in sorted(table.embeddings.items())]
    found: dict[str, str] = {}
    there = set(table.ids)
    for place, identity in enumerate(table.ids):
        before = earlier.get(identity)
        if before is not None and before in there:
            found[identity] = before
            continue
        stays = identity in earlier and before is None
        first = count if stays else min((measure.first(place) for measure in alike), default=count)
        if first < count:
            found[identity] = table.ids[first]
            continue
        for measure in alike:
            measure.keep(place)
    return found


def _read(summaries: Iterable[Mapping[str, Mapping[str, str | None]]], earlier: Mapping[str, str | None]) -> _Table:
    """All clips: first those that an earlier run kept, then by their ids."""
    rows: list[tuple[bool, str, bytes, str | None, np.ndarray | None]] = []
    for summary in summaries:
        for identity, said in summary.items():
            parts = [bytes.fromhex(said.get(name) or "") for name in HASHES]
            marks = bytes([sum(bool(part) << place for place, part in enumerate(parts))])
            text = said.get("embedding")
            vector = None if text is None else from_text(text).astype(np.float16)
            new = not (identity in earlier and earlier[identity] is None)
            whole = marks + b"".join(part.ljust(BITS // 8, b"\0") for part in parts)
            rows.append((new, identity, whole, said.get("space"), vector))
    rows.sort(key=lambda row: row[:2])
    table = _Table()
    for place, (_, identity, whole, space, vector) in enumerate(rows):
        table.ids.append(identity)
        table.hashes.append(whole)
        if space is not None and vector is not None:
            table.embeddings.setdefault(space, {})[place] = vector
    return table


def _by_hashes(hashes: list[bytes], distance: int) -> _Linked:
    table = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), 1 + len(HASHES) * BITS // 8)
    # Rows as one item each: equal ones are one group.
    whole = np.ascontiguousarray(table).view(np.dtype((np.void, table.shape[1]))).ravel()
    _, first, group = np.unique(whole, return_index=True, return_inverse=True)
    unique, pairs = table[first], []
    for marks in range(1, 1 << len(HASHES)):  # only clips that have the same hashes are compared
        own = np.flatnonzero(unique[:, 0] == marks)
        words = np.ascontiguousarray(unique[own, 1:]).view(np.uint64).reshape(len(own), len(HASHES), BITS // 64)
        words = words[:, [bool(marks >> place & 1) for place in range(len(HASHES))]]
        flat = words.reshape(len(own), words.shape[1] * words.shape[2])
        columns = np.asfortranarray(flat)  # a word of all clips together in memory
        for a, b in _sharing(flat):
            a, b = _within(columns, a, b, distance)
            near = np.bitwise_count(words[a] ^ words[b]).sum(2, dtype=np.int64).max(1) <= distance
            pairs.append(own[np.stack([a[near], b[near]], 1)])
    return _Linked(np.where(table[:, 0] > 0, group, -1), pairs)


def _by_embeddings(vectors: Mapping[int, np.ndarray], count: int, cosine: float) -> _Linked | _Compared:
    """Those of one space, by the clips' places."""
    places = np.array(sorted(vectors))
    rows = np.stack([vectors[place] for place in places])  # (k, D) float16
    if len(rows) <= EXACT:
        wide, size = rows.astype(np.float32), 1024
        alike = [np.packbits(wide[top : top + size] @ wide.T >= cosine, axis=1) for top in range(0, len(wide), size)]
        return _Compared(np.concatenate(alike), places, count)
    planes = np.random.default_rng(0).standard_normal((rows.shape[1], BITS)).astype(np.float32)
    middle = rows.mean(0, dtype=np.float64).astype(np.float32)  # embeddings lie in a cone: seen from 0, all are alike
    signs = [np.packbits((rows[i : i + EXACT] - middle) @ planes > 0, axis=1) for i in range(0, len(rows), EXACT)]
    words, pairs = np.concatenate(signs).view(np.uint64), []
    columns = np.asfortranarray(words)
    for a, b in _sharing(words):
        a, b = _within(columns, a, b, ROUGH // 2)
        rough = np.bitwise_count(words[a] ^ words[b]).sum(1, dtype=np.int64) <= ROUGH
        a, b = a[rough], b[rough]
        near = np.einsum("nd,nd->n", rows[a].astype(np.float32), rows[b].astype(np.float32)) >= cosine
        pairs.append(np.stack([a[near], b[near]], 1))
    group = np.full(count, -1)
    group[places] = np.arange(len(places))
    return _Linked(group, pairs)


def _sharing(words: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows of `words` (n, W) uint64 that share a band of 16 bits; some of them several times."""
    if len(words) < 2:
        return
    bands = np.ascontiguousarray(words).view(np.uint16).reshape(len(words), words.shape[1] * 4)
    for band in bands.T:
        order = np.argsort(band, kind="stable")
        edges = np.flatnonzero(np.diff(band[order])) + 1
        bounds = np.concatenate([[0], edges, [len(order)]])
        sizes = np.diff(bounds)
        end = np.repeat(bounds[1:], sizes)  # of the run of equal bands that a row stands in
        crowded = np.repeat(sizes > CROWD, sizes)
        left = np.where(crowded, 0, end - np.arange(len(order)) - 1)  # rows after each in its run
        yield from _pairs(order, left)


def _within(words: np.ndarray, a: np.ndarray, b: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs none of whose words differ in more bits than this; most pairs are through after the first word."""
    for column in words.T:
        near = np.bitwise_count(column[a] ^ column[b]) <= distance
        a, b = a[near], b[near]
    return a, b


def _pairs(order: np.ndarray, left: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each row with the `left` ones after it, about PAIRS at a time."""
    total = np.cumsum(left)
    begin = 0
    while begin < len(order):
        before = total[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(total, before + PAIRS, side="right")))
        own = left[begin:stop]
        if own.any():
            first = np.repeat(np.arange(begin, stop), own)
            steps = np.arange(len(first)) - np.repeat(np.cumsum(own) - own, own) + 1
            yield order[first], order[first + steps]
        begin = stop
