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
from peav.errors import RecipeError
from peav.features.extract import ClipFeatures
from peav.features.store import FeatureCache
from peav.inference.language_model import LanguageModel, Question
from peav.model import PLM, PLMConfig
from peav.train.batches import BatchStream
from peav.train.recipe import Captioning, Recipe
from peav.types import Modality, modalities
from peav.utils.text import readable


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
        return {"caption": losses.sum() / self.dist.all_reduce_sum(count).clamp(min=1)}

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
        self, captioner: Captioner, feed: BatchStream, collate: CaptionCollator, dist: DistContext = ALONE
    ) -> None:
        self.captioner, self.feed, self.collate = captioner, feed, collate
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
        rows, cache = rows[:candidates], self.feed.cache
        return {} if len(rows) < 2 else {
            "likelihood": self._likelihood(rows, rows, cache),
            "shuffled": self._likelihood(rows, [*rows[1:], rows[0]], cache),
        }  # fmt: skip

    def _likelihood(self, rows: Sequence[Row], heard: Sequence[Row], cache: FeatureCache, size: int = 16) -> float:
        device = next(self.module.parameters()).device
        losses = []
        for at in range(0, len(rows), size):
            some, rng = rows[at : at + size], np.random.default_rng((0, at))
            clips = [cache.load(row) for row in heard[at : at + size]]
            batch = self.collate(some, clips, rng)
            losses.append(self.module.token_losses(_told_of_what_is_there(batch).to(device)).cpu())
        return math.exp(-float(torch.cat(losses).mean())) if any(map(len, losses)) else 0.0


def make_captioner(recipe: Recipe) -> Captioner:
    """A new captioner, or the one that a recipe goes on from. Raises RecipeError, CheckpointError."""
    how = recipe.captioner
    assert how is not None
    config = PLMConfig(how.audio_stride, how.video_stride, how.rank, how.encoder_layers)
    if how.checkpoint is None:
        assert how.language_model is not None
        encoder = Encoder.from_pretrained(recipe.model, device="cpu", cache_dir=recipe.hub_cache)
        language = LanguageModel.load(how.language_model)
        _ = language.model_id, encoder.model_id  # before LoRA changes what they are made of
        return Captioner(PLM(encoder.model, language.model, config, recipe.seed), encoder, language, recipe.name)
    before = Captioner.load(how.checkpoint, encoder=recipe.model, device="cpu", cache_dir=recipe.hub_cache)
    if before.model.config.rank or before.model.config.encoder_layers:
        raise RecipeError(f"captioner.checkpoint: {how.checkpoint} has adapters; go on from one with projectors alone")
    model = PLM(before.encoder.model, before.language.model, config, recipe.seed)
    model.projectors.load_state_dict(before.model.projectors.state_dict())
    return Captioner(model, before.encoder, before.language, recipe.name)


def _told_of_what_is_there(batch: CaptionBatch) -> CaptionBatch:
    """Without the questions about a stream that a clip lacks, as another clip's may."""
    lengths = {"audio": batch.clips.audio_lengths, "video": batch.clips.frame_lengths}

    def there(place: int, question: Question | None) -> bool:
        streams = [part for part in (question.parts if question else ()) if isinstance(part, str)]
        return all(lengths[stream][place] > 0 for stream in streams)

    questions = [one if there(place, one) else None for place, one in enumerate(batch.questions)]
    return replace(batch, questions=tuple(questions))
