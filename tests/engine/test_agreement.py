"""Agreement: a caption that fits its clip less than what it was made of is refused, with embeddings computed once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from weak_captions import clip

import peav
from peav.encoder import Encoder
from peav.engine.agreement import Agreement
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.embedding import Embedding, to_text
from peav.engine.stage import Stage
from peav.features.decode import Decoded


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return peav.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def stage() -> Agreement:
    made = Agreement("agreement", stored="embedding", device="cpu")
    made.setup()
    return made


def kept(tiny: Encoder, words: str) -> dict[str, str]:
    """What the filter `embedding` measures of a sound that lies where these words do."""
    return {"space": "audio", "values": to_text(tiny.encode_text(words, "audio", normalize=True))}


def of_a_dog(tiny: Encoder, caption: str) -> Clip:
    """A clip whose sound lies where the model puts the words "a dog barks"."""
    found = clip(["a dog barks", "rain falls"], ["a red car"])
    found.captions, found.provenance = {"audio": caption}, {"audio": "rewrite_v1@0, a model"}
    found.measures["embedding"] = kept(tiny, "a dog barks")
    return found


def through(stage: Stage, of: Clip, media: Decoded | None = None) -> None:
    stage.setup()
    ((_, answer),) = stage([Sample(of, media)])
    assert isinstance(answer, Answer), answer
    stage.apply(of, json.loads(json.dumps(answer.value)))


def test_a_caption_that_fits_as_well_as_its_best_source_passes(tiny: Encoder, stage: Agreement) -> None:
    of = of_a_dog(tiny, "a dog barks")
    through(stage, of)
    assert of.rejected == []
    assert of.measures["agreement"] == {"audio": 0.0}


def test_a_caption_that_fits_worse_is_refused_unless_the_margin_allows_it(tiny: Encoder, stage: Agreement) -> None:
    of = of_a_dog(tiny, "a vacuum cleaner is humming")
    ((_, answer),) = stage([Sample(of)])
    assert isinstance(answer, Answer)
    stage.apply(of, answer.value)
    assert of.measures["agreement"]["audio"] < -0.1
    assert of.rejected == ["agreement: audio caption: fits the clip less than what it was made of"]
    generous = of_a_dog(tiny, "a vacuum cleaner is humming")
    Agreement("agreement", margin=2.0).apply(generous, answer.value)
    assert generous.rejected == []


def test_nothing_is_asked_of_a_refused_clip_or_of_the_template(tiny: Encoder, stage: Agreement) -> None:
    of = of_a_dog(tiny, "a dog barks")
    assert stage.request(of) is not None
    of.provenance = {"audio": "template"}
    assert stage.request(of) is None
    refused = of_a_dog(tiny, "a dog barks")
    refused.rejected = ["length: audio caption: 1 words"]
    assert stage.request(refused) is None


def test_stored_embeddings_need_no_media_and_are_part_of_the_question(tiny: Encoder, stage: Agreement) -> None:
    assert stage.needs == frozenset()
    assert Agreement("agreement").needs == {"audio", "video"}
    of = of_a_dog(tiny, "a dog barks")
    before = stage.request(of)
    of.measures["embedding"] = kept(tiny, "rain")
    assert stage.request(of) != before
    del of.measures["embedding"]
    ((_, error),) = stage([Sample(of)])
    assert "no measure 'embedding'" in str(error)


def test_the_answer_depends_on_the_model_and_not_on_the_margin_or_the_device() -> None:
    one = Agreement("agreement", margin=0.1, device="cpu").identity()
    assert one == Agreement("agreement", margin=0.2).identity()
    assert len(one["model_id"]) > 20


@pytest.mark.slow
def test_media_and_stored_embeddings_give_the_same(stage: Agreement) -> None:
    random = np.random.default_rng(0)
    waveform = random.standard_normal(48_000).astype(np.float32) / 8
    media = Decoded(waveform, random.integers(0, 256, (16, 336, 336, 3), np.uint8))
    computed, stored = clip(["rain falls"], ["a car"]), clip(["rain falls"], ["a car"])
    for one in (computed, stored):
        one.captions = {"audio": "a dog barks", "video": "a red car", "audio_video": "a dog barks beside a red car"}
    through(Embedding(device="cpu"), stored, media)
    through(Agreement(margin=2.0, device="cpu"), computed, media)
    through(stage, stored)
    assert set(computed.measures["agreement"]) == {"audio", "video", "audio_video"}
    assert stored.measures["agreement"] == {
        "audio_video": pytest.approx(computed.measures["agreement"]["audio_video"], abs=2e-3)
    }


@pytest.mark.slow
def test_a_kind_whose_stream_is_lacking_is_passed_over() -> None:
    of = clip(["rain falls"], ["a car"])
    of.captions = {"audio": "a dog barks", "video": "a car"}
    through(Agreement(device="cpu"), of, Decoded(np.full(48_000, 0.1, np.float32), None))
    assert set(of.measures["agreement"]) == {"audio"}
