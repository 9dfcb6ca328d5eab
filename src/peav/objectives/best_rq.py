"""BEST-RQ (Chiu et al. 2022, arXiv 2202.01855) over codec latents: it keeps phonetic detail in the audio tower.

A frozen random projection and a frozen random codebook turn every latent into a label. Spans of latents are hidden
from the tower, whose sequence output must then predict the labels of what was hidden.
"""

# Shapes: B clips, T latents at 25 Hz (the paper's frames), C width of a latent, D width of the tower; "codes" is the
# size of the codebook and K the width of its vectors.

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peav.objectives.auxiliary import AudioStates, AuxiliaryLoss, LossContext
from peav.objectives.frame_loss import FrameLoss, frame_loss


class BestRQ(nn.Module):
    """Labels, masks and loss of masked prediction on one tower.

    Differences from the paper: a codec latent covers 40 ms, so frames are not stacked; masked latents become a learned
    vector, not noise, since the scale of the latents depends on the codec.

    Args:
        latent_dim: width of a codec latent.
        width: width of the tower's sequence output.
        codes, code_dim: size of the codebook and width of its vectors.
        mask_probability: chance that a span starts at a frame.
        span: frames in a span. The defaults hide a third of the frames, 400 ms at a time, as the paper does.
        seed: of the projection and the codebook; both are kept in the state dict.
    """

    projection: Tensor
    codebook: Tensor

    def __init__(
        self,
        latent_dim: int,
        width: int,
        codes: int = 8192,
        code_dim: int = 16,
        mask_probability: float = 0.04,
        span: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.mask_probability, self.span = mask_probability, span
        generator = torch.Generator().manual_seed(seed)
        limit = (6 / (latent_dim + code_dim)) ** 0.5  # Xavier uniform, as in the paper
        projection = torch.rand(latent_dim, code_dim, generator=generator) * (2 * limit) - limit  # (C, K)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(torch.randn(codes, code_dim, generator=generator), dim=-1))
        self.hidden = nn.Parameter(torch.zeros(latent_dim))
        self.head = nn.Linear(width, codes)

    @torch.no_grad()
    def labels(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The nearest code (cosine) of each frame.

        Latents are first normalized to zero mean and unit variance per clip and channel over the valid frames: a
        label depends neither on the rest of the batch nor on padding, and steady coloration (room, voice, level) is
        not what tells labels apart.

        Args:
            latents: (B, T, latent_dim), unmasked.
            lengths: (B,) valid frames. None: all.

        Returns:
            (B, T) int64; frames beyond a clip's length hold any label.
        """
        valid = _valid(latents, lengths)[..., None]  # (B, T, 1)
        with torch.autocast(latents.device.type, enabled=False):
            # Sums in fp64: in fp32 they would differ in their last digits with the padding, and flip labels.
            x = torch.where(valid, latents.double(), 0)  # (B, T, C)
            count = valid.sum(1, keepdim=True).clamp(min=1)  # (B, 1, 1)
            x = torch.where(valid, x - x.sum(1, keepdim=True) / count, 0)
            # 1e-5 is for a channel that does not vary within a clip.
            x = x / (x.square().sum(1, keepdim=True) / count + 1e-5).sqrt()
            # The codes have unit length: the largest product is the nearest code by cosine, whatever the length of x.
            return (x.float() @ self.projection.float() @ self.codebook.float().T).argmax(-1)  # (B, T)

    def mask(
        self, latents: Tensor, lengths: Tensor | None, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Hide random spans.

        Args:
            latents: (B, T, latent_dim).
            lengths: (B,) valid frames; a clip of length 0 stays whole. None: all valid.
            generators: a CPU generator for each clip; its state alone decides the clip's spans, whatever the batch and
                its padding, so that a resumed run, or another number of processes, draws the same ones.

        Returns:
            The latents with the learned vector in place of hidden frames, and the (B, T) bool mask of these.
        """
        # Ones where nothing is drawn, so that no span starts in the padding. A clip draws as many numbers as it has
        # frames, so that a longer batch does not move its spans.
        draws = torch.ones(latents.shape[:2])  # (B, T)
        valid = _valid(latents, lengths)
        for row, count, generator in zip(draws, valid.sum(1).tolist(), generators, strict=True):
            row[:count] = torch.rand(count, generator=generator)
        starts = draws < self.mask_probability
        # A frame is hidden where a span starts at it or within the span - 1 frames before it.
        reach = F.max_pool1d(F.pad(starts[:, None].float(), (self.span - 1, 0)), self.span, stride=1)  # (B, 1, T)
        mask = (reach[:, 0] > 0).to(latents.device) & valid  # (B, T)
        return torch.where(mask[..., None], self.hidden.to(latents.dtype), latents), mask

    def loss(self, sequence: Tensor, labels: Tensor, mask: Tensor) -> FrameLoss:
        """Predict the labels of hidden frames.

        Args:
            sequence: (B, T, width), the tower's output on masked latents.
            labels: (B, T) int64, of the unmasked latents.
            mask: (B, T) bool, True where latents were hidden.
        """
        return frame_loss(self.head, sequence, labels, mask)


def _valid(latents: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, T) bool: frames within each clip's length."""
    frames = torch.arange(latents.shape[1], device=latents.device)
    if lengths is None:
        return torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
    return frames < lengths.to(latents.device)[:, None]


class BestRQLoss(AuxiliaryLoss):
    """BEST-RQ as a recipe asks for it (`objective.auxiliary.best_rq`).

    Args:
        share: how many clips of a batch have spans hidden.
        codes: size of the codebook.
    """

    hides = True

    def __init__(self, context: LossContext, share: float = 0.5, codes: int = 1024) -> None:
        super().__init__(context)
        audio = context.config.audio
        self.share = share
        self.best_rq = BestRQ(audio.codec.latent_dim, audio.transformer.hidden_size, codes=codes, seed=context.seed)

    def hide(self, latents: Tensor, lengths: Tensor, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Hide spans of a share of the clips; whether a clip is among them is its generator's first draw."""
        # First, and for every clip: whether it is chosen must not depend on how long it is.
        draws = torch.cat([torch.rand(1, generator=generator) for generator in generators])  # (B,)
        hidden, mask = self.best_rq.mask(latents, lengths, generators)  # (B, T, C), (B, T)
        chosen = (draws < self.share).to(latents.device)
        return torch.where(chosen[:, None, None], hidden, latents), mask & chosen[:, None]

    def on_audio(self, states: AudioStates) -> FrameLoss:
        """Predict the labels of what was hidden."""
        assert states.hidden is not None
        labels = self.best_rq.labels(states.latents.detach(), states.lengths)  # (B, T)
        return self.best_rq.loss(states.sequence, labels, states.hidden)
