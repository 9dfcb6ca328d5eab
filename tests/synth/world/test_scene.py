"""The world's promises: pure in (seed, split, index), splits that hold out what they say, honest captions."""

from __future__ import annotations

import itertools
import re
from functools import cache

import numpy as np
import pytest

from peav.synth.world import compose
from peav.synth.world.backdrops import BACKDROPS
from peav.synth.world.canvas import COLORS
from peav.synth.world.captions import GRAMMAR, captions
from peav.synth.world.kind import FRAME
from peav.synth.world.kinds import KINDS
from peav.synth.world.scene import LONGEST, SHORTEST, Mix, Scene
from peav.synth.world.splits import SPLITS, is_held_out, sentence_split
from peav.synth.world.voices import VOICES
from peav.synth.world.write import manifest_row
from peav.types import MODALITIES

SAMPLE = 200


@cache
def scenes(split: str) -> tuple[Scene, ...]:
    return tuple(compose(7, split, index) for index in range(SAMPLE))


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", re.sub(r'".*?"', "", text)))


def kinds_of(scene: Scene) -> list[str]:
    return [thing.kind.name for thing in scene.things]


def test_a_scene_is_a_pure_function_of_seed_split_and_index() -> None:
    first = [manifest_row(compose(7, "train", index), 7) for index in range(20)]
    again = [manifest_row(compose(7, "train", index), 7) for index in reversed(range(20))][::-1]
    assert first == again
    assert first != [manifest_row(compose(8, "train", index), 8) for index in range(20)]


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_every_time_is_a_whole_number_of_frames_inside_the_clip(split: str) -> None:
    for scene in scenes(split):
        assert SHORTEST <= scene.duration <= LONGEST
        times = [edge for thing in scene.things for span in thing.pulses for edge in span]
        for time in (scene.duration, *times):
            assert time / FRAME == pytest.approx(round(time / FRAME), abs=1e-6)
            assert 0 <= time <= scene.duration
        for thing in scene.things:
            assert all(start < end for start, end in thing.pulses)
            assert all(one[1] <= other[0] for one, other in itertools.pairwise(thing.pulses))
        if scene.speaker is not None:
            assert 0 <= scene.speaker.start < scene.speaker.end <= scene.duration


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation"])
def test_held_out_pairs_of_kinds_never_meet_outside_test(split: str) -> None:
    for scene in scenes(split):
        assert not any(is_held_out(one, other) for one, other in itertools.combinations(kinds_of(scene), 2))


@pytest.mark.slow
def test_every_test_clip_with_two_kinds_has_a_held_out_pair() -> None:
    several = [kinds_of(scene) for scene in scenes("test") if len(scene.things) > 1]
    assert len(several) > SAMPLE / 2
    for names in several:
        assert any(is_held_out(one, other) for one, other in itertools.combinations(names, 2))


def test_every_kind_has_a_held_out_partner_and_partners_in_training() -> None:
    for name in KINDS:
        partners = sum(is_held_out(name, other) for other in KINDS)
        assert 1 <= partners <= len(KINDS) // 2


@pytest.mark.slow
def test_voices_speak_only_in_their_split() -> None:
    heard = {split: {scene.speaker.voice for scene in scenes(split) if scene.speaker} for split in SPLITS}
    for split, voices in heard.items():
        assert all(voice.split in (None, split) for voice in voices)
    for split in ("validation", "test"):
        assert {voice for voice in VOICES if voice.split == split} <= heard[split]


def test_sentences_are_said_in_one_split_only() -> None:
    said = {split: {scene.speaker.transcript for scene in scenes(split) if scene.speaker} for split in SPLITS}
    for split, sentences in said.items():
        assert sentences
        assert {sentence_split(sentence) for sentence in sentences} == {split}


@pytest.mark.slow
def test_novel_phrasings_appear_in_the_first_paraphrase_of_test_and_nowhere_in_training() -> None:
    for kind in MODALITIES:
        patterns = [_pattern(frame) for frame in GRAMMAR["novel"][f"{kind}_frames"]]
        assert all(any(map(_fits(text), patterns)) for scene in scenes("test") for text in captions(scene)[kind][:1])
        seen = (text for split in ("train", "validation") for scene in scenes(split) for text in captions(scene)[kind])
        assert not any(any(map(_fits(text), patterns)) for text in seen)


def _pattern(frame: str) -> re.Pattern[str]:
    place = "|".join(re.escape(place) for backdrop in BACKDROPS for place in backdrop.places)
    # A space more or less tells "there is {body}" apart from nothing: anchor the frame at the caption's start.
    return re.compile("^" + re.escape(frame).replace(r"\{body\}", ".+").replace(r"\{place\}", f"(?:{place})"))


