"""One process of a distributed test: the losses and gradients of seeded batches, to compare with one process alone.

python -m torch.distributed.run --nproc-per-node 2 parallel_worker.py OUT ddp|fsdp float32|float64|bfloat16 SEED...

With bfloat16, weights are float32 and the forward pass is under autocast, as in training.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from peav.data.collate import Batch, Texts
from peav.data.manifest import Row
from peav.distributed import ALONE, DistContext, full, process_group, wrap
from peav.lab.words import WordFrames
from peav.model import PEAV
from peav.model.config import (
    AudioConfig,
    CodecConfig,
    FrameEncoderConfig,
    PEAVConfig,
    TextConfig,
    TransformerConfig,
    VideoConfig,
)
from peav.objectives.auxiliary import AuxiliaryLoss, LossContext
from peav.objectives.best_rq import BestRQ, BestRQLoss
from peav.train.contrastive_module import ContrastiveModule
from peav.train.recipe import Objective
from peav.train.task_contrastive import loss_weights
from peav.types import Word

SIZE, FRAMES, STEPS, TOKENS = 8, 3, 6, 5
KINDS = ("audio", "video", "audio_video")


def model(seed: int) -> PEAV:
    torch.manual_seed(seed)
    tower = TransformerConfig(16, 24, 2, 2, head_dim=8)
    return PEAV(
        PEAVConfig(
            audio=AudioConfig(CodecConfig(hidden_size=2, latent_dim=8), tower),
            video=VideoConfig(FrameEncoderConfig(8, 4, 16, 1, 2, output_dim=8, pool_heads=2), tower),
            fusion=tower,
            text=TextConfig(40, 16, 24, 2, 2, pad_token_id=0, cls_token_id=1, sep_token_id=2, max_length=16),
            output_dim=16,
        )
    )


def random_batch(seed: int, last_part_silent: bool) -> Batch:
    """Streams are missing at random, also from a whole part; the last clip is the first once more."""
    draw = torch.Generator().manual_seed(seed)

    def lengths(most: int) -> torch.Tensor:
        return torch.randint(1, most + 1, (SIZE,), generator=draw) * (torch.rand(SIZE, generator=draw) < 0.7)

    audio, video = lengths(STEPS), lengths(FRAMES)
    audio[0], video[0] = STEPS, FRAMES
    if last_part_silent:
        audio[SIZE // 2 :] = 0
    texts = {}
    for kind in KINDS:
        ids = torch.randint(3, 40, (SIZE, TOKENS), generator=draw)
        present = torch.rand(SIZE, generator=draw) < 0.8
        groups = torch.randint(0, 6, (SIZE,), generator=draw)
        texts[kind] = Texts(ids, torch.ones(SIZE, TOKENS, dtype=torch.bool), present, groups)
    return Batch(
        ids=[str(i) for i in range(SIZE)],
        audio=torch.randn(SIZE, STEPS, 8, generator=draw),
        audio_lengths=audio,
        frames=torch.randint(0, 256, (SIZE, FRAMES, 8, 8, 3), generator=draw, dtype=torch.uint8),
        frame_lengths=video,
        texts=texts,
        groups={medium: torch.tensor([*range(SIZE - 1), 0]) for medium in ("audio", "video")},
        targets={
            "words": torch.randint(-1, 4, (SIZE, STEPS), generator=draw) * (torch.arange(STEPS) < audio[:, None])
            - (torch.arange(STEPS) >= audio[:, None]).long()
        },
    )


def part_of(batch: Batch, part: slice) -> Batch:
    texts = {kind: Texts(**{name: value[part] for name, value in vars(t).items()}) for kind, t in batch.texts.items()}
    cut = {name: getattr(batch, name)[part] for name in ("ids", "audio", "audio_lengths", "frames", "frame_lengths")}
    groups = {medium: numbers[part] for medium, numbers in batch.groups.items()}
    targets = {name: values[part] for name, values in batch.targets.items()}
    return replace(batch, texts=texts, groups=groups, targets=targets, **cut)


def auxiliary(config: PEAVConfig) -> dict[str, AuxiliaryLoss]:
    """BEST-RQ with short spans, and three words."""
    context = LossContext(config, [Row("r", words=tuple(Word(word, 0, 1) for word in "abc"))])
    best_rq = BestRQLoss(context)
    best_rq.best_rq = BestRQ(8, 16, codes=11, code_dim=4, mask_probability=0.4, span=2)
    return {"best_rq": best_rq, "words": WordFrames(context)}


def losses_and_gradients(seed: int, how: str, dist: DistContext, dtype: torch.dtype) -> tuple[dict, dict]:
    weights = {"best_rq": {"weight": 0.5}, "words": {"weight": 0.5}}
    objective = Objective(pairs="finetune", loss=("sigmoid", "infonce")[seed % 2], auxiliary=weights)
    small = model(seed)
    module = ContrastiveModule(small, objective, auxiliary(small.config), dist)
    module.model.audio.codec.requires_grad_(False)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    dtype = torch.float32 if dtype == torch.bfloat16 else dtype
    module.to(dtype)
    wrapped = wrap(module, module.model.towers(), how, dist)
    batch = part_of(random_batch(seed, seed % 3 == 0), dist.local_rows(SIZE))
    batch = replace(batch, audio=batch.audio.to(dtype))
    places = range(SIZE)[dist.local_rows(SIZE)]
    generators = [torch.Generator().manual_seed(seed * 100 + place) for place in places]
    with autocast:  # of both, as in `Trainer`
        if seed % 2 == 0:
            module.start(batch)
        losses = wrapped(batch, generators)
    weights = loss_weights(objective)
    (sum(weights[name] * loss for name, loss in losses.items()) * dist.world_size).backward()
    totals = dist.all_reduce_sum(torch.stack(list(losses.values())))
    gradients = {}
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        gradients[name] = torch.zeros(parameter.shape) if gradient is None else full(gradient).clone()
    return dict(zip(losses, totals.tolist(), strict=True)), gradients


def main() -> None:
    out, how, dtype, seeds = Path(sys.argv[1]), sys.argv[2], getattr(torch, sys.argv[3]), map(int, sys.argv[4:])
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")) as dist:
        found = {seed: losses_and_gradients(seed, how, dist, dtype) for seed in seeds}
        if dist.is_main:
            torch.save(found, out)
        assert dist is not ALONE


if __name__ == "__main__":
    main()
