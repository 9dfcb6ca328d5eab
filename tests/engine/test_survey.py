"""What looks at the whole run gives one answer, however the run is cut into partitions."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.data.manifest import Row
from peav.engine.clip import Clip, WeakCaption
from peav.engine.survey import (
    calibrate,
    caption_counts,
    caption_key,
    fit_quantiles,
    merge_samples,
    repeated,
    sample,
)
from peav.errors import RecipeError


def scored(number: int, score: float | None, name: str = "tagger") -> Clip:
    clip = Clip(f"c{number}", Row(f"c{number}"))
    clip.weak[name] = WeakCaption("rain", "audio", "model@1", score=score)
    return clip


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.integers(1, 70), st.integers(1, 9), st.randoms())
def test_a_fit_depends_on_neither_order_nor_partitions(
    scores: list[float], count: int, parts: int, rng: random.Random
) -> None:
    clips = [scored(number, score) for number, score in enumerate(scores)]
    whole = fit_quantiles([sample(clips, count)], count)
    rng.shuffle(clips)
    samples = [json.loads(json.dumps(sample(clips[part::parts], count))) for part in range(parts)]
    assert fit_quantiles(samples, count) == whole
    assert fit_quantiles([merge_samples(samples[:2], count), *samples[2:]], count) == whole
    assert whole["captioners"]["tagger"]["scores"] == min(count, len(scores))
    assert whole == json.loads(json.dumps(whole))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_a_higher_score_never_has_less_confidence_and_equal_ones_have_the_same(scores: list[float]) -> None:
    clips = [scored(number, score) for number, score in enumerate(scores)]
    fit = fit_quantiles([sample(clips)])
    for clip in clips:
        calibrate(clip, fit)
    order = ["low", "medium", "high"]
    found = sorted((clip.weak["tagger"].score, order.index(str(clip.weak["tagger"].confidence))) for clip in clips)
    levels = [level for _, level in found]
    assert levels == sorted(levels)
    assert len(dict(found)) == len(set(found))


def test_distinct_scores_are_cut_into_thirds() -> None:
    clips = [scored(number, number / 9) for number in range(9)]
    fit = fit_quantiles([sample(clips)])
    for clip in clips:
        calibrate(clip, fit)
    assert [clip.weak["tagger"].confidence for clip in clips] == ["low"] * 3 + ["medium"] * 3 + ["high"] * 3
    assert fit["captioners"]["tagger"]["models"] == ["model@1"]


def test_shares_other_than_thirds_are_kept() -> None:
    clips = [scored(number, number / 10) for number in range(10)]
    fit = fit_quantiles([sample(clips)], shares=(0.5, 0.1))
    for clip in clips:
        calibrate(clip, fit)
    assert [clip.weak["tagger"].confidence for clip in clips] == ["low"] * 5 + ["medium"] * 4 + ["high"]


def test_scores_that_are_all_equal_are_of_medium_confidence() -> None:
    clips = [scored(number, 0.5) for number in range(4)]
    fit = fit_quantiles([sample(clips)])
    calibrate(clips[0], fit)
    assert clips[0].weak["tagger"].confidence == "medium"


def test_a_caption_without_a_score_has_no_confidence_and_is_not_in_the_fit() -> None:
    clip = scored(1, None)
    fit = fit_quantiles([sample([clip])])
    calibrate(clip, fit)
    assert clip.weak["tagger"].confidence is None
    assert fit["captioners"] == {}


def test_captioners_are_fitted_apart_and_one_that_is_not_in_the_fit_is_refused() -> None:
    clips = [scored(number, number / 3) for number in range(3)] + [scored(9, 7.0, "other")]
    fit = fit_quantiles([sample(clips)])
    assert (fit["captioners"]["tagger"]["low"], fit["captioners"]["other"]["low"]) == (1 / 3, 7.0)
    with pytest.raises(RecipeError, match="third"):
        calibrate(scored(1, 0.1, "third"), fit)


def test_shares_that_overlap_are_refused() -> None:
    with pytest.raises(RecipeError, match="shares"):
        fit_quantiles([], shares=(0.7, 0.7))


def captioned(number: int, text: str) -> Clip:
    return Clip(f"c{number}", Row(f"c{number}"), captions={"audio": text})


@given(st.lists(st.sampled_from(["rain", "a dog", "wind", "cars pass"]), max_size=60), st.integers(1, 7), st.randoms())
def test_repeated_captions_are_counted_over_the_whole_run(texts: list[str], parts: int, rng: random.Random) -> None:
    clips = [captioned(number, text) for number, text in enumerate(texts)]
    rng.shuffle(clips)
    counts = [json.loads(json.dumps(caption_counts(clips[part::parts]))) for part in range(parts)]
    most = max(10, 0.3 * len(texts))
    expected = {caption_key(text): texts.count(text) for text in set(texts) if texts.count(text) > most}
    assert repeated(counts, share=0.3).get("audio", {}) == expected


def test_case_punctuation_and_spaces_make_no_other_caption() -> None:
    assert caption_key("A dog  barks.") == caption_key("a dog barks")
    assert caption_key("A dog barks.") != caption_key("A dog howls.")
