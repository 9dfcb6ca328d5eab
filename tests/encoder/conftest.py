"""A random encoder and some clips."""

from __future__ import annotations

from pathlib import Path

import pytest
from media.make import pictures, tone, write_audio, write_video
from random_model import random_encoder

from peav.encoder import Encoder


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
