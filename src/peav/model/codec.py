"""The DAC-VAE encoder (arXiv 2306.06546): 48 kHz waveform to 25 latents a second, any length in bounded memory.

Two promises beyond the plain network. *Padding never leaks*: activations beyond a row's valid length are zeroed before
every convolution, which is what the convolution's own zero padding shows a clip encoded alone. *Bounded memory*: time
is cut into windows with a halo as wide as the receptive field, whose results are thrown away. The cut is made twice,
because the first half of the network (a few hundred samples of context, most of the memory) and the second half
(5 latent steps of context, little memory) want windows of very different sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .config import CodecConfig
from .layers import valid_mask

Stage = Callable[[Tensor, Tensor | None], Tensor]
DILATIONS = (1, 3, 9)
# Elements of one activation that a window may hold; about five such tensors live at once.
WINDOW_ELEMENTS = {"cpu": 2**22, "cuda": 2**26}


def zero_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """Zero x (B, C, L) in place beyond each row's `valid` (B,) positions."""
    mask = valid_mask(valid, x.shape[-1])
    return x if mask is None else x.masked_fill_(~mask[:, None], 0.0)


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha, with one alpha per channel (arXiv 2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha[:, None]
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
        h = self.conv1(zero_padding(self.snake1(x), valid))
        return x + self.conv2(self.snake2(h))


class EncoderBlock(nn.Module):
    """Three residual units, then Snake and a strided convolution that doubles the channels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(ResidualUnit(channels, dilation) for dilation in DILATIONS)
        self.snake = Snake(channels)
        self.conv = nn.Conv1d(channels, 2 * channels, 2 * stride, stride=stride, padding=stride // 2)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        for unit in self.units:
            x = unit(x, valid)
        return self.conv(zero_padding(self.snake(x), valid))


def reach(strides: tuple[int, ...], left: int = 0, right: int = 0) -> tuple[int, int]:
    """Input positions that one output step sees before its first and after its own first sample, through blocks
    with these strides; `left` and `right` are what the layers after them see, in output steps."""
    units = 3 * sum(DILATIONS)
    for stride in reversed(strides):
        left = left * stride + stride // 2 + units
        right = right * stride + stride + (stride - stride // 2) - 1 + units
    return left, right


def in_windows(stage: Stage, x: Tensor, valid: Tensor | None, hop: int, halo: int, span: int) -> Tensor:
    """Run `stage` over x (B, C, L) in windows of `span` output steps and put the outputs (B, C', L / hop) together.

    `halo` output steps of context on both sides make it equal to one pass; windows end with the signal, so that the
    stage's own zero padding is met there and only there.
    """
    steps = x.shape[-1] // hop
    if steps <= span:
        return stage(x, valid)
    output: Tensor | None = None
    for start in range(0, steps, span):
        stop = min(start + span, steps)
        first, last = max(start - halo, 0), min(stop + halo, steps)
        window = x[..., first * hop : last * hop]
        inside = None if valid is None else (valid - first * hop).clamp(0, window.shape[-1])
        piece = stage(window, inside)[..., start - first : stop - first]
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
        self._plan()

    def _plan(self) -> None:
        """Where the network is cut in two, with the hop and the halo of each half in its own output steps."""
        strides = self.config.strides
        self._cut = (len(strides) + 1) // 2
        front, back = strides[: self._cut], strides[self._cut :]
        self._front_hop = CodecConfig(strides=front).hop_length
        self._back_hop = CodecConfig(strides=back).hop_length
        self._front_halo = -(-(max(reach(front)) + 3) // self._front_hop)
        self._back_halo = -(-max(reach(back, 1, 1)) // self._back_hop)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None, *, chunk_steps: int | None = None) -> Tensor:
        """Encode mono audio.

        Args:
            waveform: (B, S) at the config's sampling rate, S a multiple of the hop (pad the signal by reflection).
            lengths: (B,) valid samples a row, multiples of the hop; None: all are valid.
            chunk_steps: latent steps a window; None picks what keeps memory near 0.1 GB on a CPU. The result is the
                same to rounding (<= 1e-6 relative). With gradients there are no windows: the graph holds it all anyway.

        Returns:
            (B, S / hop, latent_dim) latents; zero beyond a row's length.

        Raises:
            ValueError: S or a length is not a whole number of hops.
        """
        hop = self.config.hop_length
        if waveform.shape[-1] % hop or (lengths is not None and bool((lengths % hop).any())):
            raise ValueError(
                f"samples must come in whole hops of {hop}: pad the waveform, shape {tuple(waveform.shape)}"
            )
        steps = waveform.shape[-1] // hop
        latents = waveform.new_empty(len(waveform), steps, self.config.latent_dim)
        rows, span = self._window(len(waveform), steps, waveform.device.type)
        for start in range(0, len(waveform), rows):
            group = slice(start, start + rows)
            valid = None if lengths is None else lengths[group]
            latents[group] = self._encode(waveform[group, None], valid, chunk_steps or span).transpose(1, 2)
        mask = valid_mask(None if lengths is None else lengths // hop, steps)
        return latents if mask is None else latents.masked_fill(~mask[..., None], 0.0)

    def _records(self) -> bool:
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())

    def _window(self, batch: int, steps: int, device: str) -> tuple[int, int]:
        """Rows at a time and latent steps a window."""
        if self._records():
            return batch, steps
        per_step = self.config.hidden_size * 2**self._cut * self._back_hop
        budget = max(WINDOW_ELEMENTS.get(device, WINDOW_ELEMENTS["cpu"]) // per_step, 4 * self._back_halo)
        return max(budget // max(steps, 1), 1), budget

    def _encode(self, waveform: Tensor, valid: Tensor | None, span: int) -> Tensor:
        """waveform (B, 1, S) to latents (B, latent_dim, S / hop), in windows of `span` latent steps."""
        inner = span * self._back_hop
        if not self._records():
            elements = WINDOW_ELEMENTS.get(waveform.device.type, WINDOW_ELEMENTS["cpu"])
            per_position = len(waveform) * self.config.hidden_size * self._front_hop
            inner = max(min(inner, elements // per_position), 4 * self._front_halo)

        def both(x: Tensor, inside: Tensor | None) -> Tensor:
            h = in_windows(self._front, x, inside, self._front_hop, self._front_halo, inner)
            return self._back(h, None if inside is None else inside // self._front_hop)

        return in_windows(both, waveform, valid, self.config.hop_length, self._back_halo + 1, span)

    def _front(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """(B, 1, S) through the first blocks."""
        h = self.conv_in(x if valid is None else zero_padding(x.clone(), valid))
        for block, stride in zip(self.blocks[: self._cut], self.config.strides[: self._cut], strict=True):
            h = block(h, valid)
            valid = None if valid is None else valid // stride
        return h

    def _back(self, h: Tensor, valid: Tensor | None) -> Tensor:
        """The last blocks, the output convolution and the bottleneck's mean."""
        for block, stride in zip(self.blocks[self._cut :], self.config.strides[self._cut :], strict=True):
            h = block(h, valid)
            valid = None if valid is None else valid // stride
        return self.mean(self.conv_out(zero_padding(self.snake(h), valid)))
