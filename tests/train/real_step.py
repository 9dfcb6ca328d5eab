"""One real training step's operations and what its backward pass keeps, to compare with a plan.

python tests/train/real_step.py RECIPE [--set KEY=VALUE]   on the CPU, with the attention of GPUs.
"""

from __future__ import annotations

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from peav.data.collate import Batch, Texts
from peav.model import PEAV, PEAVConfig, preset
from peav.model.layers import Attention
from peav.train import Recipe, plan, read_recipe
from peav.train.contrastive_module import ContrastiveModule
from peav.train.skeleton import CPU_ATTENTION, TOKENS, Clip, Kept, clip_of

KINDS = ("audio", "video", "audio_video")


def clips(config: PEAVConfig, clip: Clip, count: int, pixels: bool) -> Batch:
    """So many clips of noise, all as long as the longest, with captions of the planned length."""
    frames = torch.zeros(count, clip.frames, clip.image_size, clip.image_size, 3, dtype=torch.uint8)
    if not pixels:
        frames = torch.randn(count, clip.frames, config.video.frame_encoder.output_dim)
    own = torch.arange(count)
    ids, there = torch.full((count, TOKENS), config.text.sep_token_id), torch.ones(count, dtype=torch.bool)
    said = Texts(ids, torch.ones(count, TOKENS, dtype=torch.bool), there, own)
    return Batch(
        ids=[str(number) for number in range(count)],
        audio=torch.randn(count, clip.steps, config.audio.codec.latent_dim),
        audio_lengths=torch.full((count,), clip.steps),
        frames=frames,
        frame_lengths=torch.full((count,), clip.frames),
        texts=dict.fromkeys(KINDS, said),
        groups={"audio": own, "video": own},
    )


def model_of(recipe: Recipe, config: PEAVConfig) -> PEAV:
    torch.manual_seed(0)
    model = PEAV(config)
    model.recompute_layers(recipe.optim.recompute)
    model.audio.codec.requires_grad_(False)
    model.video.frame_encoder.requires_grad_(not recipe.frames.frozen)
    return model


def measured(module: ContrastiveModule, batch: Batch, bf16: bool) -> tuple[int, int]:
    """Operations of both passes, and bytes kept between them."""
    kept, counter = Kept(), FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    with counter, kept:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = module(batch)
        between = kept.bytes
        torch.stack(list(losses.values())).sum().backward()
    module.zero_grad(set_to_none=True)
    return counter.get_total_flops(), between


def a_clip(recipe: Recipe) -> tuple[float, float, float, float]:
    """Of one clip of a batch: operations planned and measured, bytes kept planned and measured."""
    config = preset(recipe.model)
    assert isinstance(config, PEAVConfig)
    cost, clip = plan(recipe), clip_of(config, recipe)
    module = ContrastiveModule(model_of(recipe, config), recipe.objective)
    before, Attention.fused = Attention.fused, True
    try:
        one, three = (
            measured(module, clips(config, clip, count, not recipe.frames.frozen), recipe.optim.bf16)
            for count in (1, 3)
        )
    finally:
        Attention.fused = before
    size = recipe.optim.batch_size
    return cost.step_flops / size, (three[0] - one[0]) / 2, cost.memory["activations"] / size, (three[1] - one[1]) / 2


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    recipe = read_recipe(given.recipe, dict(one.split("=", 1) for one in given.set))
    planned, found, kept, held = a_clip(recipe)
    print(f"a clip: {planned / 1e9:.2f} GFLOP planned, {found / 1e9:.2f} measured ({planned / found - 1:+.2%})")
    print(f"a clip: {kept / 1e6:.2f} MB kept planned, {held / 1e6:.2f} measured ({kept / held - 1:+.2%})")


if __name__ == "__main__":
    main()
