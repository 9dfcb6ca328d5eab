"""The mean over windows is the plain weighted mean, of the windows that count."""

from __future__ import annotations

import numpy as np
import torch

from peav.inference.pooling import mean_of_windows, weighted_mean

ROWS = [torch.from_numpy(row) for row in np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)]
SECONDS = [30.0, 30.0, 30.0, 2.5]


def test_it_is_numpys_average_and_a_single_row_is_itself() -> None:
    naive = np.average(np.stack(ROWS).astype(np.float64), axis=0, weights=SECONDS)
    np.testing.assert_allclose(weighted_mean(ROWS, SECONDS), naive, rtol=1e-5, atol=1e-6)
    assert weighted_mean(ROWS[:1], [0.0]) is ROWS[0]


def test_windows_with_both_streams_count_alone_and_else_the_space_with_most_seconds() -> None:
    spaces = ["audio_video", "audio", "audio_video", "audio"]
    parts = list(zip(spaces, SECONDS, ROWS, strict=True))
    assert torch.equal(mean_of_windows(parts), weighted_mean(ROWS[::2], SECONDS[::2]))
    one_each = [("audio", 30.0, ROWS[0]), ("video", 31.0, ROWS[1]), ("audio", 2.0, ROWS[2])]
    assert torch.equal(mean_of_windows(one_each), weighted_mean([ROWS[0], ROWS[2]], [30.0, 2.0]))
