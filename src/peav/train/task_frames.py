"""Frame-level training: which frames of a clip a text describes (PE-A-Frame), learned from timed events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from peav.data.collate import Batch, Collator, Movable
from peav.data.frame_targets import FrameTargetMaker
from peav.data.manifest import Row
from peav.distributed import ALONE, DistContext
from peav.eval.detection import auroc, macro
from peav.eval.metrics import recall_at_k
from peav.features.extract import ClipFeatures
from peav.features.live import LiveFeatures
from peav.features.store import FeatureCache
from peav.model import PEAFrame
from peav.objectives.contrastive import infonce_loss
from peav.objectives.frame_sigmoid import frame_sigmoid_loss
from peav.train.batches import Batches
from peav.train.buckets import in_buckets
from peav.train.latents import latents_of
from peav.train.recipe import Recipe
from peav.utils.text import readable


@dataclass(frozen=True)
class FrameBatch(Movable):
    """B clips with N texts for all of them: `clips`, the texts' `ids` (N, L) and `mask` (N, L), and as in
    `data.frame_targets.FrameTargets` `heard` and `known` (B, N, T) bool and `offsets` (N,).
    """

    clips: Batch
    ids: Tensor
    mask: Tensor
    heard: Tensor
    known: Tensor
    offsets: Tensor


class FrameCollator:
    """Makes `FrameBatch`es; every random draw comes from the generator that a call is given."""

    def __init__(self, collator: Collator, targets: FrameTargetMaker, prior: bool, hop: int) -> None:
        self.collator, self.targets, self.prior, self.hop = collator, targets, prior, hop

    def __call__(
        self, rows: Sequence[Row], clips: Sequence[ClipFeatures], rng: np.random.Generator, part: slice = slice(None)
    ) -> FrameBatch:
        """The batch of `rows[part]`, whose features `clips` are; texts are those of all rows."""
        batch = self.collator(rows, clips, rng, part)
        latents = batch.audio_lengths if batch.audio.dim() == 3 else batch.audio_lengths // self.hop
        targets = self.targets(rows, part, latents.tolist(), rng)
        texts = self.collator.tokenized(targets.texts)
        offsets = targets.offsets if self.prior else torch.zeros_like(targets.offsets)
        return FrameBatch(batch, texts.ids, texts.mask, targets.heard, targets.known, offsets)


class FrameModule(nn.Module):
    """The model and what only training needs, as `train.contrastive_module.ContrastiveModule` is for PE-AV.

    `clip`: whole clips against their captions too, so that the model still retrieves.
    """

    def __init__(self, model: PEAFrame, clip: bool, buckets: int = 1, dist: DistContext = ALONE) -> None:
        super().__init__()
        self.model, self.buckets, self.dist = model, buckets, dist
        scale = model.logit_scale.detach().clone().squeeze(0)  # the clips'; frames get one of their own, see `start`
        self.logit_scale = nn.Parameter(scale) if clip else None

    @torch.no_grad()
    def start(self, batch: FrameBatch) -> None:
        """Set scale and bias by a run's first batch: logits with a deviation of 2 around the share of heard cells.

        What a clip-level loss has left is an arbitrary offset and a spread of other logits than frames'. They are then
        trained, as those of PE-AV's pairs are (`train.optimizer`).
        """
        known = batch.known
        audio = self.model.audio_hidden(*latents_of(self.model, batch.clips.audio, batch.clips.audio_lengths))
        texts = self.model.text_embedding(batch.ids, batch.mask)  # (N, E)
        raw = (texts @ self.model.heads["audio"](audio.sequence).transpose(1, 2))[known].double()  # (cells,)
        torch.clear_autocast_cache()  # weights cast without a graph: in shards the first step would be taken with these
        total = self.dist.all_reduce_sum
        count = total(known.sum()).clamp(min=2)
        mean = total(raw.sum()) / count
        deviation = (total((raw - mean).square().sum()) / count).sqrt().clamp(min=1e-6)
        share = (total(batch.heard.sum()) / count).clamp(1e-3, 0.5)
        self.model.logit_scale.fill_(2 / deviation)
        self.model.logit_bias.fill_(torch.logit(share) - 2 * mean / deviation)

    def forward(self, batch: FrameBatch) -> dict[str, Tensor]:
        """This process's share of the losses, unweighted, by name: fp32 scalars."""
        model, clips = self.model, batch.clips
        audio = in_buckets(model.audio_hidden, *latents_of(model, clips.audio, clips.audio_lengths), self.buckets)
        texts = model.text_embedding(batch.ids, batch.mask)
        # Offsets in training alone, so that rare labels are not taught that they are rare (`data.frame_targets`).
        logits = model.score(model.heads["audio"](audio.sequence), texts) + batch.offsets[None, :, None]  # (B, N, T)
        losses = {"frames": frame_sigmoid_loss(logits, batch.heard, batch.known, self.dist)}
        if self.logit_scale is not None:
            captions = clips.texts["audio"]
            losses["clip"] = infonce_loss(
                model.heads["audio"](audio.pooled),
                model.text_embedding(captions.ids, captions.mask),
                self.logit_scale,
                captions.present & (clips.audio_lengths > 0),
                torch.stack([captions.groups, clips.groups["audio"]], dim=1),
                self.dist,
            )
        return losses


