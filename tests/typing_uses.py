"""Typical uses of the public classes, for `mypy --strict`: see test_typing.py. Nobody runs this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import numpy as np
from torch import Tensor

import peav
from peav.events import Event, FrameScores
from peav.inference.classification import Classification
from peav.inference.streaming import FrameStream
from peav.types import DecodeFailure, WindowEmbedding


def arrays(model: peav.Encoder) -> None:
    sounds: np.ndarray = model.encode_audio(["a.wav", "b.wav"], "rain", sampling_rate=16000, normalize=True)
    pictures: np.ndarray = model.encode_video("a.mp4", batch_size=2, window=None)
    both: np.ndarray = model.encode_audio_video(["a.mp4"], show_progress=True, convert_to_numpy=True)
    own: np.ndarray = model.encode("a.mp4")
    texts: np.ndarray = model.encode_text(["rain"], "audio", normalize=True)
    scores: np.ndarray = peav.similarity(texts, sounds)
    logits: np.ndarray = model.logits(own, both, "av_avc")
    same: np.ndarray = model.similarity(pictures, both)
    print(scores, logits, same)


def tensors(model: peav.Encoder) -> None:
    sounds = assert_type(model.encode_audio("a.wav", convert_to_numpy=False), Tensor)
    assert_type(model.encode_video("a.mp4", "rain", convert_to_numpy=False), Tensor)
    assert_type(model.encode_audio_video("a.mp4", convert_to_numpy=False, normalize=True), Tensor)
    assert_type(model.encode("a.mp4", convert_to_numpy=False), Tensor)
    texts = assert_type(model.encode_text("rain", convert_to_numpy=False), Tensor)
    assert_type(model.similarity(texts, sounds), Tensor)
    assert_type(peav.similarity(texts, sounds), Tensor)
    assert_type(model.logits(texts, sounds, "a_avc"), Tensor)


def windows(model: peav.Encoder) -> None:
    stream = model.stream("long.mp4", ["audio", "video"], normalize=True, isolate=True)
    assert_type(stream, Iterator[WindowEmbedding | DecodeFailure])
    for window in model.encode_windows("long.mp4", window=10.0):
        assert_type(window.embedding, np.ndarray)
    (one,) = model.classify("a.wav", {"dog": "a dog barking"}, "audio", window=5.0)
    assert_type(one, Classification)
    assert_type(one.label, str)


def detection() -> None:
    detector = peav.Detector.load("frame-tiny", device="cpu")
    assert_type(detector.detect("a.wav", ["dog"], {"dog": 0.4}), list[Event])
    assert_type(detector.scores("a.wav", detector.encode_labels("dog")), FrameScores)
    stream = assert_type(detector.stream("dog", sampling_rate=16000), FrameStream)
    assert_type(stream.push(np.zeros(100, np.float32)), np.ndarray)


def mistakes(model: peav.Encoder) -> None:
    model.encode_audio("a.wav", batchsize=3)  # type: ignore[call-overload]
    model.encode_text("rain", "smell")  # type: ignore[call-overload]
    tensor: Tensor = model.encode("a.mp4")  # type: ignore[assignment]
    peav.similarity(tensor, np.zeros(3))  # type: ignore[type-var]
