from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from peav.data.manifest import Row
from peav.errors import EvaluationError
from peav.eval.directions import DIRECTIONS
from peav.eval.protocols import linear_probe, logistic_regression, retrieval, zero_shot
from peav.types import modalities

D = 24


class Oracle:
    """Knows which vector each thing means: `meanings` maps row ids and texts to unit directions; others are noise."""

    def __init__(self, meanings: dict[str, int]) -> None:
        self.meanings = meanings
        self.calls: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.spaces: list[str] = []

    def streams(self, rows: Sequence[Row]) -> list[frozenset]:
        return [frozenset(modalities(row.audio_path is not None, row.video_path is not None)) for row in rows]

    def media(self, rows: Sequence[Row], spaces: Collection) -> dict:
        self.calls.append((tuple(row.id for row in rows), tuple(spaces)))
        nothing = np.full(D, np.nan)
        return {
            space: np.stack(
                [
                    self._vector(row.id) if space in has else nothing
                    for row, has in zip(rows, self.streams(rows), strict=True)
                ]
            )
            for space in spaces
        }

    def texts(self, texts: Sequence[str], space: str) -> np.ndarray:
        self.spaces.append(space)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, key: str) -> np.ndarray:
        return np.eye(D)[self.meanings[key]] + 0.01 * np.random.default_rng(len(key)).random(D)


def row(
    number: int, *, audio: bool = True, video: bool = True, transcript: str | None = None, caption: str | None = None
) -> Row:
    kinds = ("audio", "video", "audio_video")
    return Row(
        id=f"clip{number}",
        audio_path=Path("a.wav") if audio else None,
        video_path=Path("v.mp4") if video else None,
        captions={kind: [caption or f"{kind} {number}"] for kind in kinds},
        transcript=transcript,
    )


def oracle_for(rows: Sequence[Row]) -> Oracle:
    meanings = {}
    for number, entry in enumerate(rows):
        texts = [text for kind in entry.captions.values() for text in kind]
        for key in (entry.id, *texts, *([entry.transcript] if entry.transcript else [])):
            meanings.setdefault(key, number)
    return Oracle(meanings)


def test_an_oracle_is_perfect_in_every_direction() -> None:
    rows = [row(i, transcript=f"words {i}") for i in range(20)]
    results = retrieval(oracle_for(rows), rows, DIRECTIONS)
    assert [result.direction for result in results] == list(DIRECTIONS)
    for result in results:
        assert (result.queries, result.targets, result.median_rank, result.mrr) == (20, 20, 1, 1)
        assert result.recall == {1: 1, 5: 1, 10: 1}
        assert result.chance == {1: pytest.approx(0.05), 5: pytest.approx(0.25), 10: pytest.approx(0.5)}


def test_a_wrong_pairing_is_found_wrong() -> None:
    rows = [row(i) for i in range(20)]
    oracle = oracle_for(rows)
    oracle.meanings |= {f"clip{i}": (i + 1) % 20 for i in range(20)}
    by_name = {result.direction: result for result in retrieval(oracle, rows, ("t2a", "a2v"))}
    assert by_name["t2a"].recall[1] == 0
    assert by_name["a2v"].recall[1] == 1


def test_captions_are_those_of_the_medium_in_the_mediums_own_text_space() -> None:
    rows = [row(i, transcript=f"words {i}") for i in range(3)]
    for name, space in {"t2av": "audio_video", "v2t": "video", "t2a": "audio", "video2transcript": "video"}.items():
        oracle = oracle_for(rows)
        asked = []
        oracle.texts = lambda texts, space, asked=asked: asked.append((texts, space)) or np.eye(3, D)
        retrieval(oracle, rows, [name])
        kind = "words" if "transcript" in name else space
        assert sorted(asked[0][0]) == [f"{kind} {i}" for i in range(3)]
        assert asked[0][1] == space


def test_any_clip_that_shares_the_text_is_a_right_answer() -> None:
    rows = [row(i, caption="the same" if i < 3 else f"other {i}") for i in range(6)]
    results = {r.direction: r for r in retrieval(oracle_for(rows), rows, ("t2a", "a2t"))}
    assert (results["t2a"].queries, results["t2a"].targets) == (4, 6)
    assert (results["a2t"].queries, results["a2t"].targets) == (6, 4)
    assert results["t2a"].chance[1] == pytest.approx((3 / 6 + 3 * 1 / 6) / 4)


def test_every_paraphrase_is_a_query() -> None:
    rows = [Row(f"clip{i}", Path("a.wav"), captions={"audio": [f"{i} once", f"{i} again"]}) for i in range(4)]
    (result,) = retrieval(oracle_for(rows), rows, ["t2a"])
    assert (result.queries, result.targets, result.recall[1]) == (8, 4, 1)


