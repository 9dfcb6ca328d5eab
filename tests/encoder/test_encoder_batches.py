"""An input's embedding is its own: beside others, in any batch, twice, from many threads."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media.make import tone
from random_model import close, random_encoder

from peav.encoder import Encoder
from peav.inference.batching import Embedded, embed_stream, spaces_of
from peav.media import (
    load_audio,
    load_frames,
)
from peav.types import MODALITIES


def test_alone_equals_in_a_batch_and_order_is_kept(encoder: Encoder, files: dict[str, Path]) -> None:
    paths = [files[name] for name in ("longer", "sound", "both", "silent", "music", "sound")]
    together = encoder.encode(paths, batch_size=4)
    alone = np.stack([encoder.encode(path) for path in paths])
    assert together.shape == (6, encoder.output_dim)
    assert all(close(row, one) for row, one in zip(together, alone, strict=True))
    # The test could not fail if all embeddings were alike.
    assert not close(together[0], together[2], 1e-2)
    assert not close(together[1], together[4], 1e-2)


def test_a_whole_batch_is_handed_back_and_saved_before_the_next_is_begun(
    encoder: Encoder, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a job which is killed in a long batch has all earlier ones on the disk."""
    import peav.inference.batching as batching

    told: list[str] = []
    forward = batching._forward
    monkeypatch.setattr(batching, "_forward", lambda *args: (told.append("begun"), forward(*args))[1])
    items = encoder.reader("audio", 30.0).read([files["sound"]] * 5, None)
    results = embed_stream(encoder.model, items, spaces_of, None, 2, save=lambda: told.append("saved"))
    for result in results:
        told.extend(["window"] * isinstance(result, Embedded))
    batch = ["begun", "window", "window", "saved"]
    assert told == [*batch, *batch, "begun", "window", "saved", "saved"]


@pytest.mark.slow
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


def test_embeddings_equal_the_towers_run_by_hand(encoder: Encoder, files: dict[str, Path]) -> None:
    model, hop = encoder.model, 1920
    sound = load_audio(files["both"])
    padded = np.pad(sound, (0, -len(sound) % hop), mode="reflect")
    video_config = model.config.video
    size = video_config.frame_encoder.image_size
    frames = load_frames(files["both"], num_frames=video_config.num_frames, size=size).pixels
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


@pytest.mark.slow
def test_many_threads_get_the_bits_of_one(encoder: Encoder, files: dict[str, Path]) -> None:
    def both(number: int) -> tuple[np.ndarray, np.ndarray]:
        name = ("sound", "music")[number % 2]
        return encoder.encode_audio(files[name]), encoder.encode_text([name, "a dog"][: 1 + number % 2])

    expected = [both(number) for number in range(2)]
    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(both, range(24))):
            assert all(map(np.array_equal, found, expected[number % 2]))


@pytest.mark.slow
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
    os._exit(0 if np.allclose(here, there, atol=1e-4) else 1)  # with one thread, sums go another way
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
