"""Checks: what each refuses, what it lets pass, and that no text breaks one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weak_captions import any_text, clip

from peav.engine.checks import CHECKS, Case, Check, check
from peav.engine.clip import Clip, Sample
from peav.engine.prompts import load_prompt
from peav.engine.sources import Sources
from peav.errors import RecipeError
from peav.types import MODALITIES, Modality

PROMPT = load_prompt("rewrite_v1")


def refused(name: str, text: str, of: Clip, kind: Modality = "audio") -> bool:
    return CHECKS[name](Case(kind, text, Sources.of(of), PROMPT)) is not None


DOG = clip(["a dog barks", "a person speaks"], ["a red car parks beside a house"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("length", "Barking."),
        ("length", "a dog and " * 40),
        ("language", "Ein Hund bellt laut und ein Mann spricht mit der Frau."),
        ("language", "Un chien aboie dans la rue."),
        ("language", "狗在叫"),
        ("language", "Собака лает."),
        ("language", "hund bellt laut mann spricht frau lacht kind weint regen donner wind"),
        ("leak", "A dog barks with high confidence."),
        ("leak", "A dog barks (0.87)."),
        ("leak", "A dog barks, 0.87."),
        ("leak", '{"audio": "a dog barks"}'),
        ("leak", "The captions say that a dog barks."),
        ("leak", "A dog barks. Prefer captions of higher confidence."),
        ("leak", "Say that somebody speaks or sings only if it does."),
        ("leak", "As an AI I hear a dog."),
        ("example", "A hammer strikes an anvil again and again."),
        ("example", "A dog barks and a blacksmith shapes a horseshoe."),
        ("example", "A dog barks while the wind blows through reeds and into the microphone"),
        ("speech", 'A person says "hello there".'),
        ("heard", "A dog barks and a car engine hums."),
        ("heard", "A dog barks and birds chirp."),
        ("repetition", "a dog barks and barks and barks and barks"),
        ("repetition", "barks barks barks barks"),
        (
            "repetition",
            "the dog is in the house, so the dog is in the yard or the dog is in the car if the dog is in the sun",
        ),
    ],
)
def test_what_is_refused(name: str, text: str) -> None:
    assert refused(name, text, DOG)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(
    "text",
    [
        "A dog barks.",
        "Dog barking and speech.",
        "Someone is talking while a dog barks again and again in the distance.",
        "A dog barks twice, then a person speaks for 2.5 seconds.",
    ],
)
def test_what_passes(name: str, text: str) -> None:
    assert not refused(name, text, DOG)


def test_speech_is_supported_by_any_caption_and_by_a_transcript() -> None:
    text = "A man speaks."
    assert refused("speech", text, clip(["rain falls"], ["a man in a room"]))
    assert not refused("speech", text, clip(["rain falls"], ["a man talks to a camera"]))
    assert not refused("speech", text, clip(["rain falls"], transcript="hello"))
    assert not refused("speech", text, clip(["rain falls"]), "video")
    assert refused("speech", "Rain falls and a song is sung.", clip(["rain falls"]), "audio_video")


def test_quoted_words_are_those_of_the_transcript_or_of_a_caption() -> None:
    of = clip(["a person speaks"], ['a sign that says "way out"'], transcript="Well, good morning everyone!")
    assert not refused("speech", "A person says “good morning, everyone”.", of)
    assert refused("speech", "A person says “good evening, everyone”.", of)
    assert refused("speech", "A person says “morning good”.", of)
    assert not refused("speech", 'A sign says "way out".', of, "video")


def test_what_is_only_seen_is_not_heard() -> None:
    of = clip(["rain falls on a roof"], ["a dog barks at a man who talks on the phone"])
    assert refused("heard", "Rain falls and a dog barks.", of)
    assert refused("heard", "Rain falls and a man talks.", of)
    assert not refused("heard", "Rain patters on a roof.", of)
    assert not refused("heard", "A dog barks.", of, "video")


def test_a_word_is_heard_by_any_other_of_its_group() -> None:
    assert not refused("heard", "A car engine roars.", clip(["a motor runs"], ["a car"]))
    assert not refused("heard", "A dog growls.", clip(["an animal"], ["a dog"]))
    assert not refused("heard", "A woman is talking.", clip(["rain falls"], ["a woman"], transcript="hello"))


def test_a_caption_of_both_may_name_what_is_seen_and_not_give_it_a_sound() -> None:
    of = clip(["rain falls"], ["a dog runs through a yard"])
    assert not refused("heard", "A dog runs through a yard while rain falls.", of, "audio_video")
    assert refused("heard", "A dog runs and barks while rain falls.", of, "audio_video")


def test_words_that_the_clip_itself_has_are_no_leak() -> None:
    of = clip(
        ['a woman says "have confidence"'], ["a hammer strikes an anvil again and again"], transcript="have confidence"
    )
    assert not refused("leak", "A woman speaks of confidence.", of)
    assert not refused("example", "A hammer strikes an anvil again and again.", of)


@pytest.mark.parametrize("answer", [answer for _, answer in PROMPT.examples])
def test_a_rewrite_that_copies_an_example_is_caught(answer: dict[str, str]) -> None:
    names: dict[Modality, str] = {"audio": "audio", "video": "visual", "audio_video": "audio_visual"}
    for kind, name in names.items():
        if name in answer:
            assert refused("example", answer[name], DOG, kind)
            assert refused("example", f"A dog barks. {answer[name].lower()}", DOG, kind)


def test_all_reasons_are_given_and_clips_without_any_are_left_alone() -> None:
    bad, good = clip(["a dog barks"], ["a car"]), clip(["a dog barks"])
    bad.captions, good.captions = {"audio": "Honking.", "video": "A car (0.31)."}, {"audio": "A dog barks."}
    bad.rejected = ["id: answered for another clip"]
    stage = Check("check")
    for place, answer in stage([Sample(bad), Sample(good)]):
        stage.apply((bad, good)[place], answer.value)
    assert [reason.split(" caption: ")[0] for reason in bad.rejected[1:]] == [
        "length: audio",
        "heard: audio",
        "leak: video",
    ]
    assert good.rejected == []
    assert check(bad, PROMPT, ["leak"]) == [bad.rejected[-1]]


def test_an_answer_depends_on_the_captions_on_what_they_are_made_of_and_on_the_checks() -> None:
    stage, of = Check("check"), clip(["a dog barks"])
    assert stage.request(of) is None
    of.captions = {"audio": "A dog barks."}
    first = stage.request(of)
    of.captions = {"audio": "A hound."}
    second = stage.request(of)
    of.transcript = "hello"
    assert first != second != stage.request(of)
    assert Check("check", ["leak"]).identity() != stage.identity()
    with pytest.raises(RecipeError, match=r"no check taste; there are length, language"):
        Check("check", ["leak", "taste"])


@given(any_text, any_text, st.sampled_from(MODALITIES))
def test_no_text_breaks_a_check(text: str, weak: str, kind: Modality) -> None:
    of = clip([weak], [weak], [weak], weak)
    of.captions = {kind: text}
    assert all(isinstance(reason, str) for reason in check(of, PROMPT))
