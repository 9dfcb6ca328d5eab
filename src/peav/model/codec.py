"""The DAC-VAE encoder (arXiv 2306.06546): 48 kHz waveform to 25 latents a second, any length in bounded memory.

Two promises beyond the plain network. *Padding never leaks*: activations beyond a row's valid length are zeroed before
every convolution, which is what the convolution's own zero padding shows a clip encoded alone. *Bounded memory*: time
is cut into windows with a halo as wide as the receptive field, whose results are thrown away. Every block has windows
of its own, nested in those of the block above, because blocks differ a hundredfold in context and in memory a second.
"""

# Shapes: B rows, S samples, C channels, L positions at the rate of the block in hand, T latents at 25 Hz.

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor, nn

from .config import CodecConfig
from .layers import valid_mask

Stage = Callable[[Tensor, Tensor | None], Tensor]
DILATIONS = (1, 3, 9)
# Elements that one activation of a block's window may hold; about five live at once. On a CPU they fit the cache.
CPU_WINDOW, GPU_WINDOW = 2**19, 2**26
# The last block sees six latent steps to either side, so short windows would be mostly halo.
LEAST_STEPS = 250


def zero_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """Zero x (B, C, L) in place beyond each row's `valid` (B,) positions."""
    mask = valid_mask(valid, x.shape[-1], x.device)  # (B, L), or None where nothing is padding
    return x if mask is None else x.masked_fill_(~mask[:, None], 0.0)


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha, with one alpha per channel (arXiv 2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, L) -> (B, C, L)."""
        alpha = self.alpha[:, None]  # (C, 1)
        # 1e-9 as in descript-audio-codec, whose encoder this is.
        return torch.addcmul(x, torch.sin(alpha * x).square(), (alpha + 1e-9).reciprocal())


class ResidualUnit(nn.Module):
    """Snake -> dilated Conv1d k7 -> Snake -> Conv1d k1, with its residual."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.snake1 = Snake(channels)
        self.conv1 = nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation)
        self.snake2 = Snake(channels)
        self.conv2 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """x (B, C, L), zero beyond each row's `valid` (B,) positions -> (B, C, L)."""
        h = self.conv1(zero_padding(self.snake1(x), valid))  # (B, C, L): 3 * dilation of padding keep the length
        return x + self.conv2(self.snake2(h))  # nothing to zero: a kernel of 1 sees its own position alone


class EncoderBlock(nn.Module):
    """Three residual units, then Snake and a strided convolution that doubles the channels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(ResidualUnit(channels, dilation) for dilation in DILATIONS)
        self.snake = Snake(channels)
        self.conv = nn.Conv1d(channels, 2 * channels, 2 * stride, stride=stride, padding=stride // 2)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """x (B, C, L), zero beyond each row's `valid` (B,) positions -> (B, 2 C, L / stride)."""
        for unit in self.units:
            x = unit(x, valid)
        return self.conv(zero_padding(self.snake(x), valid))


def receptive_field(strides: tuple[int, ...], last: int = 0) -> int:
    """Samples of context, to either side, that the blocks with these strides need; `last`: output steps that the
    layers after them see to either side.
    """
    # Backwards from the output: a strided convolution (kernel 2 s, padding s / 2) sees s / 2 positions beyond those
    # under its steps, a residual unit 3 times its dilation.
    context = last
    for stride in reversed(strides):
        context = context * stride + stride // 2 + 3 * sum(DILATIONS)
    return context + 3  # conv_in, kernel 7


def in_windows(stage: Stage, x: Tensor, valid: Tensor | None, hop: int, halo: int, span: int) -> Tensor:
    """Run `stage` over x (B, C, L) in windows of `span` output steps and put the outputs (B, C', L / hop) together.

    `halo` output steps of context on both sides make it equal to one pass; windows end with the signal, so that the
    stage's own zero padding is met there and only there.
    """
    steps = x.shape[-1] // hop
    if steps <= span:
        return stage(x, valid)
    # Made once at its full length, by the first piece's channels: a list of pieces would hold everything twice.
    output: Tensor | None = None
    for start in range(0, steps, span):
        stop = min(start + span, steps)
        first, last = max(start - halo, 0), min(stop + halo, steps)
        window = x[..., first * hop : last * hop]  # (B, C, (last - first) * hop)
        inside = None if valid is None else (valid - first * hop).clamp(0, window.shape[-1])  # (B,)
        piece = stage(window, inside)[..., start - first : stop - first]  # (B, C', stop - start)
        if output is None:
            output = piece.new_empty(*piece.shape[:-1], steps)
        output[..., start:stop] = piece
    assert output is not None
    return output