def test_a_transcript_is_searched_once_however_many_clips_say_it() -> None:
    rows = [row(i, transcript=f"sentence {i // 2}") for i in range(8)]
    results = {r.direction: r for r in retrieval(oracle_for(rows), rows, candidates=3)}
    assert results["speech2transcript"].targets == results["transcript2speech"].targets == 3
    assert results["t2a"].targets == 3


def test_each_direction_searches_the_rows_that_have_both_sides() -> None:
    rows = [row(i, audio=i != 0, video=i % 2 == 0, transcript="hello" if i == 3 else None) for i in range(8)]
    results = {r.direction: r for r in retrieval(oracle_for(rows), rows)}
    assert results["t2a"].targets == 7
    assert results["t2v"].targets == 4
    assert results["t2av"].targets == results["a2v"].targets == 3
    assert "speech2transcript" not in results


def test_media_are_embedded_in_one_call_and_only_those_searched() -> None:
    rows = [row(i) for i in range(20)]
    oracle = oracle_for(rows)
    results = retrieval(oracle, rows, ("t2a", "a2v", "v2a"), candidates=5, seed=1)
    assert all(result.targets == 5 for result in results)
    ((ids, spaces),) = oracle.calls
    assert len(ids) == 5
    assert set(spaces) == {"audio", "video"}


def test_the_seed_alone_decides_the_candidates() -> None:
    rows = [row(i) for i in range(20)]

    def chosen(seed: int) -> tuple[str, ...]:
        oracle = oracle_for(rows)
        retrieval(oracle, rows, ["a2v"], candidates=5, seed=seed)
        return oracle.calls[0][0]

    assert chosen(3) == chosen(3)
    assert chosen(3) != chosen(4)


def test_an_unknown_direction_names_the_known_ones() -> None:
    with pytest.raises(EvaluationError, match="no direction 'a2b'; the directions are t2av"):
        retrieval(Oracle({}), [], ["a2b"])


def test_nan_embeddings_are_an_error() -> None:
    rows = [row(i) for i in range(3)]
    oracle = oracle_for(rows)
    oracle._vector = lambda key: np.full(D, np.nan)
    with pytest.raises(EvaluationError, match="not finite"):
        retrieval(oracle, rows, ["a2v"])


def test_zero_shot_takes_the_class_with_the_nearest_prompts() -> None:
    rows = [row(i) for i in range(4)]
    oracle = Oracle({"clip0": 0, "clip1": 0, "clip2": 1, "clip3": 1, "a dog": 0, "barking": 0, "rain": 1})
    result = zero_shot(oracle, rows, ["dog", "dog", "rain", "dog"], {"dog": ["a dog", "barking"], "rain": ["rain"]})
    assert (result.accuracy, result.chance, result.clips, result.classes) == (0.75, 0.75, 4, 2)
    with pytest.raises(EvaluationError, match="no prompts for cat"):
        zero_shot(oracle, rows[:1], ["cat"], {"dog": ["a dog"]})
    with pytest.raises(EvaluationError, match="at least one row"):
        zero_shot(oracle, [], [], {"dog": ["a dog"]})


def test_logistic_regression_equals_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=120)
    x = rng.normal(size=(120, 6)) + np.eye(4, 6)[y]
    weight, bias = logistic_regression(x, y)
    reference = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(x, y)
    np.testing.assert_allclose(weight.T, reference.coef_, atol=1e-3)
    log_odds = x @ weight + bias
    expected = reference.decision_function(x)
    np.testing.assert_allclose(
        log_odds - log_odds.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=1e-2
    )


def test_a_linear_probe_learns_from_train_and_is_measured_on_test() -> None:
    train, test = [row(i) for i in range(8)], [row(i) for i in range(8, 12)]
    oracle = Oracle({f"clip{i}": i % 2 for i in range(12)})
    labels = ["even", "odd"]
    result = linear_probe(oracle, train, labels * 4, test, labels * 2)
    assert (result.accuracy, result.clips, result.classes) == (1, 4, 2)
    swapped = linear_probe(oracle, train, labels * 4, test, labels[::-1] * 2)
    assert swapped.accuracy == 0
    with pytest.raises(EvaluationError, match="no training rows for cat"):
        linear_probe(oracle, train, labels * 4, test[:1], ["cat"])
    with pytest.raises(EvaluationError, match="rows to train on"):
        linear_probe(oracle, [], [], test, labels * 2)
