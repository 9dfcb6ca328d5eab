"""What `peav.load` and `Encoder` promise on files, arrays and tensors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media.make import bad_files, good_files, pictures, tone, truncated_files, write_audio, write_video
from random_model import random_encoder

import peav
from peav.checkpoint import CheckpointError
from peav.encoder import Encoder
from peav.media import (
    MediaError,
    NoAudioStreamError,
    NonFiniteError,
    NoVideoStreamError,
    SampleRangeWarning,
    TruncatedMediaWarning,
    UnsupportedInputError,
    ZeroLengthError,
    load_audio,
    load_frames,
    pad_to_hop,
)
from peav.search.embed import embed_files
from peav.types import MODALITIES, DecodeFailure


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return random_encoder()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Five clips of different lengths: two with both streams, a silent one, two sounds."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        "both": write_video(folder / "both.mp4", pictures(30, seed=1), sound=tone(1.2, seed=1)),
        "sound": write_audio(folder / "sound.wav", tone(0.5, seed=2)),
        "silent": write_video(folder / "silent.mp4", pictures(12, seed=3)),
        "longer": write_video(folder / "longer.mp4", pictures(60, seed=4)[:, ::-1], sound=tone(2.4, seed=4)[:, ::-1]),
        "music": write_audio(folder / "music.flac", tone(1.7, channels=2, seed=5), codec="flac"),
    }


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())


def test_alone_equals_in_a_batch_and_order_is_kept(encoder: Encoder, files: dict[str, Path]) -> None:
    paths = [files[name] for name in ("longer", "sound", "both", "silent", "music", "sound")]
    together = encoder.encode(paths, batch_size=4)
    alone = np.stack([encoder.encode(path) for path in paths])
    assert together.shape == (6, encoder.output_dim)
    assert all(close(row, one) for row, one in zip(together, alone, strict=True))
    # The test could not fail if all embeddings were alike.
    assert not close(together[0], together[2], 1e-2)
    assert not close(together[1], together[4], 1e-2)


@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60_000), min_size=1, max_size=5),
    batch_size=st.integers(1, 5),
)
def test_a_waveform_embeds_the_same_beside_any_others(lengths: list[int], batch_size: int) -> None:
    encoder = shared_encoder()
    sounds = [tone(1.3, seed=i)[0, :length] for i, length in enumerate(lengths)]
    together = encoder.encode_audio(sounds, sampling_rate=48000, batch_size=batch_size)
    for sound, row in zip(sounds, together, strict=True):
        assert close(row, encoder.encode_audio(sound, sampling_rate=48000))


_shared: list[Encoder] = []


def shared_encoder() -> Encoder:
    """Hypothesis re-runs the body, not the fixtures."""
    if not _shared:
        _shared.append(random_encoder())
    return _shared[0]


def test_the_same_call_gives_the_same_bits(encoder: Encoder, files: dict[str, Path]) -> None:
    paths = list(files.values())
    assert np.array_equal(encoder.encode(paths), encoder.encode(paths))
    assert np.array_equal(encoder.encode_text(["rain", "a dog"]), encoder.encode_text(["rain", "a dog"]))


def test_paths_bytes_file_objects_and_arrays_agree(encoder: Encoder, files: dict[str, Path]) -> None:
    path = files["both"]
    wanted = encoder.encode_audio_video(path)
    sound, frames = load_audio(path), load_frames(path).pixels
    arrays = {"audio": sound, "video": frames}
    tensors = {"audio": torch.from_numpy(sound), "video": torch.from_numpy(frames).permute(0, 3, 1, 2)}
    with path.open("rb") as file:
        inputs = [str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file]
        assert all(np.array_equal(encoder.encode_audio_video(source), wanted) for source in inputs)
    for source in (arrays, tensors):
        assert close(encoder.encode_audio_video(source, sampling_rate=48000), wanted)


def test_shapes_follow_the_inputs(encoder: Encoder, files: dict[str, Path]) -> None:
    width = encoder.output_dim
    assert encoder.encode_audio(files["sound"]).shape == (width,)
    assert encoder.encode_audio([files["sound"]]).shape == (1, width)
    assert encoder.encode_audio([]).shape == (0, width)
    assert encoder.encode_text("rain").shape == (width,)
    assert encoder.encode_text(["rain"]).shape == (1, width)
    assert encoder.encode_text([]).shape == (0, width)
    tensor = encoder.encode([files["sound"]], convert_to_numpy=False)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float32
    assert not tensor.is_inference()


def test_encode_takes_the_space_of_what_is_there(encoder: Encoder, files: dict[str, Path]) -> None:
    assert np.array_equal(encoder.encode(files["sound"]), encoder.encode_audio(files["sound"]))
    assert np.array_equal(encoder.encode(files["silent"]), encoder.encode_video(files["silent"]))
    assert np.array_equal(encoder.encode(files["both"]), encoder.encode_audio_video(files["both"]))


def test_normalize_gives_unit_length_and_the_same_direction(encoder: Encoder, files: dict[str, Path]) -> None:
    plain, unit = (encoder.encode(list(files.values()), normalize=normalize) for normalize in (False, True))
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert np.allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)


def test_embeddings_equal_the_towers_run_by_hand(encoder: Encoder, files: dict[str, Path]) -> None:
    model, hop = encoder.model, 1920
    sound = load_audio(files["both"])
    padded = np.pad(sound, (0, -len(sound) % hop), mode="reflect")
    frames = load_frames(files["both"], num_frames=8, size=64).pixels
    ids = torch.tensor([encoder.tokenizer.encode("a dog").ids])
    with torch.inference_mode():
        audio = model.audio_hidden(model.encode_codec(torch.from_numpy(padded)[None]))
        pixels = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        video = model.video_hidden(model.frame_features(pixels)[None])
        fused = model.audio_video_hidden(audio.sequence, None, video.sequence, None)
        text = model.text_hidden(ids)[:, 0]
        wanted = {
            "audio": model.project(audio.pooled, "audio"),
            "video": model.project(video.pooled, "video"),
            "audio_video": model.project(fused.pooled, "audio_video"),
            "audio_plus_text": model.project(torch.cat([audio.pooled, text], -1), "audio_plus_text"),
            "video_plus_text": model.project(torch.cat([video.pooled, text], -1), "video_plus_text"),
        } | {f"text_{space}": model.project(text, f"text_{space}") for space in MODALITIES}
    path = files["both"]
    found = {
        "audio": encoder.encode_audio(path),
        "video": encoder.encode_video(path),
        "audio_video": encoder.encode_audio_video(path),
        "audio_plus_text": encoder.encode_audio(path, "a dog"),
        "video_plus_text": encoder.encode_video(path, "a dog"),
    } | {f"text_{space}": encoder.encode_text("a dog", space) for space in MODALITIES}
    for name, row in found.items():
        assert close(row, wanted[name][0].numpy()), name


def test_each_input_is_joined_with_its_own_text(encoder: Encoder, files: dict[str, Path]) -> None:
    paths, texts = [files["sound"], files["both"]], ["rain falls", "a red car drives past a green house"]
    together = encoder.encode_audio(paths, texts)
    for path, text, row in zip(paths, texts, together, strict=True):
        assert close(row, encoder.encode_audio(path, text))
    assert not close(together[0], encoder.encode_audio(paths[0], texts[1]), 1e-3)
    with pytest.raises(ValueError, match="3 texts for 2 inputs"):
        encoder.encode_audio(paths, ["a", "b", "c"])


def test_texts_embed_the_same_beside_longer_ones(encoder: Encoder) -> None:
    texts = ["rain", "a dog barking loudly in the yard " * 30, "", "a red car"]
    together = encoder.encode_text(texts, "audio", batch_size=4)
    assert all(close(row, encoder.encode_text(text, "audio")) for text, row in zip(texts, together, strict=True))


def test_windows_of_a_long_file_have_its_times(encoder: Encoder, tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", pictures(130), sound=tone(5.2))
    windows = encoder.encode_windows([path], MODALITIES, window=2.0)
    assert [(w.start, w.end) for w in windows[:-1]] == [(0.0, 2.0), (2.0, 4.0)]
    assert windows[-1].start == 4.0
    assert windows[-1].end == pytest.approx(5.2, abs=0.05)
    assert {w.modality for w in windows} == {"audio_video"}
    for window in windows[:-1]:
        part = load_audio(path, start=window.start, end=window.end)
        assert close(window.embeddings["audio"], encoder.encode_audio(part, sampling_rate=48000), 1e-3)


def test_a_long_file_is_the_mean_of_its_windows_by_duration(encoder: Encoder, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.wav", tone(3.5))
    windows = encoder.encode_windows(path, window=2.0)
    seconds = np.array([w.end - w.start for w in windows])
    assert np.allclose(seconds, [2.0, 1.5])
    mean = (seconds[:, None] * np.stack([w.embedding for w in windows])).sum(0) / seconds.sum()
    assert close(encoder.encode_audio(path, window=2.0), mean)


def test_window_none_takes_the_whole_file(encoder: Encoder, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.wav", tone(3.5))
    (window,) = encoder.encode_windows(path, window=None)
    assert (window.start, window.end) == (0.0, 3.5)
    assert not close(window.embedding, encoder.encode_audio(path, window=2.0), 1e-3)


def test_more_than_a_tower_takes_is_an_error_that_names_the_fix(encoder: Encoder) -> None:
    with pytest.raises(UnsupportedInputError, match=r"window=30\.0"):
        encoder.encode_audio(np.zeros(48000 * 401, np.float32), sampling_rate=48000, window=None)


def test_a_stream_that_ends_early_leaves_the_other_alone(encoder: Encoder, tmp_path: Path) -> None:
    path = write_video(tmp_path / "short_sound.mp4", pictures(100), sound=tone(1.0))
    windows = encoder.encode_windows([path], MODALITIES, window=2.0)
    assert [w.modality for w in windows] == ["audio_video", "video"]
    assert [sorted(w.embeddings) for w in windows] == [sorted(MODALITIES), ["video"]]
    assert close(encoder.encode_audio_video(path, window=2.0), windows[0].embeddings["audio_video"])
    # Not a mean of two spaces:
    assert np.array_equal(encoder.encode(path, window=2.0), encoder.encode_audio_video(path, window=2.0))


def test_missing_streams_are_typed_errors_that_name_the_file(encoder: Encoder, files: dict[str, Path]) -> None:
    with pytest.raises(NoAudioStreamError, match=r"silent\.mp4"):
        encoder.encode_audio(files["silent"])
    with pytest.raises(NoVideoStreamError, match=r"sound\.wav"):
        encoder.encode_audio_video([files["both"], files["sound"]])


def test_every_bad_file_gives_its_error_and_the_others_go_on(encoder: Encoder, tmp_path: Path) -> None:
    bad = bad_files(tmp_path / "bad")
    good = good_files(tmp_path / "good")
    assert len(bad) >= 15
    inputs = [path for pair in zip((path for path, _ in bad.values()), good, strict=False) for path in pair]
    results = {result.index: result for result in encoder.stream(inputs, batch_size=8)}
    assert sorted(results) == list(range(len(inputs)))
    errors = dict(bad.values())
    for index, path in enumerate(inputs):
        result = results[index]
        if path in errors:
            assert isinstance(result, DecodeFailure), path
            assert type(result.error) is errors[path], path
            assert path.name in str(result.error)
            with pytest.raises(errors[path]):
                encoder.encode(path)
        else:
            assert np.isfinite(result.embedding).all(), path


def test_an_embedding_that_is_not_finite_is_an_error_that_names_its_input(
    files: dict[str, Path], tmp_path: Path
) -> None:
    broken = random_encoder()
    with torch.no_grad():
        for head in ("audio", "text_audio"):
            for weight in broken.model.heads[head].parameters():
                weight.mul_(3e38)
    inputs = [files["longer"], files["sound"], files["silent"]]
    for options in ({}, {"isolate": True}, {"batch_size": 1}):
        results = list(broken.stream(inputs, ["audio", "video"], window=1.0, **options))
        kinds = {i: [type(r) for r in results if r.index == i] for i in range(3)}
        assert kinds[0] == kinds[1] == [DecodeFailure]
        assert DecodeFailure not in kinds[2]
        assert len(kinds[2]) == 1
        error = next(r.error for r in results if r.index == 1)
        assert isinstance(error, NonFiniteError)
        assert "sound.wav: its embedding at 0 s is not finite" in str(error)
    for encode in (broken.encode, broken.encode_audio):
        with pytest.raises(NonFiniteError, match=r"sound\.wav"):
            encode(files["sound"])
    assert np.isfinite(broken.encode(files["silent"])).all()
    with pytest.raises(ValueError, match="not finite"):
        broken.encode_text("a dog barks", "audio")
    summary = embed_files(broken, inputs, tmp_path / "library.parquet", window=30.0)
    assert (summary["embedded"], summary["failures"]) == (1, {"NonFiniteError": 2})


def test_a_truncated_file_gives_what_it_holds_with_a_warning(encoder: Encoder, tmp_path: Path) -> None:
    for name, path in truncated_files(tmp_path).items():
        with pytest.warns(TruncatedMediaWarning, match=name.replace(".", r"\.")):
            assert np.isfinite(encoder.encode(path)).all()


@pytest.mark.parametrize(
    ("source", "rate", "error"),
    [
        (np.array([0.0, np.nan, 0.1], np.float32), 48000, NonFiniteError),
        (np.zeros(0, np.float32), 48000, ZeroLengthError),
        (np.zeros(100, np.float32), None, UnsupportedInputError),
        (np.zeros((2, 3, 4, 5, 6), np.float32), 48000, UnsupportedInputError),
        (np.zeros((4, 8, 8, 3), np.float32), 48000, UnsupportedInputError),
        (np.zeros((0, 8, 8, 3), np.uint8), 48000, ZeroLengthError),
        ([0.1, 0.2, 0.3], 48000, UnsupportedInputError),
        ({"sound": 3}, 48000, MediaError),
        (12, 48000, UnsupportedInputError),
        (b"", None, ZeroLengthError),
    ],
)
def test_bad_inputs_are_typed_errors(
    encoder: Encoder, source: object, rate: int | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        encoder.encode(source, sampling_rate=rate)


def test_bad_arguments_say_what_is_possible(encoder: Encoder, files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="audio_video"):
        encoder.encode_text("rain", "speech")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a text is a string, not int"):
        encoder.encode_text([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="a_v"):
        encoder.logits(np.zeros(3), np.zeros(3), "audio-video")
    with pytest.raises(ValueError, match="window"):
        encoder.encode(files["sound"], window=0)
    with pytest.raises(ValueError, match="batch_size"):
        encoder.encode(files["sound"], batch_size=0)


def test_a_checkpoint_without_tokenizer_says_so(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        Encoder(encoder.model).encode_text("rain")


def test_save_and_load_give_the_same_bits(encoder: Encoder, files: dict[str, Path], tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "model")
    loaded = peav.load(str(tmp_path / "model"), device="cpu")
    assert loaded.model_id == encoder.model_id
    assert np.array_equal(loaded.encode(files["both"]), encoder.encode(files["both"]))
    assert np.array_equal(loaded.encode_text("rain"), encoder.encode_text("rain"))


def test_bfloat16_is_near_and_has_the_same_id(encoder: Encoder, files: dict[str, Path], tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "model")
    half = peav.load(str(tmp_path / "model"), device="cpu", dtype=torch.bfloat16)
    row, wanted = half.encode(files["both"]), encoder.encode(files["both"])
    assert row.dtype == np.float32
    assert row @ wanted / np.linalg.norm(row) / np.linalg.norm(wanted) > 0.98
    assert half.model_id == encoder.model_id


def test_other_weights_have_another_id(encoder: Encoder) -> None:
    assert random_encoder(seed=1).model_id != encoder.model_id


def test_nothing_to_load_is_one_clear_error(golden: Path) -> None:
    with pytest.raises(CheckpointError, match="no directory"):
        peav.load("/no/such/model")
    with pytest.raises(CheckpointError, match="PE-A-Frame"):
        peav.load(str(golden / "pe-a-frame-perception_models"))


@pytest.mark.slow
def test_golden_checkpoints_embed_files(golden: Path, files: dict[str, Path]) -> None:
    layouts = [peav.load(str(golden / f"pe-av-{layout}")) for layout in ("perception_models", "transformers")]
    rows = [model.encode(files["both"], window=None) for model in layouts]
    assert close(rows[0], rows[1])


def test_similarity_is_the_matrix_of_dot_products() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 8))
    assert np.allclose(peav.similarity(a, b), [[x @ y for y in b] for x in a])
    assert np.allclose(peav.similarity(a[0], b), [a[0] @ y for y in b])
    assert np.allclose(peav.similarity(torch.tensor(a), torch.tensor(b)).numpy(), a @ b.T)
    with pytest.raises(ValueError, match="different models"):
        peav.similarity(a, b[:, :4])


def test_logits_use_the_scale_and_bias_of_the_pair(encoder: Encoder) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 8))
    scale, bias = (table["v_ac"].item() for table in (encoder.model.logit_scale, encoder.model.logit_bias))
    assert np.allclose(encoder.logits(a, b, "v_ac"), scale * (a @ b.T) + bias)


@given(length=st.integers(1, 5000), hop=st.integers(1, 700))
def test_padding_mirrors_the_end_up_to_a_whole_hop(length: int, hop: int) -> None:
    waveform = np.arange(length, dtype=np.float32)
    padded = pad_to_hop(waveform, hop)
    assert len(padded) % hop == 0
    assert 0 <= len(padded) - length < hop
    period = max(2 * (length - 1), 1)
    assert all(padded[i] == min(i % period, period - i % period) for i in range(len(padded))) or length == 1


def test_progress_goes_to_stderr(encoder: Encoder, files: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    encoder.encode([files["sound"]], show_progress=True)
    captured = capfd.readouterr()
    assert "encoding" in captured.err
    assert captured.out == ""


def test_the_hub_upload_is_what_save_pretrained_writes(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is the one thing that cannot run for real here."""
    sent: dict[str, object] = {}

    class Api:
        def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
            sent["repo"] = (repo_id, private, exist_ok)

        def upload_folder(self, repo_id: str, folder_path: str, revision: str | None) -> object:
            sent["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            sent["card"] = (Path(folder_path) / "README.md").read_text()
            sent["config"] = json.loads((Path(folder_path) / "config.json").read_text())["format"]
            return type("Commit", (), {"commit_url": "https://hub/commit/1"})()

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert encoder.push_to_hub("me/tiny", private=True) == "https://hub/commit/1"
    assert sent["repo"] == ("me/tiny", True, True)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(sent["files"])  # type: ignore[arg-type]
    assert sent["config"] == "peav"
    assert "\n# me/tiny\n" in str(sent["card"])
    assert 'peav.load("me/tiny")' in str(sent["card"])


def test_generators_and_other_iterables_are_lists(encoder: Encoder, files: dict[str, Path]) -> None:
    paths = [files["sound"], files["music"]]
    wanted, texts = encoder.encode(paths), ["a dog", "rain"]
    assert np.array_equal(encoder.encode(path for path in paths), wanted)
    assert np.array_equal(encoder.encode_audio(dict.fromkeys(paths).keys()), wanted)
    assert np.array_equal(encoder.encode_text(text for text in texts), encoder.encode_text(texts))
    joint = encoder.encode_audio(paths, text=texts)
    assert np.array_equal(encoder.encode_audio(iter(paths), text=(text for text in texts)), joint)
    assert encoder.encode_text(iter(())).shape == (0, encoder.output_dim)
    asked: list[int] = []

    def many():
        for number in range(40):
            asked.append(number)
            yield files["sound"]

    stream = encoder.stream(many(), batch_size=1)
    assert next(stream).index == 0
    assert len(asked) < 40  # they are asked for as they are needed
    assert [window.index for window in stream] == list(range(1, 40))


def test_one_input_is_one_input_everywhere(encoder: Encoder, files: dict[str, Path]) -> None:
    (window,) = encoder.stream(str(files["sound"]))
    assert np.array_equal(window.embedding, encoder.encode(files["sound"]))
    (window,) = encoder.stream({"audio": np.zeros(48000, np.float32)}, sampling_rate=48000)
    assert window.modality == "audio"


def test_spaces_are_whole_names(encoder: Encoder, files: dict[str, Path]) -> None:
    (window,) = encoder.stream([files["both"]], "audio_video")
    assert set(window.embeddings) == {"audio_video"}
    (window,) = encoder.encode_windows(files["both"], ["audio", "video"])
    assert set(window.embeddings) == {"audio", "video"}
    for wrong in ("sound", ["sound"], ["audio", "vide"], "", []):
        with pytest.raises(ValueError, match="space"):
            encoder.stream([files["both"]], wrong)  # type: ignore[arg-type]


def test_audio_of_hugging_face_is_read(encoder: Encoder, files: dict[str, Path]) -> None:
    path = files["music"]
    samples = load_audio(path)
    wanted, of_samples = encoder.encode_audio(path), encoder.encode_audio(samples, sampling_rate=48000)
    decoded = {"array": samples, "sampling_rate": 48000, "path": str(path)}
    assert np.array_equal(encoder.encode_audio(decoded), of_samples)
    assert np.array_equal(encoder.encode_audio([decoded | {"array": torch.from_numpy(samples)}])[0], of_samples)
    assert np.array_equal(encoder.encode_audio(decoded, sampling_rate=8000), of_samples)
    for undecoded in ({"bytes": path.read_bytes(), "path": None}, {"bytes": None, "path": str(path)}):
        assert np.array_equal(encoder.encode_audio(undecoded), wanted)
    frames = load_frames(files["both"]).pixels
    row = {"audio": decoded, "video": frames, "label": 3}
    assert np.array_equal(
        encoder.encode_audio_video(row),
        encoder.encode_audio_video({"audio": samples, "video": frames}, sampling_rate=48000),
    )
    assert [w.source for w in encoder.stream([decoded])] == [str(path)]
    with pytest.raises(UnsupportedInputError, match="this one has sound, label"):
        encoder.encode({"sound": samples, "label": 3})


def test_samples_that_were_never_scaled_are_told(encoder: Encoder, files: dict[str, Path]) -> None:
    samples = load_audio(files["sound"])
    with pytest.warns(SampleRangeWarning, match="divide what was 16-bit by 32768"):
        encoder.encode_audio(samples * 32768, sampling_rate=48000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_audio(samples / np.abs(samples).max() * 4, sampling_rate=48000)  # loud, but sound
        encoder.encode_audio((samples * 32767).astype(np.int16), sampling_rate=48000)


def test_a_misspelt_keyword_names_what_was_called(encoder: Encoder, files: dict[str, Path]) -> None:
    for name in ("encode", "encode_audio", "encode_video", "encode_audio_video"):
        with pytest.raises(
            TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'batchsize'; it takes batch_"
        ):
            getattr(encoder, name)(files["both"], batchsize=3)
    for name in ("encode_text", "encode_windows", "stream"):
        with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument 'batchsize'"):
            getattr(encoder, name)(files["both"], batchsize=3)


def test_batches_of_no_text_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="batch_size is at least 1, not 0"):
        encoder.encode_text("rain", batch_size=0)


def test_many_threads_get_the_bits_of_one(encoder: Encoder, files: dict[str, Path]) -> None:
    def both(number: int) -> tuple[np.ndarray, np.ndarray]:
        name = ("sound", "music")[number % 2]
        return encoder.encode_audio(files[name]), encoder.encode_text([name, "a dog"][: 1 + number % 2])

    expected = [both(number) for number in range(2)]
    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(both, range(24))):
            assert all(map(np.array_equal, found, expected[number % 2]))


