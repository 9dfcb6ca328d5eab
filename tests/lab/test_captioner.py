"""Synthetic captions of the world: what a captioning model might write, beside all that the world itself says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peav.data.manifest import Row
from peav.lab.captioner import MISTAKEN, PARAPHRASES, PERSON, with_synthetic_captions
from peav.synth.world.kinds import KINDS
from peav.types import Event


def clip(number: int, captions: Mapping[str, list[str]], **changes) -> Row:
    path = Path("a.mp4")
    extra = {"kinds": ["dog", "bell"]}
    return Row(f"c{number}", path, path, captions=captions, **({"extra": extra} | changes))


def test_every_kind_of_caption_that_a_clip_has_gets_synthetic_ones_behind_its_own() -> None:
    row = clip(0, {"audio": [], "video": ["a dog"], "audio_video": ["a dog barks"]})
    made = with_synthetic_captions(row)
    assert {kind: len(texts) for kind, texts in made.synthetic.items()} == {
        "video": PARAPHRASES,
        "audio_video": PARAPHRASES,
    }
    assert made.captions == {kind: [*own, *made.synthetic.get(kind, [])] for kind, own in row.captions.items()}
    assert made.by_people().captions == row.captions
    assert made == with_synthetic_captions(row)


def test_what_is_silent_is_not_heard_and_who_speaks_is() -> None:
    events = (Event(KINDS["dog"].label, onset=0.0, offset=1.0), Event("woman speaking", onset=1.0, offset=2.0))
    row = clip(0, {"audio": ["a dog barking"]}, events=events, transcript="hello")
    for text in with_synthetic_captions(row).synthetic["audio"]:
        first, second = sorted(text.split(" and "), key=lambda part: PERSON in part)
        assert second == f"a {PERSON}"
        assert any(first in kind.heard for kind in KINDS.values())


def test_as_many_things_are_mistaken_as_is_said() -> None:
    wrong = total = 0
    for number in range(500):
        row = clip(number, {"video": ["a dog"]}, extra={"kinds": ["dog"]})
        for text in with_synthetic_captions(row).synthetic["video"]:
            wrong += not any(noun in text for noun in KINDS["dog"].nouns)
            total += 1
    expected = MISTAKEN * (1 - 1 / len(KINDS))
    assert abs(wrong / total - expected) < 4 * (expected * (1 - expected) / total) ** 0.5
