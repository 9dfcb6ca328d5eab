"""A query of words, sound, pictures, or one of these with words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media.make import pictures, tone, write_audio
from PIL import Image
from random_model import random_encoder

from peav.encoder import Encoder
from peav.media import MissingFileError, NotMediaError
from peav.search import Query, make_query


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return random_encoder()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("query") / "a.wav", tone(0.5, seed=1))


def only(query: Query, space: str) -> np.ndarray:
    ((name, vector),) = query.vectors.items()
    assert name == space
    return vector.values


def test_words_look_in_every_space_and_media_in_that_of_their_own(encoder: Encoder, sound: Path) -> None:
    words = make_query(encoder, "rain")
    assert list(words.vectors) == ["audio", "video", "audio_video"]
    for space, vector in words.vectors.items():
        assert np.array_equal(vector.values, encoder.encode_text("rain", space))
        assert (vector.scale, vector.bias) == encoder.scale_and_bias(
            {"audio": "a_avc", "video": "v_avc", "audio_video": "av_avc"}[space]
        )
    alike = make_query(encoder, audio=sound)
    assert np.array_equal(only(alike, "audio"), encoder.encode_audio(sound))
    assert alike.vectors["audio"].cosine
    across = make_query(encoder, audio=sound, space="video")
    assert np.array_equal(only(across, "video"), encoder.encode_audio(sound))
    assert not across.vectors["video"].cosine


def test_media_with_words_look_in_the_other_space(encoder: Encoder, sound: Path) -> None:
    frames = pictures(3, seed=2)
    seen = make_query(encoder, "a red car", audio=sound)
    assert np.array_equal(only(seen, "video"), encoder.encode_audio(sound, "a red car"))
    heard = make_query(encoder, "rain", video=frames)
    assert np.array_equal(only(heard, "audio"), encoder.encode_video(frames, "rain"))


def test_an_image_is_a_video_of_one_frame(encoder: Encoder, tmp_path: Path) -> None:
    (pixels,) = pictures(1, seed=3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for image in (pixels, tmp_path / "a.png", io.BytesIO((tmp_path / "a.png").read_bytes())):
        query = make_query(encoder, "rain", image=image)
        assert np.array_equal(only(query, "audio"), encoder.encode_video(pixels[None], "rain"))
    assert np.array_equal(only(make_query(encoder, image=pixels), "video"), encoder.encode_video(pixels[None]))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "nothing to look for"),
        ({"text": ""}, "nothing to look for"),
        ({"audio": "a.wav", "video": "b.mp4"}, "not both"),
        ({"audio": "a.wav", "text": "rain", "space": "audio"}, "audio with text finds video; leave space away"),
        ({"image": "a.png", "text": "rain", "space": "video"}, "video with text finds audio"),
    ],
)
def test_what_makes_no_query_says_why(encoder: Encoder, given: dict[str, Any], reason: str) -> None:
    given = {**given, "image": np.zeros((8, 8, 3), np.uint8)} if "image" in given else given
    with pytest.raises(ValueError, match=reason):
        make_query(encoder, **given)


def test_what_is_no_picture_is_a_media_error(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(NotMediaError, match=r"a\.png: not a picture"):
        make_query(encoder, image=tmp_path / "a.png")
    with pytest.raises(MissingFileError, match=r"b\.png: no such file"):
        make_query(encoder, image=tmp_path / "b.png")