class FrameTask:
    """Trains `model` in place; see `train.trainer.Task`."""

    def __init__(
        self,
        recipe: Recipe,
        model: PEAFrame,
        feed: Batches,
        collator: Collator,
        targets: FrameTargetMaker,
        dist: DistContext = ALONE,
    ) -> None:
        assert recipe.align is not None
        self.feed, self.collator, self.targets = feed, collator, targets
        self.weights: Mapping[str, float] = {"frames": 1.0, "clip": recipe.align.clip_weight}
        device = next(model.parameters()).device
        self.module = FrameModule(model, recipe.align.clip_weight > 0, recipe.optim.buckets, dist).to(device)
        model.audio.codec.requires_grad_(False)

    def losses(self, wrapped: nn.Module, batch: FrameBatch, number: int) -> dict[str, Tensor]:
        """This process's share of each loss on its part of batch `number`."""
        if number == 0:
            self.module.start(batch)
        losses: dict[str, Tensor] = wrapped(batch)
        return losses

    def evaluate(self, rows: Sequence[Row], candidates: int) -> dict[str, float]:
        """See `evaluate_frames`; all rows are scored, captions are held against `candidates` of them."""
        return evaluate_frames(self.module.model, rows, self.feed.cache, self.collator, self.targets, candidates)


@torch.inference_mode()
def evaluate_frames(
    model: PEAFrame,
    rows: Sequence[Row],
    cache: FeatureCache | LiveFeatures,
    collator: Collator,
    targets: FrameTargetMaker,
    candidates: int,
    batch_size: int = 32,
) -> dict[str, float]:
    """Macro AUROC over the labels of `rows`, of the frames of which it is known, and R@1 of captions to clips.

    Fractions; what there is nothing to measure by is left out. `t2a` is among the first `candidates` rows with an audio
    caption of their own, `chance` is one over their number.
    """
    rows = [row for row in rows if row.audio_path is not None]
    device = next(model.parameters()).device
    labels = sorted({readable(event.label) for row in rows for event in row.events})
    if not rows:
        return {}
    texts = _read(model, collator, labels or [""])
    kept: list[Row] = []  # those that can be read
    lengths: list[int] = []
    logits: list[np.ndarray] = []
    pooled: list[np.ndarray] = []
    for some, clips in cache.in_batches(rows, batch_size):
        kept += some
        batch = collator(some, clips, np.random.default_rng(0)).to(device)
        audio_latents, steps = latents_of(model, batch.audio, batch.audio_lengths)
        audio = model.audio_hidden(audio_latents, steps)
        logits += list(model.score(model.heads["audio"](audio.sequence), texts).float().cpu().numpy())
        pooled.append(model.heads["audio"](audio.pooled).float().cpu().numpy())
        lengths += steps.tolist()
    if not kept:
        return {}
    rows = kept
    found = _retrieval(model, rows, np.concatenate(pooled), collator, candidates)
    if not labels:
        return found
    wanted = targets(rows, slice(None), lengths, np.random.default_rng(0))
    known, heard = wanted.known.numpy(), wanted.heard.numpy()  # (rows, labels, T); nothing is known past a clip's end
    scores = np.zeros(known.shape, np.float32)
    for row, own in zip(scores, logits, strict=True):
        row[:, : own.shape[1]] = own
    areas = {label: auroc(scores[:, n][known[:, n]], heard[:, n][known[:, n]]) for n, label in enumerate(labels)}
    return {"auroc": macro(areas), "auroc_chance": 0.5} | found


def _read(model: PEAFrame, collator: Collator, texts: Sequence[str]) -> Tensor:
    device = next(model.parameters()).device
    tokens = collator.tokenized(texts)
    return model.text_embedding(tokens.ids.to(device), tokens.mask.to(device))


def _retrieval(
    model: PEAFrame, rows: Sequence[Row], pooled: np.ndarray, collator: Collator, candidates: int
) -> dict[str, float]:
    own = {row.captions["audio"][0]: number for number, row in enumerate(rows) if row.captions.get("audio")}
    told = sorted(own.values())[:candidates]
    if not told:
        return {}
    texts = _read(model, collator, [rows[number].captions["audio"][0] for number in told]).float().cpu().numpy()
    return {"t2a": recall_at_k(texts @ pooled[told].T, 1), "chance": 1 / len(told)}
