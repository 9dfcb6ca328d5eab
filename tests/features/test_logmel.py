from __future__ import annotations

import numpy as np
import torch

from peav.features.logmel import FRAMES_PER_STEP, MELS, LogMel, log_mel_statistics


def test_log_mel_frames_line_up_with_latents() -> None:
    mel = LogMel(48000, 1920)
    tone = torch.zeros(1, 1920 * 6)
    tone[:, 1920 * 3 : 1920 * 4] = torch.sin(torch.arange(1920) * 2 * np.pi * 1000 / 48000)
    energy = mel(tone).view(6, FRAMES_PER_STEP, MELS).amax((1, 2))
    assert mel(tone).shape == (1, 6, FRAMES_PER_STEP * MELS)
    assert int(energy.argmax()) == 3


def test_statistics_are_those_of_the_frames_over_time() -> None:
    waveform = np.random.default_rng(0).normal(size=48000).astype(np.float32)
    waveform[:24000] *= 0.01
    frames = LogMel(48000, 1920)(torch.from_numpy(waveform)[None]).view(-1, MELS).numpy().astype(np.float64)
    deviation, change = frames.std(0, ddof=1), np.abs(frames[1:] - frames[:-1]).mean(0)
    expected = np.concatenate([frames.mean(0), deviation, change, frames.max(0), frames.min(0)])
    np.testing.assert_allclose(log_mel_statistics(waveform, 48000), expected, rtol=1e-9)


def test_a_sound_shorter_than_a_frame_is_followed_by_silence() -> None:
    short = np.ones(100, np.float32)
    padded = np.concatenate([short, np.zeros(1820, np.float32)])
    assert np.array_equal(log_mel_statistics(short, 48000), log_mel_statistics(padded, 48000))
    assert np.isfinite(log_mel_statistics(short[:0], 48000)).all()
