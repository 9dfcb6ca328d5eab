"""Detector: files and live sound to the same scores, and bad input to errors with names."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media.make import bad_files, tone, write_audio, write_float_wav, write_video
from model.golden_data import load_clip
from random_detector import LABELS, random_detector
from random_model import random_encoder
from safetensors.torch import load_file

import peav
from peav.checkpoint import CheckpointError, average, convert, save_pretrained
from peav.detector import Detector, EncodedLabels
from peav.errors import EventsError, LabelError
from peav.events import Postprocessing, find_events
from peav.inference.streaming import LIVE, StreamingWindow
from peav.media import (
    MediaError,
    NoAudioStreamError,
    NonFiniteError,
    UnsupportedInputError,
    ZeroLengthError,
    load_audio,
)

SHORT = StreamingWindow(left_context=0.4, hop=0.4, lookahead=0.2)
SOUND = tone(2.5, seed=1)[0]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return random_detector()


@pytest.fixture(scope="module")
def offline(detector: Detector) -> np.ndarray:
    return detector.scores(SOUND, LABELS, sampling_rate=48000, windowing=SHORT).probabilities


@pytest.mark.parametrize("layout", ["perception_models", "transformers"])
def test_golden_logits_and_spans(golden: Path, layout: str) -> None:
    detector = Detector.load(golden / f"pe-a-frame-{layout}", device="cpu")
    outputs = load_file(golden / "outputs_pe_a_frame.safetensors")
    for index in range(2):
        clip = load_clip(golden, index)
        with torch.inference_mode():
            text = EncodedLabels(("text",), detector.model.text_embedding(clip.ids))
        scores = detector.scores(clip.waveform[0], text, sampling_rate=48000)
        wanted = outputs[f"clip{index}.logits"].sigmoid().numpy()[0]
        assert np.abs(scores.probabilities[0] - wanted).max() <= 2e-5
        events = detector.detect(clip.waveform[0], text, sampling_rate=48000)
        spans = outputs[f"clip{index}.spans"].reshape(-1, 2).tolist()
        assert [(e.onset, e.offset) for e in events] == [pytest.approx(span, abs=1e-6) for span in spans]


def test_a_short_recording_is_one_window_of_the_plain_model(detector: Detector) -> None:
    scores = detector.scores(SOUND, LABELS, sampling_rate=48000)
    padded = np.pad(SOUND, (0, -len(SOUND) % 1920), mode="reflect")
    assert detector.tokenizer is not None
    with torch.inference_mode():
        latents = detector.model.encode_codec(torch.from_numpy(padded)[None])
        for label, row in zip(LABELS, scores.probabilities, strict=True):
            ids = torch.tensor([detector.tokenizer.encode(label).ids])
            wanted = detector.model.frame_logits(latents, None, ids)[0, 0].sigmoid().numpy()
            assert np.allclose(row, wanted, atol=1e-6)
    assert np.allclose(scores.times, np.arange(63) * 0.04)


@pytest.mark.slow
@settings(max_examples=12)
@given(
    blocks=st.lists(st.sampled_from([1, 7, 480, 1920, 5000, 50_000]), min_size=1, max_size=8), seed=st.integers(0, 9)
)
def test_blocks_of_any_size_give_the_offline_scores_bit_for_bit(
    detector: Detector, offline: np.ndarray, blocks: list[int], seed: int
) -> None:
    sizes = np.random.default_rng(seed).choice(blocks, 3000)
    places = np.concatenate([[0], np.cumsum(sizes)])
    stream = detector.stream(LABELS, windowing=SHORT)
    pieces = [SOUND[a:b] for a, b in pairwise(places) if a < len(SOUND)]
    pieces.append(SOUND[places[-1] :])
    live = np.concatenate([*map(stream.push, pieces), stream.finish()], axis=1)
    assert np.array_equal(live, offline)


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 480, 1920, 50_000])
def test_one_block_size_throughout_gives_the_offline_scores_bit_for_bit(detector: Detector, block: int) -> None:
    sound = SOUND[: 24_001 if block == 1 else None]
    wanted = detector.scores(sound, LABELS, sampling_rate=48000, windowing=SHORT)
    stream = detector.stream(LABELS, windowing=SHORT)
    parts = [stream.push(sound[at : at + block]) for at in range(0, len(sound), block)]
    assert np.array_equal(np.concatenate([*parts, stream.finish()], axis=1), wanted.probabilities)
    assert stream.duration == wanted.duration


def test_frames_are_settled_within_the_stated_latency(detector: Detector) -> None:
    stream = detector.stream(LABELS, windowing=SHORT)
    assert stream.latency == pytest.approx(0.4 + 0.2 + 6 * 0.04)
    settled = 0
    for at in range(0, len(SOUND), 960):
        settled += stream.push(SOUND[at : at + 960]).shape[1]
        assert stream.duration - settled * 0.04 < stream.latency + 960 / 48000
    assert detector.stream(LABELS).latency == pytest.approx(LIVE.hop + LIVE.lookahead + 6 * 0.04)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_stream_at_another_rate_equals_the_file_resampled(detector: Detector, rate: int) -> None:
    sound = tone(1.5, rate, channels=2, seed=2)
    wanted = detector.scores(sound, LABELS, sampling_rate=rate, windowing=SHORT).probabilities
    stream = detector.stream(LABELS, sampling_rate=rate, windowing=SHORT)
    parts = [stream.push(sound[:, at : at + 441]) for at in range(0, sound.shape[1], 441)]
    assert np.array_equal(np.concatenate([*parts, stream.finish()], axis=1), wanted)


def test_paths_bytes_file_objects_and_arrays_agree(detector: Detector, tmp_path: Path) -> None:
    path = write_float_wav(tmp_path / "a.wav", SOUND)
    wanted = detector.scores(SOUND, LABELS, sampling_rate=48000)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert np.array_equal(detector.scores(source, LABELS).probabilities, wanted.probabilities)
    tensor = detector.scores(torch.from_numpy(SOUND), LABELS, sampling_rate=48000)
    assert np.array_equal(tensor.probabilities, wanted.probabilities)


@pytest.mark.slow
def test_a_file_read_in_parts_equals_its_samples_at_once(detector: Detector, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.wav", tone(20.4, 44_100, channels=2, seed=3), 44_100)
    labels = detector.encode_labels("dog")
    found = detector.scores(path, labels)
    whole = detector.scores(load_audio(path), labels, sampling_rate=48000)
    assert np.array_equal(found.probabilities, whole.probabilities)
    assert (found.duration, found.probabilities.shape) == (whole.duration, (1, 510))


def test_a_labels_scores_do_not_depend_on_the_labels_beside_it(detector: Detector) -> None:
    together = detector.scores(SOUND, LABELS, sampling_rate=48000)
    for label in LABELS:
        alone = detector.scores(SOUND, label, sampling_rate=48000)
        assert np.allclose(alone.probabilities[0], together.row(label), atol=1e-6)


def test_the_underscores_of_a_label_are_not_read_and_stay_in_its_name(detector: Detector) -> None:
    written, spoken = (detector.encode_labels([label]) for label in ("door_wood_knock", "door wood knock"))
    assert torch.equal(written.embeddings, spoken.embeddings)
    assert written.names == ("door_wood_knock",)


def test_labels_are_read_once_for_many_calls(detector: Detector) -> None:
    labels = detector.encode_labels(LABELS)
    kept, detector.tokenizer = detector.tokenizer, None
    try:
        assert detector.scores(SOUND, labels, sampling_rate=48000).labels == LABELS
    finally:
        detector.tokenizer = kept


def test_audio_of_hugging_face_is_read_and_a_rate_of_nothing_is_refused(detector: Detector) -> None:
    decoded = {"array": SOUND, "sampling_rate": 48000, "path": "a.wav"}
    wanted = detector.scores(SOUND, LABELS, sampling_rate=48000).probabilities
    assert np.array_equal(detector.scores(decoded, LABELS).probabilities, wanted)
    with pytest.raises(UnsupportedInputError, match="sampling_rate=0 is no sampling rate"):
        detector.stream(LABELS, sampling_rate=0)
    for several in ([SOUND, SOUND], iter([SOUND]), {"audio": SOUND}):
        with pytest.raises(UnsupportedInputError, match="one recording at a time"):
            detector.scores(several, LABELS, sampling_rate=48000)


def test_no_event_reaches_past_the_recording(detector: Detector) -> None:
    sound = SOUND[: 1920 * 20 + 5]
    events = detector.detect(sound, LABELS, 0.0, sampling_rate=48000)
    assert [(e.label, e.onset, e.offset) for e in events] == [(label, 0.0, len(sound) / 48000) for label in LABELS]


def test_twenty_milliseconds_are_one_frame(detector: Detector) -> None:
    scores = detector.scores(SOUND[:960], LABELS, sampling_rate=48000)
    assert scores.probabilities.shape == (3, 1)
    assert scores.edges.tolist() == [0.0, 0.02]
    assert detector.scores(SOUND[:1], LABELS, sampling_rate=48000).probabilities.shape == (3, 1)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [([], "no labels"), ("", "empty label"), (["dog", " "], "empty"), (["dog", "cat", "dog"], "'dog'"), ([3], "int")],
)
def test_labels_that_cannot_be_looked_for(detector: Detector, labels: list[str], reason: str) -> None:
    with pytest.raises(LabelError, match=reason):
        detector.scores(SOUND, labels, sampling_rate=48000)


def test_long_labels_are_cut_at_the_models_tokens(detector: Detector) -> None:
    first, second = "a dog barks and " * 700, "a dog barks and " * 700 + " then a siren"
    scores = detector.scores(SOUND, [first, second], sampling_rate=48000)
    assert np.allclose(*scores.probabilities, atol=1e-6)
    assert np.isfinite(scores.probabilities).all()


def test_bad_sound_is_a_typed_error(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(ZeroLengthError):
        detector.detect(np.zeros(0, np.float32), "dog", sampling_rate=48000)
    with pytest.raises(ZeroLengthError):
        detector.detect(b"", "dog")
    with pytest.raises(NonFiniteError):
        detector.detect(np.full(4800, np.nan, np.float32), "dog", sampling_rate=48000)
    with pytest.raises(NonFiniteError):
        detector.stream("dog").push(np.array([0.0, np.inf]))
    with pytest.raises(UnsupportedInputError, match="sampling_rate"):
        detector.detect(SOUND, "dog")
    with pytest.raises(UnsupportedInputError, match="one recording"):
        detector.detect(["a.wav", "b.wav"], "dog")
    with pytest.raises(NoAudioStreamError):
        detector.detect(write_video(tmp_path / "v.mp4", np.zeros((5, 32, 32, 3), np.uint8)), "dog")
    for path, _ in bad_files(tmp_path / "bad").values():
        with pytest.raises(MediaError, match=path.name):
            detector.detect(path, "dog")


def test_a_block_that_is_refused_leaves_the_stream_as_it_was(detector: Detector, offline: np.ndarray) -> None:
    stream = detector.stream(LABELS, windowing=SHORT)
    parts = [stream.push(SOUND[:50_000])]
    with pytest.raises(NonFiniteError):
        stream.push(np.array([0.0, np.nan]))
    parts += [stream.push(torch.zeros(0)), stream.push(torch.from_numpy(SOUND[50_000:])), stream.finish()]
    assert np.array_equal(np.concatenate(parts, axis=1), offline)


def test_a_model_in_bfloat16_detects_too(detector: Detector, tmp_path: Path) -> None:
    save_pretrained(detector.model, tmp_path, detector.tokenizer)
    half = Detector.load(tmp_path, device="cpu", dtype=torch.bfloat16)
    scores = half.scores(SOUND, LABELS, sampling_rate=48000)
    wanted = detector.scores(SOUND, LABELS, sampling_rate=48000)
    assert scores.probabilities.dtype == np.float32
    assert np.abs(scores.probabilities - wanted.probabilities).mean() < 0.05


def test_a_finished_stream_takes_no_more(detector: Detector) -> None:
    stream = detector.stream("dog")
    assert stream.push(np.zeros(0, np.float32)).shape == (1, 0)
    assert stream.finish().shape == (1, 0)
    with pytest.raises(ValueError, match="finished"):
        stream.push(SOUND)


@pytest.mark.slow
def test_each_kind_of_checkpoint_names_the_other_ones_loader(detector: Detector, tmp_path: Path) -> None:
    save_pretrained(detector.model, tmp_path / "frame", detector.tokenizer)
    random_encoder().save_pretrained(tmp_path / "clip")
    loaded = peav.Detector.load(tmp_path / "frame", device="cpu")
    wanted = detector.scores(SOUND, LABELS, sampling_rate=48000).probabilities
    assert np.array_equal(loaded.scores(SOUND, LABELS, sampling_rate=48000).probabilities, wanted)
    with pytest.raises(CheckpointError, match=r"peav\.load"):
        Detector.load(tmp_path / "clip")
    with pytest.raises(CheckpointError, match=r"peav\.Detector\.load"):
        peav.load(str(tmp_path / "frame"))


@pytest.mark.slow
def test_a_models_own_postprocessing_is_the_default_and_goes_with_it(detector: Detector, tmp_path: Path) -> None:
    scores = detector.scores(SOUND, LABELS, sampling_rate=48000)
    own = Postprocessing(float(np.median(scores.probabilities)), 0.9, median=0.2, min_gap=0.12)
    detector.save_pretrained(tmp_path / "plain")
    plain = Detector.load(tmp_path / "plain", device="cpu")
    assert plain.postprocessing == Postprocessing()
    assert not (tmp_path / "plain" / "postprocessing.json").exists()
    before = plain.model_id
    plain.postprocessing = own
    plain.save_pretrained(tmp_path / "own")
    convert(tmp_path / "own", tmp_path / "transformers", "transformers")
    convert(tmp_path / "transformers", tmp_path / "back", "peav")
    average([tmp_path / "own", tmp_path / "back"], tmp_path / "mean")
    for name in ("own", "transformers", "back", "mean"):
        loaded = Detector.load(tmp_path / name, device="cpu")
        assert loaded.postprocessing == own
        assert loaded.model_id == before
    assert loaded.detect(SOUND, LABELS, sampling_rate=48000) == find_events(scores, own)
    assert loaded.detect(SOUND, LABELS, 0.4, sampling_rate=48000) == find_events(scores, replace(own, threshold=0.4))
    everything = loaded.detect(SOUND, LABELS, 0.3, low=1.0, median=0.0, min_gap=0.0, sampling_rate=48000)
    assert everything == find_events(scores)
    # Of models that differ in it the mean has none; and what lay in a folder before is no other model's.
    average([tmp_path / "own", tmp_path / "plain"], tmp_path / "differ")
    assert Detector.load(tmp_path / "differ", device="cpu").postprocessing == Postprocessing()
    detector.save_pretrained(tmp_path / "own")
    assert Detector.load(tmp_path / "own", device="cpu").postprocessing == Postprocessing()


def test_postprocessing_that_makes_no_sense_is_an_error_that_names_the_model(
    detector: Detector, tmp_path: Path
) -> None:
    detector.save_pretrained(tmp_path / "bad")
    (tmp_path / "bad" / "postprocessing.json").write_text('{"threshold": 7}')
    with pytest.raises(EventsError, match=r"bad.*from 0 to 1"):
        Detector.load(tmp_path / "bad", device="cpu").detect(SOUND, LABELS, sampling_rate=48000)


@pytest.mark.slow
def test_memory_does_not_grow_with_length(detector: Detector, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    save_pretrained(detector.model, tmp_path / "model", detector.tokenizer)
    code = (
        "import resource, sys, peav; peav.Detector.load(sys.argv[1], device='cpu').scores(sys.argv[2], 'dog');"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak(seconds: float) -> int:
        path = write_audio(tmp_path / f"{seconds}.wav", np.tile(tone(10.0), round(seconds / 10)))
        run = [sys.executable, "-c", code, str(tmp_path / "model"), str(path)]
        return int(subprocess.run(run, capture_output=True, check=True, text=True).stdout)

    assert peak(240.0) - peak(60.0) < 30 * 1024
