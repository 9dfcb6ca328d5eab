"""Splicing crosses two sentences word for word, sound and text and times together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.data.manifest import Row
from peav.data.transforms import SourceContext
from peav.features.extract import ClipFeatures
from peav.lab.splice import WordSwap, cross
from peav.types import Word

RATE = 25.0
ONE = 1e-9  # a share so small that the word which is taken for certain is the only one


class Cache:
    """Features held in memory, of a codec with 4 samples a latent."""

    config = SimpleNamespace(audio=SimpleNamespace(codec=SimpleNamespace(sampling_rate=100, hop_length=4)))
    extract = SimpleNamespace(model=SimpleNamespace(config=config))

    def __init__(self, clips: dict[str, ClipFeatures]) -> None:
        self.clips = clips

    def load(self, row: Row) -> ClipFeatures:
        return self.clips[row.id]


@st.composite
def sentence(draw: st.DrawFn, words: int, tag: str) -> tuple[np.ndarray, tuple[Word, ...]]:
    """Steps marked with the word that they belong to, or with silence, and the words' times."""
    marks, timed_words = [], []
    for place in range(words):
        marks += [f"{tag}:silence {place}"] * draw(st.integers(0, 3))
        start = len(marks)
        marks += [f"{tag}{place}"] * draw(st.integers(1, 5))
        timed_words.append(Word(f"{tag}{place}", start / RATE, len(marks) / RATE))
    marks += [f"{tag}:end"] * draw(st.integers(0, 3))
    return np.array(marks), tuple(timed_words)


