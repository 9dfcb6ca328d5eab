"""Frame targets say where a text is heard, and nothing where a manifest does not tell."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peav.data.frame_targets import FrameTargetMaker, label_log_odds
from peav.data.manifest import Row
from peav.types import Event

RATE = 25.0


def row(name: str, *events: Event, background: str | None = None) -> Row:
    return Row(name, audio_path=Path("a"), events=events, extra={"background": background} if background else {})


BARK = row("bark", Event("dog barking", 0.1, 0.3), Event("dog barking", 0.6, 0.7))
BELL = row("bell", Event("bell", 0.0, 1.0))
DOG = row("dog", Event("dog", 0.2, 0.4, texts=("a dog barks",)), background="rain")
MIXES = [DOG, row("rain", Event("rain", 0.0, 0.1)), row("nothing")]
MAKE = FrameTargetMaker([[BARK, BELL], MIXES], RATE)
ALL = slice(None)


def targets(rows: list[Row], lengths: list[int], part: slice = ALL, seed: int = 0):
    return MAKE(rows, part, lengths, np.random.default_rng(seed))


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=4), st.integers(1, 50))
def test_a_frame_is_heard_where_its_middle_lies_in_an_event(times: list[tuple[float, float]], length: int) -> None:
    clip = row("x", *(Event("bell", min(pair), max(pair)) for pair in times))
    found = targets([clip, BELL], [length, length])
    for frame in range(length):
        middle = (frame + 0.5) / RATE
        assert bool(found.heard[0, 0, frame]) == any(e.onset <= middle < e.offset for e in clip.events)


def test_every_text_of_the_batch_is_scored_on_every_clip_and_padding_on_none() -> None:
    found = targets([BARK, BELL], [20, 25])
    assert found.texts == ["bell", "dog barking"]
    assert found.known[0, :, :20].all()
    assert not found.known[0, :, 20:].any()
    assert found.known[1].all()
    assert found.heard[0, 1].nonzero()[:, 0].tolist() == [2, 3, 4, 5, 6, 15, 16]


def test_a_label_of_another_source_that_shares_a_word_is_not_known_either_way() -> None:
    found = targets([BARK, DOG, BELL], [25, 25, 25])
    columns = {"bell": 0, "dog": 1, "dog barking": 2}
    assert not found.known[0, columns["dog"]].any()
    assert not found.known[1, columns["dog barking"]].any()
    assert found.known[2].all()
    assert found.known[1, columns["bell"]].all()


def test_labels_of_the_own_source_are_known_even_where_they_share_a_word() -> None:
    man, old = row("m", Event("man speaking", 0, 1)), row("o", Event("old man speaking", 0, 1))
    found = FrameTargetMaker([[man, old]], RATE)([man, old], ALL, [5, 5], np.random.default_rng(0))
    assert found.known.all()
    assert found.heard.any(-1).tolist() == [[True, False], [False, True]]


def test_nothing_is_known_of_a_clips_background() -> None:
    found = targets([DOG, MIXES[1], MIXES[2]], [25, 25, 25])
    column = found.texts.index("rain")
    assert found.known[:, column].any(-1).tolist() == [False, True, True]


def test_one_of_the_ways_to_name_a_label_is_drawn() -> None:
    drawn = {targets([DOG], [25], seed=seed).texts[0] for seed in range(20)}
    assert drawn == {"dog", "a dog barks"}


def test_processes_that_share_a_batch_have_its_rows_and_the_same_texts() -> None:
    rows, lengths = [BARK, BELL, DOG, MIXES[2]], [20, 25, 10, 25]
    whole = targets(rows, lengths, seed=4)
    for rank in range(2):
        own = slice(rank, None, 2)
        part = targets(rows, lengths[own], own, seed=4)
        width = max(lengths[own])
        assert part.texts == whole.texts
        assert torch.equal(part.offsets, whole.offsets)
        assert torch.equal(part.heard, whole.heard[own, :, :width])
        assert torch.equal(part.known, whole.known[own, :, :width])


def test_of_a_batch_without_events_nothing_is_known() -> None:
    found = targets([MIXES[2]], [5])
    assert (found.texts, found.known.shape) == ([""], (1, 1, 5))
    assert not found.known.any()


def test_underscores_of_a_label_are_not_read() -> None:
    bark, bell = row("b", Event("dog_bark", 0, 1)), row("c", Event("dog", 0, 1))
    found = FrameTargetMaker([[bark], [bell]], RATE)([bark, bell], ALL, [5, 5], np.random.default_rng(0))
    assert found.texts == ["dog", "dog bark"]
    assert found.known.any(-1).tolist() == [[False, True], [True, False]]


def test_sources_that_use_the_same_ids_keep_their_own_labels() -> None:
    one, other = row("x", Event("dog bark", 0, 1)), row("x", Event("bell", 0, 1))
    other = replace(other, audio_path=Path("b"))
    dog = replace(row("y", Event("dog", 0, 1)), audio_path=Path("b"))
    found = FrameTargetMaker([[one], [other, dog]], RATE)([one, dog], ALL, [5, 5], np.random.default_rng(0))
    assert found.texts == ["dog", "dog bark"]
    assert found.known.any(-1).tolist() == [[False, True], [True, False]]


def test_a_label_is_drawn_as_often_as_another_way_to_name_it() -> None:
    rows = [row(str(n), Event("dog", 0, 1, texts=("a dog barks",))) for n in range(20)]
    make = FrameTargetMaker([rows], RATE)
    drawn = [make(rows, ALL, [5] * 20, np.random.default_rng(seed)).texts[0] for seed in range(200)]
    assert 70 < drawn.count("dog") < 130


def test_log_odds_are_relative_to_the_mean_label() -> None:
    odds = label_log_odds([row("a", Event("long", 0, 4), Event("short", 0, 1)), row("b", Event("never", 1, 1))])
    assert odds == {"long": pytest.approx(math.log(2)), "short": pytest.approx(-math.log(2))}
