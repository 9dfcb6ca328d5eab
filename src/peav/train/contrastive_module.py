"""One batch through the model: every embedding that the pairs need, computed once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from peav.data.collate import Batch
from peav.distributed import ALONE, DistContext, full
from peav.model import LOGIT_BIAS_INIT, LOGIT_SCALE_INIT, PEAV, TowerOutput
from peav.model.frame_encoder import to_pixels
from peav.objectives.auxiliary import AudioStates, AuxiliaryLoss
from peav.objectives.contrastive import mean_of_negatives
from peav.objectives.frame_loss import FrameLoss
from peav.objectives.pairs import Embedding, Pair, needed, pair_losses
from peav.train.buckets import in_buckets
from peav.train.latents import latents_of
from peav.train.recipe import Objective

HASH_FACTOR = 0x2545F4914F6CDD1D  # odd and large: sums of two 64-bit hashes, the first times this, do not collide


@dataclass(frozen=True)
class Forward:
    """`embeddings` (B, D) and `present` (B,) by embedding; by name the auxiliary losses on the audio tower that ran."""

    embeddings: Mapping[Embedding, Tensor]
    present: Mapping[Embedding, Tensor]
    on_audio: Mapping[str, FrameLoss | Tensor]


@dataclass(frozen=True)
class _Stream:
    """A tower's output for the rows that have the stream: `rows` (B,) bool, `lengths` (rows,) positions."""

    output: TowerOutput
    lengths: Tensor
    rows: Tensor


def forward(
    model: PEAV,
    batch: Batch,
    needed: Iterable[Embedding],
    losses: Mapping[str, AuxiliaryLoss] = MappingProxyType({}),
    generators: Sequence[torch.Generator] = (),
    buckets: int = 1,
) -> Forward:
    """Embed a batch for training; streams are computed for the rows that have them, other rows are zero.

    Args:
        needed: what the pairs ask for, see `peav.objectives.pairs.needed`.
        losses: auxiliary losses, by name; without one that hides latents the audio stays whole.
        generators: one for each clip, for what is hidden of it.
        buckets: how many groups of like length the audio tower takes the clips in.
    """
    needed = tuple(needed)
    media = {embedding.modality for embedding in needed}
    present = {"audio": batch.audio_lengths > 0, "video": batch.frame_lengths > 0}
    present["audio_video"] = present["audio"] & present["video"]
    if not present["audio_video"].any():
        batch = _with_empty_streams(batch, model)
    streams: dict[str, _Stream] = {}
    on_audio: dict[str, FrameLoss | Tensor] = {}
    if media & {"audio", "audio_video"}:
        streams["audio"], on_audio = _audio(model, batch, present["audio"], losses, generators, buckets)
    if media & {"video", "audio_video"}:
        streams["video"] = _video(model, batch)
    if "audio_video" in media:
        streams["audio_video"] = _fuse(model, streams["audio"], streams["video"])
    states = {name: _scatter(stream.output.pooled, stream.rows) for name, stream in streams.items()}  # (B, D)
    captions = {embedding.caption for embedding in needed}
    for kind, texts in batch.texts.items():  # in a fixed order: gradients are summed in it
        if kind not in captions:
            continue
        states[f"text:{kind}"] = model.text_pooled(texts.ids, texts.mask)
        present[f"text:{kind}"] = texts.present
    embeddings, valid = {}, {}
    for embedding in needed:
        parts: list[str] = [embedding.modality] if embedding.modality else []
        parts += [f"text:{embedding.caption}"] if embedding.caption else []
        embeddings[embedding] = model.project(torch.cat([states[part] for part in parts], dim=-1), embedding.head)
        valid[embedding] = torch.stack([present[part] for part in parts]).all(0)
    return Forward(embeddings, valid, on_audio)