@given(st.data())
def test_the_words_taken_are_the_others_the_rest_and_every_silence_stay(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    base, base_words = data.draw(sentence(count, "a"))
    donor, donor_words = data.draw(sentence(count, "b"))
    taken = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    spliced, words = cross(base, base_words, donor, donor_words, taken, RATE)
    naive = []
    at = 0
    for place, (own, theirs) in enumerate(zip(base_words, donor_words, strict=True)):
        naive += list(base[at : round(own.start * RATE)])
        source, word = (donor, theirs.word) if taken[place] else (base, own.word)
        naive += [mark for mark in source if mark == word]
        at = round(own.end * RATE)
    naive += list(base[at:])
    assert list(spliced) == naive
    assert [word.word for word in words] == [f"{'b' if take else 'a'}{place}" for place, take in enumerate(taken)]
    for word in words:
        assert set(spliced[round(word.start * RATE) : round(word.end * RATE)]) == {word.word}


def started(rows: list[Row], cache: Cache, share: float = ONE, pictures: bool = False) -> WordSwap:
    swap = WordSwap(share, pictures)
    assert swap.start(rows, SourceContext(cache, 1.25, Path("failures.jsonl"))) == rows
    return swap


def rows_and_cache(waveforms: bool = False) -> tuple[list[Row], Cache]:
    rows, clips = [], {}
    for number, text in enumerate(["Bin blue now", "set red soon", "hello"]):
        words = tuple(Word(word, i * 0.4, i * 0.4 + 0.4) for i, word in enumerate(text.lower().split()))
        row = Row(
            id=str(number), audio_path=Path("a"), video_path=Path("a"), transcript=text, words=words,
            captions={"audio": ["a man speaks"]},
        )  # fmt: skip
        rows.append(row)
        steps = 10 * len(words)
        value = np.full(steps * 4 if waveforms else (steps, 2), number, np.float16)
        clips[row.id] = ClipFeatures(waveform=value) if waveforms else ClipFeatures(latents=value, frames=np.zeros(3))
    return rows, Cache(clips)


@pytest.mark.parametrize("waveforms", [False, True])
def test_a_near_miss_has_at_least_one_word_of_another_sentence_as_long(waveforms: bool) -> None:
    rows, cache = rows_and_cache(waveforms)
    swap = started(rows, cache)
    seen = set()
    for seed in range(20):
        row, clip = swap.draw(rows[0], np.random.default_rng(seed), load=True)
        seen.add(row.transcript)
        array = clip.waveform.reshape(-1, 4)[:, 0] if waveforms else clip.latents[:, 0]
        said = row.transcript.split()
        assert len(array) == 30
        assert [int(array[10 * i]) for i in range(3)] == [int(w in ("set", "red", "soon")) for w in said]
    assert seen == {"set blue now", "Bin red now", "Bin blue soon"}


def test_the_word_that_is_taken_for_certain_is_one_that_differs() -> None:
    rows, cache = rows_and_cache()
    other = replace(rows[1], transcript="bin blue soon", words=(*rows[0].words[:2], rows[1].words[2]))
    swap = started([rows[0], other], cache)
    said = {swap.draw(rows[0], np.random.default_rng(seed), load=True)[0].transcript for seed in range(20)}
    assert said == {"Bin blue soon"}


def test_a_place_where_many_words_are_said_is_taken_more_often() -> None:
    said = [f"{letter} {digit}" for letter in "abcdefgh" for digit in ("one", "two")]
    times = ((0.0, 0.2), (0.2, 0.4))
    words = [tuple(Word(w, *at) for w, at in zip(text.split(), times, strict=True)) for text in said]
    rows = [
        Row(id=text, audio_path=Path("a.wav"), transcript=text, words=w) for text, w in zip(said, words, strict=True)
    ]
    cache = Cache({row.id: ClipFeatures(latents=np.zeros((10, 1), np.float32)) for row in rows})
    swap = started(rows, cache)
    made = [swap.draw(rows[0], np.random.default_rng(seed), load=True)[0].transcript.split() for seed in range(1000)]
    letters = sum(letter != "a" for letter, _ in made)
    # of the 15 others one differs in the digit alone, seven in the letter alone, seven in both: there 8 to 2
    assert abs(letters / 1000 - (7 + 7 * 8 / 10) / 15) < 0.05
    assert all((letter != "a") != (digit != "one") for letter, digit in made)


def test_nothing_that_is_no_longer_true_of_a_clip_stays_with_it() -> None:
    rows, cache = rows_and_cache()
    row, clip = started(rows, cache, 1.0).draw(rows[0], np.random.default_rng(0), load=True)
    assert (row.captions, row.events, row.video_path, clip.frames) == ({}, (), None, None)


def test_the_picture_is_spliced_along_with_the_words() -> None:
    """Two clips of unlike speed, whose frames tell their clip and their time."""
    words = {
        "a": tuple(Word(word, at, at + 0.4) for word, at in (("bin", 0.0), ("blue", 0.4), ("now", 0.8))),
        "b": tuple(Word(word, at, at + 0.8) for word, at in (("set", 0.0), ("red", 0.8), ("soon", 1.6))),
    }
    lengths = {"a": 30, "b": 60}
    rows = [
        Row(i, audio_path=Path(i), video_path=Path(i), transcript=" ".join(w.word for w in words[i]), words=words[i])
        for i in words
    ]
    clips = {
        i: ClipFeatures(
            latents=np.zeros((lengths[i], 2), np.float16),
            frames=np.array([[number, time] for time in np.linspace(0, 1, 61)]),
        )
        for number, i in enumerate(words)
    }
    swap = started(rows, Cache(clips), 0.4, pictures=True)
    for seed in range(10):
        row, clip = swap.draw(rows[0], np.random.default_rng(seed), load=True)
        assert row.video_path == rows[0].video_path
        assert len(clip.frames) == 61
        total = len(clip.latents) / RATE
        for (number, time), at in zip(clip.frames, np.linspace(0, total - 1 / RATE, 61), strict=True):
            place, word = next((n, w) for n, w in enumerate(row.words) if w.start <= at + 1e-9 < w.end)
            if min(at - word.start, word.end - at) < 1 / RATE:
                continue  # on the edge of a step either word may be shown
            source = "b" if word.word in {w.word for w in words["b"]} else "a"
            assert number == "ab".index(source)
            then = words[source][place].start + at - word.start
            assert time * (lengths[source] - 1) / RATE == pytest.approx(then, abs=0.05)


def test_the_same_generator_gives_the_same_sentence() -> None:
    rows, cache = rows_and_cache()
    first, second = (started(rows, cache, 0.5).draw(rows[1], np.random.default_rng(3), load=True) for _ in range(2))
    assert first[0] == second[0]
    assert np.array_equal(first[1].latents, second[1].latents)


def test_punctuation_keeps_no_sentence_from_being_spliced() -> None:
    first, second, _ = rows_and_cache()[0]
    first = replace(first, transcript="Bin, blue now!")
    assert WordSwap(ONE).train_rows([first, second], 1.25) == [first, second]
    _, cache = rows_and_cache()
    row, _ = started([first, second], cache, ONE).draw(first, np.random.default_rng(0), load=True)
    assert row.transcript in {"set blue now!", "Bin, red now!", "Bin, blue soon"}


def test_only_clips_that_hold_each_word_at_its_time_and_have_a_partner_are_spliced() -> None:
    first, second, alone = rows_and_cache()[0]
    swapped = (first.words[1], first.words[0], first.words[2])
    others = [
        replace(first, words=first.words[:2]),
        replace(first, transcript="blue Bin now", words=swapped),
        replace(first, audio_path=None),
        Row(id="silent", audio_path=Path("a")),
        alone,
    ]
    assert WordSwap(ONE).train_rows([*others, first, second], 1.25) == [first, second]
    assert WordSwap(ONE).train_rows([first, second], 1.1) == []
