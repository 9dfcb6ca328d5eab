"""Windows at fixed places: naive cutting and cross-fading beside the incremental one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from peav.inference.streaming import CodecStream, OverlapAdd, StreamingWindow, Windowing

FRAMES = st.integers(0, 60)


def context_score(latents: Tensor) -> Tensor:
    """(T, C) -> (2, T): depends on everything in the window, as a tower with global attention does."""
    values = latents[:, 0].double()
    return torch.stack([values + values.mean(), values * values.std(correction=0)])


def naive(latents: Tensor, past: int, step: int, ahead: int) -> np.ndarray:
    """Every window's weight and score at every frame, added up."""
    total, size = len(latents), past + step + ahead
    starts = [s for s in range(0, max(total, 1), step) if s == 0 or total > s + ahead]
    out, weight = torch.zeros(2, total), torch.zeros(total)
    for i, start in enumerate(starts):
        last = i == len(starts) - 1
        stop = total if last else start + step + ahead
        first = max(total - size, 0) if last and total < start + step + ahead else max(start - past, 0)
        scores = context_score(latents[first:stop])
        for t in range(start, stop):
            w = min(1.0, (t - start + 1) / (ahead + 1)) if start else 1.0
            if not last and t >= start + step:
                w = 1 - (t - start - step + 1) / (ahead + 1)
            out[:, t] += w * scores[:, t - first]
            weight[t] += w
    assert torch.allclose(weight, torch.ones(total))
    return out.numpy()


@pytest.mark.slow
@given(past=st.integers(0, 9), step=st.integers(1, 9), ahead=st.integers(0, 9), total=FRAMES, cut=st.integers(1, 20))
def test_overlap_add_equals_the_naive_sum_of_faded_windows(
    past: int, step: int, ahead: int, total: int, cut: int
) -> None:
    ahead = min(ahead, step)
    latents = torch.randn(total, 3, generator=torch.Generator().manual_seed(total)).double()
    overlap_add = OverlapAdd(context_score, StreamingWindow(past * 0.04, step * 0.04, ahead * 0.04), labels=2)
    parts = [part for at in range(0, total, cut) for part in overlap_add.push(latents[at : at + cut])]
    stitched = torch.cat([*parts, overlap_add.finish()], dim=1).numpy()
    assert stitched.shape == (2, total)
    if total:
        assert np.allclose(stitched, naive(latents, past, step, ahead), atol=1e-6)


@given(samples=st.integers(0, 200), cut=st.integers(1, 50), first=st.integers(1, 9), step=st.integers(1, 9))
def test_codec_stream_covers_every_hop_once_with_their_halo(samples: int, cut: int, first: int, step: int) -> None:
    hop, halo = 4, 2
    sound = np.arange(1, samples + 1, dtype=np.float32)

    def encode(part: np.ndarray) -> Tensor:
        """Each latent sees `halo` steps to either side, zeros beyond the signal."""
        steps = np.pad(part.reshape(-1, hop).sum(1), halo)
        return torch.from_numpy(np.lib.stride_tricks.sliding_window_view(steps, 2 * halo + 1).sum(1))[:, None]

    blocks = CodecStream(encode, hop, halo, first, step)
    parts = [part for at in range(0, samples, cut) for part in blocks.push(sound[at : at + cut])]
    parts += blocks.finish()
    if samples == 0:
        assert parts == []
        return
    whole = encode(np.pad(sound, (0, -samples % hop), mode="reflect"))
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("values", [(-1, 1, 0), (0, 0, 0), (0, 0.01, 0), (0, 1, 2), (0, float("inf"), 0)])
def test_windows_that_make_no_sense_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="StreamingWindow"):
        StreamingWindow(*values)


def test_the_former_name_still_works_and_says_so() -> None:
    with pytest.warns(DeprecationWarning, match="StreamingWindow"):
        assert Windowing(past=4.0, step=1.0, ahead=0.4) == StreamingWindow(4.0, 1.0, 0.4)