def _with_empty_streams(batch: Batch, model: PEAV) -> Batch:
    """Give the first clip of a batch in which no clip has both streams one step of zeros for each that it lacks.

    Nothing comes of them, but every tower runs: processes that share a batch meet in every module, or wait for ever.
    """
    audio, frames, targets = batch.audio, batch.frames, batch.targets
    audio_lengths, frame_lengths = batch.audio_lengths.clone(), batch.frame_lengths.clone()
    size, config, like = len(batch.ids), model.config, model.video.proj.weight
    if not audio_lengths.any():
        audio = like.new_zeros(size, 1, config.audio.codec.latent_dim)
        targets = {name: values.new_full((size, 1), -1) for name, values in targets.items()}
    if not frame_lengths.any():
        frames = like.new_zeros(size, 1, config.video.frame_encoder.output_dim)
    audio_lengths[0] = max(int(audio_lengths[0]), 1 if audio.dim() == 3 else config.audio.codec.hop_length)
    frame_lengths[0] = max(int(frame_lengths[0]), 1)
    return replace(
        batch, audio=audio, audio_lengths=audio_lengths, frames=frames, frame_lengths=frame_lengths, targets=targets
    )


def _audio(
    model: PEAV,
    batch: Batch,
    real: Tensor,
    losses: Mapping[str, AuxiliaryLoss],
    generators: Sequence[torch.Generator],
    buckets: int,
) -> tuple[_Stream, dict[str, FrameLoss | Tensor]]:
    rows = batch.audio_lengths > 0  # (B,)
    audio, lengths = latents_of(model, batch.audio[rows], batch.audio_lengths[rows])
    heard, hidden = audio, None
    for loss in losses.values():
        if loss.hides:
            own = [generators[row] for row in rows.nonzero()[:, 0].tolist()]
            heard, hidden = loss.hide(audio, lengths * real[rows], own)  # nothing of a stream that is not there
    output = in_buckets(model.audio_hidden, heard, lengths, buckets)
    found: dict[str, FrameLoss | Tensor] = {}
    for name, loss in losses.items():
        targets = batch.targets[name][rows] if loss.has_targets else None
        mask = hidden if loss.hides else None
        value = loss.on_audio(AudioStates(audio, lengths, mask, output.middle, output.sequence, targets))
        if value is not None:
            found[name] = value
    return _Stream(output, lengths, rows), found


def _video(model: PEAV, batch: Batch) -> _Stream:
    rows = batch.frame_lengths > 0
    frames, lengths = batch.frames[rows], batch.frame_lengths[rows]
    dtype = model.video.proj.weight.dtype
    if frames.dim() == 3:  # features of a frozen frame encoder
        return _Stream(model.video_hidden(frames.to(dtype), lengths), lengths, rows)
    real = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
    # (M, 3, H, W): real frames alone, since padding would cost as much as they do.
    features = model.frame_features(to_pixels(frames[real], dtype))
    padded = features.new_zeros(*frames.shape[:2], features.shape[-1])
    padded[real] = features
    return _Stream(model.video_hidden(padded, lengths), lengths, rows)


def _fuse(model: PEAV, audio: _Stream, video: _Stream) -> _Stream:
    both = audio.rows & video.rows  # (B,)
    from_audio, from_video = both[audio.rows], both[video.rows]  # (rows,) of each stream's own
    audio_lengths = audio.lengths[from_audio]
    output = model.audio_video_hidden(
        audio.output.sequence[from_audio],
        audio_lengths,
        video.output.sequence[from_video],
        video.lengths[from_video],
        cls_only=True,
    )
    return _Stream(output, audio_lengths, both)


def _groups(batch: Batch, embedding: Embedding) -> Tensor:
    """(B,) int64: equal for samples whose embeddings are made of the same clips and texts."""
    media = {"audio": ("audio",), "video": ("video",), "audio_video": ("audio", "video"), None: ()}[embedding.modality]
    parts = [batch.groups[medium] for medium in media]
    parts += [batch.texts[embedding.caption].groups] if embedding.caption else []
    return reduce(lambda group, part: group * HASH_FACTOR + part, parts)


def _scatter(values: Tensor, rows: Tensor) -> Tensor:
    """(rows, D) back to (B, D), zeros elsewhere."""
    if rows.all():
        return values
    full = values.new_zeros(len(rows), values.shape[1])
    full[rows] = values
    return full


