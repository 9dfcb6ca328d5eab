"""Typical uses of the public classes, for `mypy --strict`: see test_typing.py. Nobody runs this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
from torch import Tensor

import peav
from peav.events import Event, FrameScores, Postprocessing, find_events
from peav.inference.classification import Classification
from peav.inference.streaming import FrameStream
from peav.search import Hit, Query, embed_files, make_query, search, text_query
from peav.types import DecodeFailure, Modality, WindowEmbedding


def loaded() -> peav.Encoder:
    return assert_type(peav.load("tiny", device="cpu", dtype="bfloat16"), peav.Encoder)


def arrays(model: peav.Encoder) -> None:
    assert_type(model.encode_audio("a.wav"), np.ndarray)
    assert_type(model.encode_video("a.mp4", convert_to_numpy=True), np.ndarray)
    assert_type(model.encode_audio_video(path for path in ["a.mp4"]), np.ndarray)
    assert_type(model.encode({"audio": np.zeros(9), "video": "a.mp4"}, sampling_rate=16000), np.ndarray)
    assert_type(model.encode_text(("rain", "snow"), space="video"), np.ndarray)
    sounds: np.ndarray = model.encode_audio(["a.wav", "b.wav"], "rain", sampling_rate=16000, normalize=True)
    pictures: np.ndarray = model.encode_video("a.mp4", batch_size=2, window=None)
    both: np.ndarray = model.encode_audio_video(["a.mp4"], show_progress=True, convert_to_numpy=True)
    own: np.ndarray = model.encode("a.mp4")
    texts: np.ndarray = model.encode_text(["rain"], "audio", normalize=True)
    scores: np.ndarray = peav.similarity(texts, sounds)
    logits: np.ndarray = model.logits(own, both, "av_avc")
    same: np.ndarray = model.similarity(pictures, both)
    norms: npt.NDArray[np.float32] = np.linalg.norm(sounds, axis=-1)
    print(scores, logits, same, norms)


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
        assert_type((window.start, window.end, window.modality), tuple[float, float, Modality])
    for result in stream:
        if isinstance(result, DecodeFailure):
            raise result.error
        assert_type(result.embeddings, dict[str, np.ndarray])
    (one,) = model.classify("a.wav", {"dog": "a dog barking"}, "audio", window=5.0)
    assert_type(one, Classification)
    assert_type(one.label, str)
    assert_type(model.classify_stream("a.wav", ["dog"], isolate=True), Iterator[Classification | DecodeFailure])


def detection() -> None:
    detector = peav.Detector.load("frame-tiny", device="cpu")
    assert_type(detector.detect("a.wav", ["dog"], {"dog": 0.4}), list[Event])
    assert_type(detector.scores("a.wav", detector.encode_labels("dog")), FrameScores)
    stream = assert_type(detector.stream("dog", sampling_rate=16000), FrameStream)
    assert_type(stream.push(np.zeros(100, np.float32)), np.ndarray)
    assert_type(stream.finish(), np.ndarray)


def events(scores: FrameScores) -> list[str]:
    found = assert_type(find_events(scores, Postprocessing(0.4, median=0.2)), list[Event])
    assert_type(scores.probabilities, np.ndarray)
    return [f"{event.onset:.2f} {event.offset:.2f} {event.label} {event.score:.2f}" for event in found]


def searches(model: peav.Encoder) -> list[Hit]:
    assert_type(embed_files(model, ["recordings"], "lib.parquet", window=10.0), dict[str, Any])
    query = assert_type(make_query(model, "seen", audio="dog.wav"), Query)
    hits = assert_type(search("lib.parquet", query, model.model_id, 5, min_score=0.0, by_file=True), list[Hit])
    assert_type((hits[0].path, hits[0].start, hits[0].score), tuple[str, float, float])
    return search("lib.parquet", text_query(model, "rain", "audio"), model.model_id)


def mistakes(model: peav.Encoder) -> None:
    model.encode_audio("a.wav", batchsize=3)  # type: ignore[call-overload]
    model.encode_text("rain", "smell")  # type: ignore[call-overload]
    tensor: Tensor = model.encode("a.mp4")  # type: ignore[assignment]
    peav.similarity(tensor, np.zeros(3))  # type: ignore[type-var]
    array: np.ndarray = model.encode_audio("a.wav", convert_to_numpy=False)  # type: ignore[assignment]
    model.encode_windows("a.wav", treshold=3)  # type: ignore[call-arg]
    text_query(model, array)  # type: ignore[arg-type]
