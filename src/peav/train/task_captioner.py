"""Captioning: a language model learns to tell what a PE-AV encoder hears and sees (PLM-AV)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from peav.captioner import Captioner
from peav.data.collate import Batch, Collator, Movable
from peav.data.manifest import Row
from peav.distributed import ALONE, DistContext
from peav.encoder import Encoder
from peav.errors import CheckpointError, RecipeError
from peav.features.extract import ClipFeatures
from peav.inference.language_model import LanguageModel, Question
from peav.model import PLM, PLMConfig
from peav.train.batches import Batches
from peav.train.recipe import Captioning, Recipe
from peav.types import Modality, modalities
from peav.utils.text import readable

BATCH = 16  # clips of an evaluation that are told of at once


@dataclass(frozen=True)
class CaptionBatch(Movable):
    """B clips, what is asked of each, and what is to be answered: token ids (A,), of a clip without a caption none."""

    clips: Batch
    questions: tuple[Question | None, ...]
    answers: tuple[Tensor, ...]


class CaptionCollator:
    """Makes `CaptionBatch`es; every random draw comes from the generator that a call is given."""

    def __init__(self, collator: Collator, language: LanguageModel, how: Captioning) -> None:
        self.collator, self.language, self.how = collator, language, how

    def __call__(
        self, rows: Sequence[Row], clips: Sequence[ClipFeatures], rng: np.random.Generator, part: slice = slice(None)
    ) -> CaptionBatch:
        """The batch of `rows[part]`, whose features `clips` are; captions are drawn for all rows."""
        told = [self._draw(row, rng) for row in rows][part]
        batch = self.collator(rows, clips, rng, part)
        questions = [None if one is None else self.language.question(*one[:2]) for one in told]
        answers = [[] if one is None else self.language.answer(one[2], self.how.max_tokens) for one in told]
        return CaptionBatch(batch, tuple(questions), tuple(torch.tensor(one, dtype=torch.int64) for one in answers))

    def _draw(self, row: Row, rng: np.random.Generator) -> tuple[str, Modality, str] | None:
        """A prompt, the streams that are given with it, and the answer; None: nothing is told of the clip.

        A caption of one stream is learned from that stream alone: nothing that is only seen is learned to be heard.
        """
        row = replace(row, transcript=None)  # which the collator would take for an audio caption now and then
        there = modalities(row.audio_path is not None, row.video_path is not None)
        if row.events and "audio" in there and rng.random() < self.how.events:
            return "events", "audio", ", ".join(dict.fromkeys(readable(event.label) for event in row.events))
        drawn = {kind: self.collator.draw(row, kind, rng) for kind in there}
        kinds = [kind for kind, text in drawn.items() if text]
        if not kinds:
            return None
        kind = kinds[rng.integers(len(kinds))]
        text = drawn[kind]
        assert text is not None
        return "caption", kind, text


class CaptionModule(nn.Module):
    """The model and the loss of a batch, as `train.contrastive_module.ContrastiveModule` is for PE-AV."""

    def __init__(self, model: PLM, dist: DistContext = ALONE) -> None:
        super().__init__()
        self.model, self.dist = model, dist

    def forward(self, batch: CaptionBatch) -> dict[str, Tensor]:
        """This process's share of the mean over all tokens of all processes: an fp32 scalar."""
        losses = self.token_losses(batch)
        count = torch.tensor(float(len(losses)), device=losses.device)
        # A part of a batch without any caption has a gradient, too: of zero.
        nothing = 0.0 * torch.stack([one.sum() for one in self.model.parameters()]).sum()
        return {"caption": losses.sum() / self.dist.all_reduce_sum(count).clamp(min=1) + nothing}

    def token_losses(self, batch: CaptionBatch) -> Tensor:
        """The loss of every token of every answer: (sum of their lengths,) fp32."""
        told = [place for place, question in enumerate(batch.questions) if question is not None]
        if not told:
            return self.model.embeddings.weight.new_zeros(0)
        given = self._positions(batch)
        sequences = []
        for place in told:
            question = batch.questions[place]
            assert question is not None
            sequences.append(self.model.embedded(question.filled(given[place])))
        return self.model.token_losses(sequences, [batch.answers[place] for place in told])

    def _positions(self, batch: CaptionBatch) -> list[dict[str, Tensor]]:
        """What the language model is given of each clip, by stream: of the streams alone that its question is about."""
        clips, found = batch.clips, [dict[str, Tensor]() for _ in batch.questions]
        streams = {"audio": (clips.audio, clips.audio_lengths), "video": (clips.frames, clips.frame_lengths)}
        for stream, (inputs, lengths) in streams.items():
            asked = [place for place, one in enumerate(batch.questions) if one is not None and stream in one.parts]
            if asked:
                own = lengths[asked]
                positions = self.model.positions(stream, inputs[asked, : int(own.max())].float(), own)
                for place, one in zip(asked, positions, strict=True):
                    found[place][stream] = one
        return found


