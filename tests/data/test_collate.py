"""A batch pads without inventing anything, and its captions are drawn as the recipe says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peav.data.collate import Collator
from peav.data.manifest import Row
from peav.features.extract import ClipFeatures
from peav.inference.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["a bell rings", "a dog barks", "hello world"], 400)


def clip(steps: int | None, frames: int | None) -> ClipFeatures:
    rng = np.random.default_rng(0)
    return ClipFeatures(
        latents=None if steps is None else rng.normal(size=(steps, 6)).astype(np.float16),
        frames=None if frames is None else rng.integers(0, 255, (frames, 4, 4, 3), dtype=np.uint8),
    )


@given(st.lists(st.tuples(st.none() | st.integers(1, 9), st.none() | st.integers(1, 5)), min_size=1, max_size=5))
def test_streams_are_padded_with_zeros_and_missing_ones_have_length_zero(shapes) -> None:
    clips = [clip(*shape) for shape in shapes]
    rows = [Row(id=str(i)) for i in range(len(clips))]
    batch = Collator(TOKENIZER, 16)(rows, clips, np.random.default_rng(0))
    for i, (features, (steps, frames)) in enumerate(zip(clips, shapes, strict=True)):
        assert int(batch.audio_lengths[i]) == (steps or 0)
        assert int(batch.frame_lengths[i]) == (frames or 0)
        if steps:
            assert torch.equal(batch.audio[i, :steps], torch.from_numpy(features.latents).float())
        assert not batch.audio[i, steps or 0 :].any()
        if frames:
            assert torch.equal(batch.frames[i, :frames], torch.from_numpy(features.frames))


def test_draws_depend_on_the_generator_alone() -> None:
    row = Row(id="a", captions={"audio": [f"caption {i}" for i in range(50)]})
    collate = Collator(TOKENIZER, 16)
    first, second = (collate([row] * 4, [clip(3, None)] * 4, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first.texts["audio"].ids, second.texts["audio"].ids)
    other = collate([row] * 4, [clip(3, None)] * 4, np.random.default_rng(6))
    assert not torch.equal(first.texts["audio"].ids, other.texts["audio"].ids)


def test_a_missing_caption_is_marked_and_a_transcript_stands_in_for_a_missing_audio_caption() -> None:
    rows = [Row(id="a", transcript="hello world"), Row(id="b"), Row(id="c", captions={"video": ["a dog barks"]})]
    batch = Collator(TOKENIZER, 16, transcript_share=0.0)(rows, [clip(2, 2)] * 3, np.random.default_rng(0))
    assert batch.texts["audio"].present.tolist() == [True, False, False]
    assert batch.texts["video"].present.tolist() == [False, False, True]
    expected = TOKENIZER.encode("hello world").ids
    assert batch.texts["audio"].ids[0, : len(expected)].tolist() == expected


def test_of_real_and_synthetic_captions_so_many_are_real_and_either_kind_does_alone() -> None:
    def draws(real: list[str], made: list[str]) -> list[str]:
        row = Row(id="a", captions={"audio": real + made}, synthetic={"audio": made} if made else {})
        collate, rng = Collator(TOKENIZER, 16), np.random.default_rng(0)
        return [collate.draw(row, "audio", rng) for _ in range(4000)]

    both = draws(["real"], ["made 1", "made 2"])
    assert both.count("real") / 4000 == pytest.approx(1 / 11, abs=0.015)
    assert both.count("made 1") / 4000 == pytest.approx(5 / 11, abs=0.03)
    assert set(draws(["real"], [])) == {"real"}
    tested = Row(id="a", captions={"audio": ["real", "made"]}, synthetic={"audio": ["made"]}).by_people()
    assert {Collator(TOKENIZER, 16).draw(tested, "audio", np.random.default_rng(i)) for i in range(50)} == {"real"}
    assert set(draws([], ["made 1", "made 2"])) == {"made 1", "made 2"}


def test_equal_texts_share_a_group() -> None:
    rows = [Row(id=str(i), captions={"audio": [text]}) for i, text in enumerate(["x", "y", "x"])]
    groups = Collator(TOKENIZER, 16)(rows, [clip(1, None)] * 3, np.random.default_rng(0)).texts["audio"].groups
    assert groups[0] == groups[2] != groups[1]


def test_equal_media_share_a_group_whatever_their_ids_and_files_and_a_near_miss_does_not() -> None:
    bell, dog = clip(3, 2), ClipFeatures(latents=np.ones((3, 6), np.float16), frames=np.ones((2, 4, 4, 3), np.uint8))
    near_miss = ClipFeatures(latents=np.concatenate([bell.latents[:2], dog.latents[:1]]), frames=bell.frames)
    rows = [Row(id="a"), Row(id="b"), Row(id="a"), Row(id="a")]
    batch = Collator(TOKENIZER, 16)(rows, [bell, dog, bell, near_miss], np.random.default_rng(0))
    audio, video = (batch.groups[medium].tolist() for medium in ("audio", "video"))
    assert (audio[0], len(set(audio))) == (audio[2], 3)
    assert (video[0], video[0], len(set(video))) == (video[2], video[3], 2)
    again = Collator(TOKENIZER, 16)(rows[:1], [clip(3, 2)], np.random.default_rng(1))
    assert again.groups["audio"].tolist() == audio[:1]


def test_texts_are_cut_at_the_longest_allowed_and_keep_their_frame() -> None:
    rows = [Row(id="a", captions={"audio": ["bell " * 100]})]
    ids = Collator(TOKENIZER, 12)(rows, [clip(1, None)], np.random.default_rng(0)).texts["audio"].ids
    assert ids.shape == (1, 12)
    assert (ids[0, 0], ids[0, -1]) == (TOKENIZER.token_to_id("[CLS]"), TOKENIZER.token_to_id("[SEP]"))
