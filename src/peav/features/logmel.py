"""Log-mel energies: what a small codec learns to keep of a sound, and what any audio model must beat."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

MELS = 64
FRAMES_PER_STEP = 4


class LogMel(nn.Module):
    """Log-mel energies, `FRAMES_PER_STEP` frames of `MELS` each `hop` samples: (B, S) -> (B, S // hop, 256)."""

    filters: Tensor
    window: Tensor

    def __init__(self, sampling_rate: int, hop: int) -> None:
        super().__init__()
        self.hop, self.size = hop // FRAMES_PER_STEP, hop
        self.register_buffer("filters", mel_filters(sampling_rate, self.size))
        self.register_buffer("window", torch.hann_window(self.size))

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveforms (B, S) at the sampling rate to (B, S // hop, 256)."""
        spectrum = torch.stft(waveform, self.size, self.hop, window=self.window, return_complex=True)  # (B, bins, L)
        mel = torch.log(spectrum.abs().square().transpose(1, 2) @ self.filters + 1e-4)  # (B, L, MELS)
        steps = waveform.shape[1] // (self.hop * FRAMES_PER_STEP)
        return mel[:, : steps * FRAMES_PER_STEP].reshape(len(mel), steps, -1)


def mel_filters(sampling_rate: int, size: int, low: float = 40.0, high: float = 16000.0) -> Tensor:
    """Triangular filters on the mel scale: (size // 2 + 1, MELS)."""
    edges_mel = np.linspace(2595 * math.log10(1 + low / 700), 2595 * math.log10(1 + high / 700), MELS + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    bins = np.arange(size // 2 + 1)[:, None] * sampling_rate / size
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.tensor(np.maximum(0, np.minimum(rising, falling)), dtype=torch.float32)


def log_mel_statistics(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Mean, deviation, mean change and extremes over time of the log-mel energies of 10 ms.

    Args:
        waveform: (S,); one shorter than 40 ms is taken with silence after it.

    Returns:
        (5 * MELS,) float64.
    """
    hop = sampling_rate // 25
    waveform = np.pad(waveform, (0, max(0, hop - len(waveform))))
    mel = LogMel(sampling_rate, hop)(torch.from_numpy(waveform)[None])[0].reshape(-1, MELS).double()
    change = mel.diff(dim=0).abs().mean(0)
    return torch.cat([mel.mean(0), mel.std(0), change, mel.amax(0), mel.amin(0)]).numpy()