class CaptionTask:
    """Trains `model` in place; see `train.trainer.Task`."""

    weights: Mapping[str, float] = {"caption": 1.0}

    def __init__(
        self, captioner: Captioner, feed: Batches, collate: CaptionCollator, dist: DistContext = ALONE
    ) -> None:
        self.captioner, self.feed, self.collate = captioner, feed, collate
        check_packing(captioner.model)
        self.module = CaptionModule(captioner.model, dist)

    def losses(self, wrapped: nn.Module, batch: CaptionBatch, number: int) -> dict[str, Tensor]:  # noqa: ARG002
        """This process's share of the loss on its part of batch `number`."""
        losses: dict[str, Tensor] = wrapped(batch)
        return losses

    @torch.inference_mode()
    def evaluate(self, rows: Sequence[Row], candidates: int) -> dict[str, float]:
        """How likely captions of the first `candidates` rows are: the geometric mean of their tokens' probabilities.

        `shuffled` is the same where each clip is told of with the sound and the pictures of another: what the language
        model knows without listening.
        """
        rows, half = rows[:candidates], min(len(rows), candidates) // 2
        # Not of the neighbor, which is often of the same recording.
        others = [*rows[half:], *rows[:half]]
        losses: dict[str, list[Tensor]] = {"likelihood": [], "shuffled": []}
        for at in range(0, len(rows), BATCH):
            own, other = (self._batch(rows, heard, at) for heard in (rows, others))
            both = _answerable(own) & _answerable(other)  # questions about streams that both clips have
            for name, batch in (("likelihood", own), ("shuffled", other)):
                losses[name].append(self.module.token_losses(_asked_alone(batch, both)).cpu())
        if len(rows) < 2 or not any(map(len, losses["likelihood"])):
            return {}
        return {name: math.exp(-float(torch.cat(found).mean())) for name, found in losses.items()}

    def _batch(self, rows: Sequence[Row], heard: Sequence[Row], at: int) -> CaptionBatch:
        """What is told of some rows, with the media of others; the same captions each time."""
        ((_, clips),) = self.feed.cache.in_batches(heard[at : at + BATCH], BATCH)
        batch: CaptionBatch = self.collate(rows[at : at + BATCH], clips, np.random.default_rng((0, at)))
        return batch.to(next(self.module.parameters()).device)


def make_captioner(recipe: Recipe) -> Captioner:
    """A new captioner, or the one that a recipe goes on from. Raises RecipeError, CheckpointError."""
    how = recipe.captioner
    assert how is not None
    config = PLMConfig(how.audio_stride, how.video_stride, how.rank, how.encoder_layers)
    if how.checkpoint is None:
        assert how.language_model is not None
        encoder = Encoder.from_pretrained(recipe.model, device="cpu", cache_dir=recipe.hub_cache)
        language = LanguageModel.load(how.language_model, cache_dir=recipe.hub_cache)
        return Captioner(PLM(encoder.model, language.model, config, recipe.seed), encoder, language, recipe.name)
    before = Captioner.load(how.checkpoint, encoder=recipe.model, device="cpu", cache_dir=recipe.hub_cache)
    if before.model.config.rank or before.model.config.encoder_layers:
        raise RecipeError(f"captioner.checkpoint: {how.checkpoint} has adapters; go on from one with projectors alone")
    if (before.model.config.audio_stride, before.model.config.video_stride) != (how.audio_stride, how.video_stride):
        raise RecipeError(f"captioner.checkpoint: set the strides of {how.checkpoint}, {before.model.config}")
    model = PLM(before.encoder.model, before.language.model, config, recipe.seed)
    model.projectors.load_state_dict(before.model.projectors.state_dict())
    return Captioner(model, before.encoder, before.language, recipe.name)


@torch.no_grad()
def check_packing(model: PLM) -> None:
    """Raises CheckpointError for a language model in which sequences that share a row see each other.

    So do those that remember by other means than attention.
    """
    width, like = model.embeddings.embedding_dim, model.embeddings.weight
    draw = torch.Generator().manual_seed(0)
    sequences = [(torch.randn(length, width, generator=draw) * 0.1).to(like) for length in (9, 3, 3)]
    answers = [torch.tensor([1, 2], device=like.device)] * 3
    alone = [model.token_losses([one], [answer]) for one, answer in zip(sequences, answers, strict=True)]
    if not torch.allclose(model.token_losses(sequences, answers), torch.cat(alone), rtol=1e-2, atol=1e-2):
        raise CheckpointError(
            "language_model: clips of one batch would see each other in it; take one of attention alone"
        )


def _answerable(batch: CaptionBatch) -> set[int]:
    """The places of clips that have all streams that their question is about."""
    lengths = {"audio": batch.clips.audio_lengths, "video": batch.clips.frame_lengths}
    return {
        place
        for place, question in enumerate(batch.questions)
        if question is not None and all(lengths[part][place] > 0 for part in question.parts if isinstance(part, str))
    }


def _asked_alone(batch: CaptionBatch, places: set[int]) -> CaptionBatch:
    """Without the questions of all other places."""
    questions = [one if place in places else None for place, one in enumerate(batch.questions)]
    return replace(batch, questions=tuple(questions))