def test_a_model_loads_from_a_path_and_says_its_dtype(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "model")
    loaded = peav.load(tmp_path / "model", device="cpu", dtype="bfloat16")
    assert loaded.name == str(tmp_path / "model")
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}
    assert isinstance(loaded, peav.Encoder)
    for wrong in ("int8", "half", torch.int8):
        with pytest.raises(ValueError, match="no dtype"):
            peav.load(tmp_path / "model", dtype=wrong)


def test_a_card_is_called_as_asked_and_goes_with_an_unchanged_model(encoder: Encoder, tmp_path: Path) -> None:
    tiny = peav.load("tiny", device="cpu")
    tiny.save_pretrained(tmp_path / "copy", name="barker")
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "\n# barker\n" in card
    assert f'peav.load("{tmp_path / "copy"}")' in card
    assert "**Figures**" in card
    with torch.no_grad():
        tiny.model.audio.codec.state_dict()[next(iter(tiny.model.audio.codec.state_dict()))].add_(1)
    tiny.save_pretrained(tmp_path / "changed")
    assert "**Figures**" not in (tmp_path / "changed" / "README.md").read_text()
    encoder.save_pretrained(tmp_path / "fresh")
    assert "# fresh\n\nA PE-AV model" in (tmp_path / "fresh" / "README.md").read_text()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_forked_after_loading_computes() -> None:
    """In a process of its own: its first computation starts the threads that a fork leaves behind."""
    code = """
import os, warnings
import numpy as np
from random_model import random_encoder
warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside threads
encoder = random_encoder()
sound = np.random.default_rng(0).standard_normal(48000).astype(np.float32)
here = encoder.encode_audio(sound, sampling_rate=48000)
child = os.fork()
if child == 0:
    there = encoder.encode_audio(sound, sampling_rate=48000)
    os._exit(0 if np.allclose(here, there, atol=1e-5) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "4", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
