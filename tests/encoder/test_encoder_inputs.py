"""What users hand over: paths, bytes, files, arrays, lists and generators, and what comes back for it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from random_model import close

from peav.encoder import Encoder
from peav.media import (
    SampleRangeWarning,
    UnsupportedInputError,
    load_audio,
    load_frames,
)


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


@pytest.mark.slow
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
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")  # as Python has it
        for rate in (48000, 16000):
            encoder.encode_audio([samples * 32768] * 3, sampling_rate=rate)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_audio(samples / np.abs(samples).max() * 4, sampling_rate=48000)  # loud, but sound
        encoder.encode_audio((samples * 32767).astype(np.int16), sampling_rate=48000)
