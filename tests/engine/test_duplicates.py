"""Duplicates: as comparing all pairs would find them, whatever the order, the partitions and what came before."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peav.data.manifest import Row
from peav.engine import duplicates as module
from peav.engine.clip import Clip
from peav.engine.duplicates import duplicate_summary, duplicates
from peav.engine.embedding import to_text

Said = dict[str, str | None]


def bits(text: str | None) -> int:
    return int(text or "0", 16)


def alike(a: Said, b: Said, distance: int, cosine: float) -> bool:
    there = [name for name in ("audio", "frames") if a[name]]
    same = there == [name for name in ("audio", "frames") if b[name]]
    if there and same and all((bits(a[name]) ^ bits(b[name])).bit_count() <= distance for name in there):
        return True
    if a["space"] is None or a["space"] != b["space"]:
        return False
    vectors = [module.from_text(str(one["embedding"])) for one in (a, b)]
    return float(vectors[0] @ vectors[1]) >= cosine


def brute_force(rows: Mapping[str, Said], earlier: Mapping[str, str | None], distance: int, cosine: float):
    """The definition, pair by pair."""
    kept: list[str] = []
    found = {}
    for identity in sorted(rows, key=lambda one: (not (one in earlier and earlier[one] is None), one)):
        before = earlier.get(identity)
        if before is not None and before in rows:
            found[identity] = before
        elif not (identity in earlier and before is None) and (
            near := [one for one in kept if alike(rows[identity], rows[one], distance, cosine)]
        ):
            found[identity] = near[0]
        else:
            kept.append(identity)
    return found


def run(seed: int, count: int = 60) -> dict[str, Said]:
    """Clips in a few families, whose members differ in up to some 20 bits and a little of their embedding."""
    rng = np.random.default_rng(seed)
    families = max(1, count // 5)
    hashes = rng.integers(0, 256, (families, 2, 32), dtype=np.uint8)
    centers = rng.standard_normal((families, 8))

    def near(base: np.ndarray) -> str:
        flips = np.zeros(256, np.uint8)
        flips[rng.choice(256, rng.integers(0, 20), replace=False)] = 1
        return (base ^ np.packbits(flips)).tobytes().hex()

    rows: dict[str, Said] = {}
    for number in rng.permutation(count):
        own = int(rng.integers(families))
        vector = centers[own] + rng.normal(0, 0.2, 8)
        embedded = rng.random() < 0.5
        rows[f"c{number:04d}"] = {
            "audio": near(hashes[own, 0]) if rng.random() < 0.8 else None,
            "frames": near(hashes[own, 1]) if rng.random() < 0.8 else None,
            "space": str(rng.choice(["audio", "audio_video"])) if embedded else None,
            "embedding": to_text(vector / np.linalg.norm(vector)) if embedded else None,
        }
    return rows


def parted(rows: Mapping[str, Said], parts: int, rng: random.Random) -> list[dict[str, Said]]:
    items = list(rows.items())
    rng.shuffle(items)
    return [json.loads(json.dumps(dict(items[part::parts]))) for part in range(parts)]


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 6), st.randoms())
def test_it_finds_what_comparing_all_pairs_finds_in_any_order_and_partitions(
    seed: int, parts: int, rng: random.Random
) -> None:
    rows = run(seed)
    # Hashes that differ in 15 bits or fewer share a band for certain.
    expected = brute_force(rows, {}, 15, 0.97)
    assert duplicates(parted(rows, parts, rng), distance=15, cosine=0.97) == expected


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 1), st.randoms())
def test_what_was_decided_before_a_manifest_grew_stands(
    seed: int, parts: int, share: float, rng: random.Random
) -> None:
    rows = run(seed)
    old = {identity: said for identity, said in rows.items() if rng.random() < share}
    before = duplicates([old], distance=15, cosine=0.97)
    earlier = {identity: before.get(identity) for identity in old}
    after = duplicates(parted(rows, parts, rng), earlier, distance=15, cosine=0.97)
    assert after == brute_force(rows, earlier, 15, 0.97)
    assert {identity: after.get(identity) for identity in old} == earlier
    assert not after.keys() & set(after.values())  # what is repeated is there


def test_the_lowest_id_stays_and_a_row_of_likes_is_no_chain() -> None:
    def said(ones: int) -> Said:
        return {"audio": f"{(1 << ones) - 1:064x}", "frames": None, "space": None, "embedding": None}

    rows = {"b": said(10), "c": said(20), "a": said(0)}
    # c is like b alone, and b is not there.
    assert duplicates([rows], distance=12) == {"b": "a"}
    assert duplicates([rows], distance=None) == {}


def test_clips_without_hashes_repeat_nothing() -> None:
    nothing: Said = {"audio": None, "frames": None, "space": None, "embedding": None}
    assert duplicates([{"a": nothing, "b": nothing}]) == {}
    assert duplicates([]) == {}


def test_many_embeddings_are_found_by_their_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound they are not compared all with all; what is as close as duplicates are is still found."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((400, 64))
    vectors = np.concatenate([vectors, vectors + rng.normal(0, 0.05, vectors.shape)]) + 2.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = {
        f"c{place:04d}": {"audio": None, "frames": None, "space": "audio", "embedding": to_text(vector)}
        for place, vector in enumerate(vectors)
    }
    expected = {f"c{place + 400:04d}": f"c{place:04d}" for place in range(400)}
    assert duplicates([rows], cosine=0.999) == expected
    monkeypatch.setattr(module, "EXACT", 100)
    assert duplicates([rows], cosine=0.999) == expected


def test_only_open_clips_are_compared() -> None:
    clips = [Clip(name, Row(name), measures={"hashes": {"audio": "0" * 63 + "1", "frames": None}}) for name in "abc"]
    clips[0].filtered = "silence: -72.1 dB, below -60 dB"
    assert duplicates([duplicate_summary(clips)]) == {"c": "b"}


def test_hashes_that_differ_in_twenty_bits_at_random_are_nearly_always_found() -> None:
    rng = np.random.default_rng(2)
    rows: dict[str, Said] = {}
    for number in range(500):
        base, flips = rng.integers(0, 256, 32, dtype=np.uint8), np.zeros(256, np.uint8)
        flips[rng.choice(256, 20, replace=False)] = 1
        for name, own in (("a", base), ("b", base ^ np.packbits(flips))):
            rows[f"{number:04d}{name}"] = {
                "audio": own.tobytes().hex(), "frames": None, "space": None, "embedding": None
            }  # fmt: skip
    assert len(duplicates([rows], distance=20)) >= 495
