"""The codec: exact in windows, exact beside padding, bounded in memory, trainable."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from golden_data import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from peav.checkpoint import load_model
from peav.model import CodecConfig
from peav.model import codec as codec_module
from peav.model.codec import Codec, Snake, receptive_field

HOP = 1920


def small_codec(hidden: int = 4) -> Codec:
    """Random weights that neither fade nor explode over the depth, so that every tap matters."""
    torch.manual_seed(0)
    model = Codec(CodecConfig(hidden_size=hidden)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("alpha"):
                parameter.uniform_(0.5, 2.0)
            else:
                parameter.normal_(std=0.7 * max(parameter[0].numel(), 1) ** -0.5)
    return model.requires_grad_(False)


def naive(codec: Codec, waveform: Tensor) -> Tensor:
    """The network in one pass, as written in the paper: no masks, no windows."""
    h = codec.conv_in(waveform[:, None])
    for block in codec.blocks:
        for unit in block.units:
            h = h + unit.conv2(unit.snake2(unit.conv1(unit.snake1(h))))
        h = block.conv(block.snake(h))
    return codec.mean(codec.conv_out(codec.snake(h))).transpose(1, 2)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return small_codec()


@pytest.mark.slow
@settings(max_examples=15)
@given(
    steps=st.integers(1, 20),
    chunk=st.integers(1, 21),
    window=st.sampled_from([1, 2**12, 2**16]),
    seed=st.integers(0, 9),
)
def test_windows_change_nothing_wherever_they_are_cut(steps: int, chunk: int, window: int, seed: int) -> None:
    codec = small_codec()
    waveform = torch.randn(1, steps * HOP, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_module, "CPU_WINDOW", window)
        chunked = codec(waveform, chunk_steps=chunk)
    assert relative_error(chunked, naive(codec, waveform)) <= 2e-6


@pytest.mark.slow
def test_default_windows_equal_one_pass_over_a_long_signal(codec: Codec) -> None:
    waveform = torch.randn(1, 600 * HOP)  # more than two windows of the last block
    assert relative_error(codec(waveform), naive(codec, waveform)) <= 2e-6


def test_the_halo_is_as_wide_as_the_receptive_field() -> None:
    codec = small_codec(2).requires_grad_(False)
    waveform = torch.zeros(1, 20 * HOP, requires_grad=True)
    naive(codec, waveform)[0, 10].sum().backward()
    assert waveform.grad is not None
    seen = waveform.grad[0].nonzero()[:, 0]
    left, right = 10 * HOP - int(seen.min()), int(seen.max()) - 11 * HOP + 1
    context = receptive_field(codec.config.strides, last=1)
    assert max(left, right) <= context < max(left, right) + HOP
    assert -(-context // HOP) == 6


@settings(max_examples=12)
@given(lengths=st.lists(st.integers(1, 16), min_size=2, max_size=4), seed=st.integers(0, 9))
def test_a_row_equals_the_clip_alone_whatever_the_padding_holds(lengths: list[int], seed: int) -> None:
    codec = small_codec()
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(len(lengths), max(lengths) * HOP, generator=generator)
    latents = codec(batch, torch.tensor(lengths) * HOP)
    for row, steps in enumerate(lengths):
        alone = codec(batch[row : row + 1, : steps * HOP])
        assert relative_error(latents[row : row + 1, :steps], alone) <= 1e-5
        assert not latents[row, steps:].any()


def test_nan_in_the_padding_does_not_reach_the_clip(codec: Codec) -> None:
    batch = torch.randn(2, 8 * HOP)
    batch[1, 3 * HOP :] = float("nan")
    assert codec(batch, torch.tensor([8, 3]) * HOP).isfinite().all()


def test_the_input_is_left_as_it_was(codec: Codec) -> None:
    batch = torch.randn(2, 8 * HOP)
    before = batch.clone()
    codec(batch, torch.tensor([8, 3]) * HOP)
    assert batch.equal(before)


def test_snake_is_its_formula() -> None:
    snake, x = Snake(3), torch.randn(2, 3, 5)
    with torch.no_grad():
        snake.alpha.copy_(torch.tensor([0.5, 1.0, 2.0]))
    alpha = snake.alpha[:, None]
    torch.testing.assert_close(snake(x), x + torch.sin(alpha * x) ** 2 / alpha)


def test_training_gradients_equal_those_of_the_plain_network() -> None:
    codec = small_codec().requires_grad_(True)
    waveform = torch.randn(2, 6 * HOP)
    codec(waveform, torch.tensor([6, 6]) * HOP).square().mean().backward()
    ours = {name: p.grad.clone() for name, p in codec.named_parameters() if p.grad is not None}
    codec.zero_grad()
    naive(codec, waveform).square().mean().backward()
    assert len(ours) == len(list(codec.parameters()))
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None
        assert relative_error(ours[name], parameter.grad) <= 1e-4, name


def test_masked_rows_train_too() -> None:
    codec = small_codec().requires_grad_(True)
    batch = torch.randn(2, 6 * HOP)
    codec(batch, torch.tensor([6, 2]) * HOP).square().mean().backward()
    ours = codec.conv_in.weight.grad
    assert ours is not None
    kept = ours.clone()
    codec.zero_grad()
    alone = torch.cat([naive(codec, batch[:1])[0], naive(codec, batch[1:, : 2 * HOP])[0]])
    (alone.square().sum() / (2 * 6 * 128)).backward()
    assert codec.conv_in.weight.grad is not None
    assert relative_error(kept, codec.conv_in.weight.grad) <= 1e-4


@pytest.mark.parametrize(("samples", "lengths"), [(HOP + 1, None), (2 * HOP, [HOP, HOP + 5])])
def test_part_of_a_hop_is_an_error(codec: Codec, samples: int, lengths: list[int] | None) -> None:
    with pytest.raises(ValueError, match="whole hops of 1920"):
        codec(torch.zeros(2, samples), None if lengths is None else torch.tensor(lengths))


class PeakMemory:
    """The largest resident set while the block runs, above what it was before."""

    def __enter__(self) -> PeakMemory:
        self.process, self.extra, self.running = psutil.Process(), 0, True
        self.base = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.extra = max(self.extra, self.process.memory_info().rss - self.base)
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()


@pytest.mark.slow
def test_an_hour_needs_less_than_300_mb_and_equals_one_pass(golden: Path) -> None:
    codec = load_model(golden / "pe-av-perception_models").audio.codec.requires_grad_(False)
    waveform = torch.randn(1, 90_000 * HOP) * 0.1
    with PeakMemory() as memory:
        latents = codec(waveform)
    assert memory.extra < 0.3e9
    for start in (0, 44_990, 90_000 - 40):  # one pass over an hour would need 100 GB: compare where windows meet
        first, last = max(start - 6, 0), min(start + 46, 90_000)
        reference = naive(codec, waveform[:, first * HOP : last * HOP])[:, start - first :][:, :40]
        assert relative_error(latents[:, start : start + 40], reference) <= 1e-6


@pytest.mark.slow
def test_the_official_width_needs_less_than_250_mb() -> None:
    # An hour's latents add 46 MB; the windows need the same for any length.
    codec = Codec(CodecConfig()).eval().requires_grad_(False)
    waveform = torch.randn(1, 300 * HOP) * 0.1
    codec(waveform[:, : 4 * HOP])
    with PeakMemory() as memory:
        codec(waveform)
    assert memory.extra < 0.25e9