def _fits(text: str):
    return lambda pattern: pattern.match(text) is not None


def test_test_captions_use_no_word_that_training_lacks() -> None:
    def said(split: str) -> set[str]:
        written = [texts for scene in scenes(split) for texts in captions(scene).values()]
        return set().union(*(words(text) for texts in written for text in texts))

    common = said("train")
    novel = [phrase for phrases in GRAMMAR["novel"].values() for phrase in phrases]
    assert set().union(*(words(frame.format(body="", place="")) for frame in novel)) <= common


def test_audio_captions_name_nothing_that_is_only_seen() -> None:
    visual = {*COLORS, "left", "right", "centre", "middle", "camera", "view", "picture", "shirt", "hair", "silent"}
    for split in SPLITS:
        for scene in scenes(split):
            for text in captions(scene)["audio"]:
                assert not words(text) & visual
                silent = [thing.kind for thing in scene.things if not thing.sounds]
                assert not any(phrase in text for kind in silent for phrase in kind.heard)


def test_visual_captions_say_nothing_of_hidden_sounds_or_words() -> None:
    sounds = {"barking", "ringing", "sound", "hear", "heard", "saying", "silent", "voice"}
    for scene in scenes("train"):
        for text in captions(scene)["video"]:
            assert not words(text) & sounds
            hidden = [noun for thing in scene.things if not thing.visible for noun in thing.kind.nouns]
            shown = [noun for thing in scene.things if thing.visible for noun in thing.kind.nouns]
            assert not any(f" {noun} " in text for noun in hidden if not any(noun in other for other in shown))


def test_the_vocabularies_of_moves_and_of_sounds_differ_for_each_kind() -> None:
    for kind in KINDS.values():
        assert not set(kind.moves) & set(kind.acts)
        assert len(kind.heard) >= 3
        assert len(kind.acts) >= 2
        assert len(kind.moves) >= 2


def test_captions_of_a_missing_stream_are_missing() -> None:
    mix = Mix(audio_only=0.4, silent_video=0.4, speech=0.0)
    counts = {"audio": 0, "video": 0, "both": 0}
    for index in range(40):
        scene = compose(1, "train", index, mix)
        written = {kind: len(texts) for kind, texts in captions(scene).items()}
        row = manifest_row(scene, 1)
        if not scene.has_video:
            counts["audio"] += 1
            assert written == {"audio": 3, "video": 0, "audio_video": 0}
            assert row["path"].endswith(".wav")
            assert not any(event["visible"] for event in row["events"])
        elif not scene.has_audio:
            counts["video"] += 1
            assert written == {"audio": 0, "video": 4, "audio_video": 0}
            assert row["events"] == []
            assert row["transcript"] is None
        else:
            counts["both"] += 1
            assert written == {"audio": 3, "video": 4, "audio_video": 4}
    assert min(counts.values()) >= 3


def test_the_brief_caption_names_what_is_seen_and_nothing_else() -> None:
    for scene in scenes("train"):
        for kind in ("video", "audio_video"):
            if not captions(scene)[kind]:
                continue
            words = captions(scene)[kind][-1].split()
            assert not {"left", "right", "middle", "centre", "camera", "view"} & set(words)
            named = f" {' '.join(words)} "
            for thing in scene.things:
                assert any(f" {noun} " in named for noun in thing.kind.nouns) == thing.visible or not thing.visible


@pytest.mark.parametrize("split", SPLITS)
def test_captions_tell_clips_apart(split: str) -> None:
    for kind in ("audio", "video", "audio_video"):
        texts = [written[kind][0] for written in map(captions, scenes(split)) if written[kind]]
        assert len(set(texts)) >= 0.95 * len(texts)


def test_most_clips_have_a_set_of_kinds_of_their_own() -> None:
    sets = [(frozenset(kinds_of(scene)), scene.speaker and scene.speaker.voice) for scene in scenes("test")]
    assert len(set(sets)) >= 0.85 * len(sets)


def test_captions_are_well_formed() -> None:
    for split in SPLITS:
        for scene in scenes(split):
            for texts in captions(scene).values():
                for text in texts:
                    assert text == " ".join(text.split())
                    assert "{" not in text
                    assert not re.search(r"\ba [aeiou]", re.sub('".*"', "", text)), text


def test_colors_of_instances_vary() -> None:
    used = {thing.color for scene in scenes("train") for thing in scene.things}
    assert used == set(COLORS)
    assert np.unique([scene.backdrop.name for scene in scenes("train")]).size == len(BACKDROPS)
