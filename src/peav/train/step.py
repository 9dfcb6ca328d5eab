"""One batch through the model: every embedding that the pairs need, computed once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from peav.data.collate import Batch
from peav.distributed import ALONE, DistContext, full
from peav.lab.words import WordFrames
from peav.model import LOGIT_BIAS_INIT, LOGIT_SCALE_INIT, PEAV, TowerOutput
from peav.model.frame_encoder import to_pixels
from peav.objectives.best_rq import BestRQ
from peav.objectives.contrastive import mean_of_negatives
from peav.objectives.frame_loss import FrameLoss
from peav.objectives.pairs import Embedding, Pair, needed, pair_losses
from peav.train.buckets import in_buckets
from peav.train.recipe import Objective

HASH_FACTOR = 0x2545F4914F6CDD1D  # odd and large: sums of two 64-bit hashes, the first times this, do not collide


@dataclass(frozen=True)
class Masking:
    """BEST-RQ on some rows of a batch: `rows` (B,) bool; each row's generator decides its spans."""

    best_rq: BestRQ
    rows: Tensor
    generators: Sequence[torch.Generator]


@dataclass(frozen=True)
class Forward:
    """`embeddings` (B, D) and `present` (B,) by embedding; the losses on the audio tower, where they ran."""

    embeddings: Mapping[Embedding, Tensor]
    present: Mapping[Embedding, Tensor]
    best_rq: FrameLoss | None
    words: FrameLoss | None


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
    masking: Masking | None = None,
    words: WordFrames | None = None,
    buckets: int = 1,
) -> Forward:
    """Embed a batch for training; streams are computed for the rows that have them, other rows are zero.

    Args:
        needed: what the pairs ask for, see `peav.objectives.pairs.needed`.
        masking: hide spans of the audio latents and predict them; None leaves the audio whole.
        words: learn the batch's timed words from the middle of the audio tower; None leaves them.
        buckets: how many groups of like length the audio tower takes the clips in.
    """
    needed = tuple(needed)
    media = {embedding.modality for embedding in needed}
    present = {"audio": batch.audio_lengths > 0, "video": batch.frame_lengths > 0}
    present["audio_video"] = present["audio"] & present["video"]
    if not present["audio_video"].any():
        batch = _with_empty_streams(batch, model)
    streams: dict[str, _Stream] = {}
    best_rq = word_loss = None
    if media & {"audio", "audio_video"}:
        streams["audio"], best_rq = _audio(model, batch, present["audio"], masking, buckets)
        if words is not None and batch.words is not None:
            word_loss = words.loss(streams["audio"].output.middle, batch.words[streams["audio"].rows])
    if media & {"video", "audio_video"}:
        streams["video"] = _video(model, batch)
    if "audio_video" in media:
        streams["audio_video"] = _fuse(model, streams["audio"], streams["video"])
    states = {name: _scatter(stream.output.pooled, stream.rows) for name, stream in streams.items()}
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
    return Forward(embeddings, valid, best_rq, word_loss)


def _with_empty_streams(batch: Batch, model: PEAV) -> Batch:
    """Give the first clip of a batch in which no clip has both streams one step of zeros for each that it lacks.

    Nothing comes of them, but every tower runs: processes that share a batch meet in every module, or wait for ever.
    """
    audio, frames, words = batch.audio, batch.frames, batch.words
    audio_lengths, frame_lengths = batch.audio_lengths.clone(), batch.frame_lengths.clone()
    size, config, like = len(batch.ids), model.config, model.video.proj.weight
    if not audio_lengths.any():
        audio = like.new_zeros(size, 1, config.audio.codec.latent_dim)
        words = None if words is None else words.new_full((size, 1), -1)
    if not frame_lengths.any():
        frames = like.new_zeros(size, 1, config.video.frame_encoder.output_dim)
    audio_lengths[0] = max(int(audio_lengths[0]), 1 if audio.dim() == 3 else config.audio.codec.hop_length)
    frame_lengths[0] = max(int(frame_lengths[0]), 1)
    return replace(
        batch, audio=audio, audio_lengths=audio_lengths, frames=frames, frame_lengths=frame_lengths, words=words
    )


def _audio(
    model: PEAV, batch: Batch, real: Tensor, masking: Masking | None, buckets: int
) -> tuple[_Stream, FrameLoss | None]:
    rows = batch.audio_lengths > 0
    audio, lengths = batch.audio[rows], batch.audio_lengths[rows]
    if audio.dim() == 2:  # waveforms, for a codec that trains
        audio = model.encode_codec(audio, lengths)
        lengths = lengths // model.config.audio.codec.hop_length
    if masking is None:
        return _Stream(in_buckets(model.audio_hidden, audio, lengths, buckets), lengths, rows), None
    generators = [masking.generators[row] for row in rows.nonzero()[:, 0].tolist()]
    hidden, mask = masking.best_rq.mask(audio, lengths, generators)
    chosen = (masking.rows.to(rows.device) & real)[rows]
    output = in_buckets(model.audio_hidden, torch.where(chosen[:, None, None], hidden, audio), lengths, buckets)
    labels = masking.best_rq.labels(audio.detach(), lengths)
    return _Stream(output, lengths, rows), masking.best_rq.loss(output.sequence, labels, mask & chosen[:, None])


def _video(model: PEAV, batch: Batch) -> _Stream:
    rows = batch.frame_lengths > 0
    frames, lengths = batch.frames[rows], batch.frame_lengths[rows]
    dtype = model.video.proj.weight.dtype
    if frames.dim() == 3:  # features of a frozen frame encoder
        return _Stream(model.video_hidden(frames.to(dtype), lengths), lengths, rows)
    real = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
    features = model.frame_features(to_pixels(frames[real], dtype))
    padded = features.new_zeros(*frames.shape[:2], features.shape[-1])
    padded[real] = features
    return _Stream(model.video_hidden(padded, lengths), lengths, rows)


def _fuse(model: PEAV, audio: _Stream, video: _Stream) -> _Stream:
    both = audio.rows & video.rows
    from_audio, from_video = both[audio.rows], both[video.rows]
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


class Trainable(nn.Module):
    """The model and the parts that only training needs: one module that learns, is saved, and may be wrapped."""

    def __init__(
        self,
        model: PEAV,
        objective: Objective,
        best_rq: BestRQ | None = None,
        words: WordFrames | None = None,
        dist: DistContext = ALONE,
        buckets: int = 1,
    ) -> None:
        super().__init__()
        self.model, self.best_rq, self.words, self.buckets = model, best_rq, words, buckets
        self.pairs, self.loss, self.dist = objective.table(), objective.loss, dist

    def forward(self, batch: Batch, masking: Masking | None = None) -> dict[str, Tensor]:
        """This process's share of every loss on its part of a batch, unweighted, by name: fp32 scalars."""
        output = forward(self.model, batch, needed(self.pairs), masking, self.words, self.buckets)
        groups = {embedding: _groups(batch, embedding) for embedding in output.embeddings}
        model = self.model
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
        if self.best_rq is not None:
            losses["best_rq"] = self._mean(output.best_rq)
        if self.words is not None:
            losses["words"] = self._mean(output.words)
        return losses

    def embed(self, batch: Batch, wanted: Sequence[Embedding]) -> Forward:
        """Embeddings alone, as `forward` of this module's file gives them."""
        return forward(self.model, batch, wanted)

    def _mean(self, loss: FrameLoss | None) -> Tensor:
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