class Codec(nn.Module):
    """The encoder half of DAC-VAE and the mean of its bottleneck."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.hidden_size * 2**i for i in range(len(config.strides))]
        self.conv_in = nn.Conv1d(1, config.hidden_size, 7, padding=3)
        self.blocks = nn.ModuleList(EncoderBlock(w, s) for w, s in zip(widths, config.strides, strict=True))
        self.snake = Snake(config.width)
        self.conv_out = nn.Conv1d(config.width, config.width, 3, padding=1)
        self.mean = nn.Conv1d(config.width, config.latent_dim, 1)
        # Per block: samples an output step, and the halo in output steps; the last block's counts conv_out as well.
        self._hops = tuple(accumulate(config.strides, mul))
        contexts = [receptive_field(config.strides[: i + 1]) for i in range(len(config.strides) - 1)]
        contexts.append(receptive_field(config.strides, last=1))
        self._halos = tuple(-(-context // hop) for context, hop in zip(contexts, self._hops, strict=True))

    def forward(self, waveform: Tensor, lengths: Tensor | None = None, *, chunk_steps: int | None = None) -> Tensor:
        """Encode mono audio.

        Args:
            waveform: (B, S) at the config's sampling rate, S a multiple of the hop (pad the signal by reflection).
            lengths: (B,) valid samples a row, multiples of the hop; None: all are valid.
            chunk_steps: latent steps a window of the last block; None picks what keeps memory near 0.1 GB on a CPU.
                The result is the same to rounding (some 1e-6 relative, whatever the windows). With gradients there
                are no windows: the graph holds every activation anyway.

        Returns:
            (B, S / hop, latent_dim) latents; zero beyond a row's length.

        Raises:
            ValueError: S or a length is not a whole number of hops.
        """
        hop = self.config.hop_length
        # Every convolution asks whether a row is padded: in the CPU's memory, for on a GPU each question waits for it.
        lengths = None if lengths is None else lengths.cpu()
        if waveform.shape[-1] % hop or (lengths is not None and bool((lengths % hop).any())):
            raise ValueError(
                f"samples must come in whole hops of {hop}: pad the waveform, shape {tuple(waveform.shape)}"
            )
        steps = waveform.shape[-1] // hop
        latents = waveform.new_empty(len(waveform), steps, self.config.latent_dim)  # (B, T, latent_dim)
        top, gpu = len(self.blocks) - 1, waveform.is_cuda
        # As many rows at a time as fit the budget of one window: else a batch would need B times the memory.
        rows = max(self._span(top, 1, gpu) // max(steps, 1), 1)
        for start in range(0, len(waveform), rows):
            group = slice(start, start + rows)
            x, valid = waveform[group, None], None if lengths is None else lengths[group]  # (rows, 1, S), (rows,)
            z = in_windows(self._latents, x, valid, hop, self._halos[-1], chunk_steps or self._span(top, len(x), gpu))
            latents[group] = z.transpose(1, 2)  # (rows, latent_dim, T) -> (rows, T, latent_dim)
        mask = valid_mask(None if lengths is None else lengths // hop, steps, waveform.device)
        return latents if mask is None else latents.masked_fill(~mask[..., None], 0.0)

    def _span(self, level: int, rows: int, gpu: bool) -> int:
        """Output steps in a window of block `level`."""
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            return sys.maxsize
        # Elements of the block's widest input, at the rate before its stride, that stand behind one output step.
        per_step = rows * self.config.hidden_size * 2**level * self.config.strides[level]
        # A window of four halos is computed with two more: a third of the work at most is thrown away.
        least = LEAST_STEPS if level == len(self.blocks) - 1 else 4 * self._halos[level]
        return max((GPU_WINDOW if gpu else CPU_WINDOW) // per_step, least)

    def _latents(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """(B, 1, S) to (B, latent_dim, S / hop)."""
        h = self._level(len(self.blocks) - 1, x, valid)  # (B, width, T)
        steps = None if valid is None else valid // self._hops[-1]  # (B,) latents
        return self.mean(self.conv_out(zero_padding(self.snake(h), steps)))

    def _level(self, level: int, x: Tensor, valid: Tensor | None) -> Tensor:
        """(B, 1, S) through block `level`, those below it in windows."""
        if level == 0:
            # A copy, since zero_padding writes in place and x may be the caller's own waveform.
            return self.blocks[0](self.conv_in(x if valid is None else zero_padding(x.clone(), valid)), valid)
        below, hop = level - 1, self._hops[level - 1]
        span = self._span(below, len(x), x.is_cuda)
        h = in_windows(partial(self._level, below), x, valid, hop, self._halos[below], span)  # (B, C, S / hop)
        return self.blocks[level](h, None if valid is None else valid // hop)
