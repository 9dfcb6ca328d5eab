"""The tagger on tiny: it names what is heard and seen, by a vocabulary, above a bar, and is known by its weights."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peav
from peav.checkpoint.hub import PACKAGE_WEIGHTS
from peav.data.manifest import Row
from peav.engine.captioners.base import listed
from peav.engine.captioners.tagger import SHIPPED, Tagger
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.stage import STAGES, Stage, identity_of, request_key
from peav.errors import LabelError, RecipeError
from peav.features.decode import Decoded
from peav.utils.plugins import load_class

NOISE = np.random.default_rng(0).normal(0, 0.1, 96000).astype(np.float32)
TONE = np.sin(np.arange(96000) * 0.05).astype(np.float32) * 0.5
PICTURES = np.random.default_rng(1).integers(0, 255, (16, 64, 64, 3), np.uint8)
LABELS = ["rain falling", "a beep", "a dog barking"]


def sample(waveform: np.ndarray | None = NOISE, frames: np.ndarray | None = None) -> Sample:
    return Sample(Clip("a", Row("a")), Decoded(waveform, frames))


def answers(tagger: Tagger, *samples: Sample) -> list[Any]:
    tagger.setup()
    return [answer for _, answer in sorted(tagger(samples), key=lambda pair: pair[0])]


def test_labels_are_joined_as_people_write_lists() -> None:
    assert [listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_it_is_in_the_registry_and_its_shipped_vocabularies_hold_each_label_once() -> None:
    assert load_class("tagger", Stage, STAGES) is Tagger
    sounds, sights = Tagger("heard")._words, Tagger("seen", kind="video")._words
    assert len(sounds) > 150
    assert len(sights) > 100
    for path in SHIPPED.values():
        labels = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert labels == list(dict.fromkeys(labels))


@pytest.mark.slow
def test_its_labels_and_their_order_are_those_of_classify() -> None:
    encoder = peav.load("tiny", device="cpu")
    wanted = encoder.classify(TONE, LABELS, "audio", sampling_rate=48000)[0]
    all_of_them = Tagger("t", labels=LABELS, min_score=0)
    assert answers(all_of_them, sample(TONE)) == [Answer(listed(wanted.labels))]
    bar = float(wanted.probabilities[1]) + 1e-3
    assert answers(Tagger("t", labels=LABELS, min_score=bar), sample(TONE)) == [Answer(wanted.label)]
    assert answers(Tagger("t", labels=LABELS, min_score=0, top=2), sample(TONE)) == [Answer(listed(wanted.labels[:2]))]


@pytest.mark.slow
def test_where_no_label_clears_the_bar_or_the_stream_is_lacking_there_is_nothing_to_say() -> None:
    assert answers(Tagger("t", labels=LABELS, min_score=1.0), sample()) == [Answer("")]
    both = answers(
        Tagger("t", kind="audio_video", min_score=0), sample(), sample(NOISE, PICTURES), sample(None, PICTURES)
    )
    assert [bool(answer.value) for answer in both] == [False, True, False]
    assert answers(Tagger("t", kind="video", min_score=0, top=1), sample(None, PICTURES))[0].value != ""


@pytest.mark.slow
def test_a_clip_that_cannot_be_embedded_fails_alone() -> None:
    broken = sample(np.full(96000, np.nan, np.float32))
    first, second = answers(Tagger("t", labels=LABELS, min_score=0), broken, sample())
    assert "NaN" in str(first)
    assert second.value != ""


@pytest.mark.slow
def test_a_caption_does_not_depend_on_what_is_asked_beside_it() -> None:
    tagger = Tagger("t", min_score=0, top=234)
    alone = answers(tagger, sample(TONE))
    assert answers(tagger, sample(), sample(TONE[:50000]), sample(TONE))[2:] == alone


def test_the_identity_follows_weights_labels_and_templates_but_not_where_they_lie(tmp_path: Path) -> None:
    listed_here = tmp_path / "labels.txt"
    listed_here.write_text("# of mine\n" + "\n".join(LABELS) + "\n")
    moved = shutil.copytree(PACKAGE_WEIGHTS / "tiny", tmp_path / "moved")
    one = Tagger("t", labels=LABELS)
    keys = {
        request_key(identity_of(stage), {}, "m")
        for stage in (one, Tagger("t", model=str(moved), labels=str(listed_here)))
    }
    assert len(keys) == 1
    others = [Tagger("t", labels=LABELS[:2]), Tagger("t", labels=LABELS, templates=["the sound of {}"])]
    others += [Tagger("t", labels=LABELS, min_score=0.2), Tagger("t", labels=dict.fromkeys(LABELS, "x"))]
    assert len(keys | {request_key(identity_of(stage), {}, "m") for stage in others}) == 5
    other = shutil.copytree(moved, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"weights_sha256": "0" * 64}))
    assert request_key(identity_of(Tagger("t", model=str(other), labels=LABELS)), {}, "m") not in keys
    assert one.model_name == f"tiny@{peav.load('tiny', device='cpu').model_id[:12]}"
    assert Tagger("t", device="cpu").identity() == Tagger("t", device="meta", at_once=8).identity()
    assert pickle.loads(pickle.dumps(one)).identity() == one.identity()


def test_a_line_may_give_the_words_that_the_model_reads(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("\ufeffdog_bark\r\nbeep\ta high beep\r\n", encoding="utf-8")
    assert Tagger("t", labels=str(file))._words == {"dog_bark": "dog bark", "beep": "a high beep"}


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"captioner t: templates \['sound'\]: give a list of one or more"):
        Tagger("t", templates=["sound"])
    with pytest.raises(RecipeError, match=r"nowhere\.txt: no such file"):
        Tagger("t", labels=str(tmp_path / "nowhere.txt")).identity()
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(LabelError, match="no labels"):
        Tagger("t", labels=str(tmp_path / "empty.txt")).identity()
