"""A frame encoder from scratch: single frames learn to tell which words the captions of their clip use.

The official models start from PE-Core, which saw billions of captioned pictures. With thousands, a categorical loss on
the words of a caption learns what is in a picture long before a contrastive one does (CatLIP, arXiv 2404.15653; Joulin
et al., arXiv 1511.02251): a contrastive loss is content with whatever tells clips apart, color and backdrop for
instance. The head is thrown away.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peav.data.manifest import Row
from peav.errors import RecipeError
from peav.features.keys import clip_key
from peav.features.store import FeatureCache
from peav.lab.lips import Lips
from peav.lab.teach import teach
from peav.model import PEAV
from peav.model.frame_encoder import to_pixels
from peav.train.initialize import InitContext, Initializer

RAREST, COMMONEST = 0.002, 0.3  # share of clips whose captions use a word
LIPS_WEIGHT = 5.0  # a frame has some twenty nats of captions and two of lips


@dataclass(frozen=True)
class PretrainFrames(Initializer):
    """Teach the frame encoder the words of visual captions for `steps`.

    `lips`: places of sources whose speakers' lips it learns to read as well, see `lab.lips`.
    """

    steps: int
    batch_size: int = 96
    lr: float = 2e-3
    lips: tuple[str, ...] = ()

    needs_features = True

    def run(self, model: PEAV, context: InitContext) -> None:
        """Change the model's frame encoder. Raises RecipeError where `lips` names no source."""
        if unknown := [place for place in self.lips if place not in context.places]:
            raise RecipeError(f"pretrain_frames: lips: {unknown[0]} is the place of no source")
        rows = [row for some in context.sources for row in some]
        talks = [place in self.lips for place in context.places]
        speakers = [row for some, wanted in zip(context.sources, talks, strict=True) if wanted for row in some]
        made_of = [
            asdict(self),
            [(clip_key(row), row.captions.get("video")) for row in rows],
            [(clip_key(row), [asdict(word) for word in row.words]) for row in speakers],
        ]
        encoder = model.video.frame_encoder
        context.kept(
            "frames", encoder, made_of, lambda: self._teach(model, context, rows, speakers), start=not context.fresh
        )

    def _teach(self, model: PEAV, context: InitContext, rows: Sequence[Row], speakers: Sequence[Row]) -> None:
        assert context.features is not None
        context.reporter.stage("frames", self.steps)
        pretrain_frames(
            model,
            rows,
            context.features,
            self,
            context.recipe.seed,
            speakers=speakers,
            progress=lambda step, loss: context.reporter.advance(step, f"loss {loss:.3f}"),
        )


def pretrain_frames(
    model: PEAV,
    rows: Sequence[Row],
    cache: FeatureCache,
    config: PretrainFrames,
    seed: int,
    *,
    speakers: Sequence[Row] = (),
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Train `model.video.frame_encoder` in place on one random frame a clip.

    Args:
        rows: clips whose frames are in `cache`; those without a visual caption are left out.
        speakers: clips whose lips are to be read as well; see `lab.lips`.

    Returns:
        The mean loss of the last tenth of the steps: nats a frame, summed over the words.

    Raises:
        RecipeError: no clip has frames and visual captions with words of middling frequency.
    """
    rows = [row for row in rows if row.captions.get("video") and cache.load(row).frames is not None]
    words = caption_words(rows)
    if not words:
        raise RecipeError("pretrain_frames: no visual captions to learn from; leave it out")
    targets = torch.tensor([[float(word in used) for word in words] for used in map(_words, rows)])  # (rows, words)
    encoder = model.video.frame_encoder
    head = nn.Linear(model.config.video.frame_encoder.output_dim, len(words))
    with torch.no_grad():
        head.bias.copy_(torch.logit(targets.mean(0)))  # the priors need not be learned
    shape = model.config.video.frame_encoder
    lips = Lips(speakers, shape.image_size, shape.output_dim) if speakers else None
    parameters = [*encoder.parameters(), *head.parameters(), *(lips.parameters() if lips else ())]

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng((seed, 2, step))
        chosen = rng.integers(len(rows), size=config.batch_size)
        logits = head(_features(encoder, torch.stack([_frame(cache, rows[index], rng) for index in chosen])))
        loss = F.binary_cross_entropy_with_logits(logits, targets[chosen], reduction="sum") / len(chosen)
        if lips is not None:
            mouths, said = lips.draw(rng)
            loss = loss + LIPS_WEIGHT * lips(_features(encoder, mouths.flatten(0, 1)).unflatten(0, said.shape), said)
        return loss

    return teach(parameters, loss_of, config.steps, config.lr, warmup=100, weight_decay=0.05, progress=progress)


def _features(encoder: nn.Module, frames: Tensor) -> Tensor:
    """(N, D) fp32 of (N, size, size, 3) uint8."""
    with torch.autocast("cpu", torch.bfloat16):
        features: Tensor = encoder(to_pixels(frames))
    return features.float()


def caption_words(rows: Sequence[Row]) -> list[str]:
    """The words that say something: neither in nearly every clip's visual captions nor in hardly any's."""
    counts = Counter(word for row in rows for word in _words(row))
    return sorted(word for word, count in counts.items() if RAREST <= count / len(rows) <= COMMONEST)


def _words(row: Row) -> set[str]:
    return {word for caption in row.captions.get("video", ()) for word in re.findall(r"\w+", caption.lower())}


def _frame(cache: FeatureCache, row: Row, rng: np.random.Generator) -> Tensor:
    """One random frame (size, size, 3) uint8."""
    frames = cache.load(row).frames
    assert frames is not None, f"{row.id} has no frames"
    return torch.from_numpy(frames[rng.integers(len(frames))])