class ContrastiveModule(nn.Module):
    """The model and the parts that only training needs: one module that learns, is saved, and may be wrapped."""

    def __init__(
        self,
        model: PEAV,
        objective: Objective,
        losses: Mapping[str, AuxiliaryLoss] = MappingProxyType({}),
        dist: DistContext = ALONE,
        buckets: int = 1,
    ) -> None:
        super().__init__()
        self.model, self.buckets = model, buckets
        self.auxiliary = nn.ModuleDict(losses)
        self.pairs, self.loss, self.dist = objective.table(), objective.loss, dist

    @property
    def losses(self) -> dict[str, AuxiliaryLoss]:
        """The auxiliary losses by name."""
        return dict(self.auxiliary.items())  # type: ignore[arg-type]

    def forward(self, batch: Batch, generators: Sequence[torch.Generator] = ()) -> dict[str, Tensor]:
        """This process's share of every loss on its part of a batch, unweighted, by name: fp32 scalars."""
        model = self.model
        output = forward(model, batch, needed(self.pairs), self.losses, generators, self.buckets)
        groups = {embedding: _groups(batch, embedding) for embedding in output.embeddings}
        losses = pair_losses(
            self.pairs,
            output.embeddings,
            output.present,
            model.logit_scale,
            model.logit_bias,
            self.loss,
            groups,
            self.dist,
        )
        for name, loss in self.losses.items():
            value = output.on_audio.get(name)
            if value is None:
                value = loss.on_embeddings(output.embeddings, output.present)
            losses[name] = self._share(value)
        return losses

    def embed(self, batch: Batch, wanted: Sequence[Embedding]) -> Forward:
        """Embeddings alone, as `forward` of this module's file gives them."""
        return forward(self.model, batch, wanted)

    def _share(self, loss: FrameLoss | Tensor | None) -> Tensor:
        """This process's share of the mean of a loss over all processes."""
        if isinstance(loss, Tensor):
            return loss / self.dist.world_size
        zero = torch.zeros((), device=next(self.model.parameters()).device)
        return (loss or FrameLoss(zero, zero, zero.long())).mean(self.dist)[0]

    @torch.no_grad()
    def start(self, batch: Batch) -> None:
        """Set scales and biases of untrained pairs by a run's first batch, whatever the embeddings' norms and means.

        A scale starts so that logits lie within +-10 (SigLIP, section 3.2), a bias so that the mean logit of the
        negatives is -log(B - 1), the log-odds of a match among B samples: without it the sigmoid loss begins by
        fighting over what all logits have in common. SigLIP's -10 is this at a batch of 22 000.

        To be called outside the forward pass: what a sharded module changes in it is lost. Untrained are all pairs of a
        fresh model, and in a checkpoint those whose scale stands where a new model's does or, as in the public files,
        at 0; and the biases that InfoNCE, which has no use for them, left where a new model's stand. A pair of which
        the batch has no sample starts with the smallest of the others' scales.
        """
        scales, biases = self.model.logit_scale, self.model.logit_bias
        fresh = {pair.name for pair in self.pairs if full(scales[pair.name]).item() in (0.0, LOGIT_SCALE_INIT)}
        unbiased = {pair.name for pair in self.pairs if full(biases[pair.name]).item() == LOGIT_BIAS_INIT} | fresh
        if not fresh and (self.loss != "sigmoid" or not unbiased):
            return
        output = self.embed(batch, needed(self.pairs))
        torch.clear_autocast_cache()  # weights cast without a graph: in shards the first step would be taken with these
        if isinstance(self, FSDPModule):
            self.reshard()  # else the whole copy is set, which is thrown away
        self._start_scales([pair for pair in self.pairs if pair.name in fresh], output)
        if self.loss == "sigmoid":
            self._start_biases([pair for pair in self.pairs if pair.name in unbiased], output)

    def _start_scales(self, pairs: Sequence[Pair], output: Forward) -> None:
        norms = [(rows.double().norm(dim=-1) * output.present[name]).max() for name, rows in output.embeddings.items()]
        longest = dict(zip(output.embeddings, self.dist.all_reduce_max(torch.stack(norms)).tolist(), strict=True))
        bounds = {pair.name: longest[pair.query] * longest[pair.target] for pair in pairs}
        largest = max(bounds.values(), default=0.0)
        for name, bound in bounds.items():
            if largest > 0:
                self.model.logit_scale[name].fill_(10 / (bound or largest))

    def _start_biases(self, pairs: Sequence[Pair], output: Forward) -> None:
        for pair in pairs:
            valid = output.present[pair.query] & output.present[pair.target]
            x, y = output.embeddings[pair.query], output.embeddings[pair.target]
            mean, count = mean_of_negatives(x, y, valid, self.dist)
            if count > 1:
                offset = full(self.model.logit_scale[pair.name]).item() * mean
                self.model.logit_bias[pair.name].fill_(-math.log(count - 1) - offset)
