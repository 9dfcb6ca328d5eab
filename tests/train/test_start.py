"""Where scales and biases start, and that the paper's loss learns from there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from parallel_worker import SIZE, STEPS, model, random_batch

from peav.data.collate import Batch
from peav.eval.metrics import recall_at_k
from peav.objectives.pairs import needed
from peav.train.contrastive_module import ContrastiveModule, forward
from peav.train.optimizer import make_optimizer, take_step
from peav.train.recipe import Objective, Optim
from peav.train.task_contrastive import loss_weights


def logits(module: ContrastiveModule, batch: Batch) -> dict[str, torch.Tensor]:
    """By pair, the logits among the samples that have both sides."""
    output = forward(module.model, batch, needed(module.pairs))
    scales, biases = module.model.logit_scale, module.model.logit_bias
    found = {}
    for pair in module.pairs:
        valid = output.present[pair.query] & output.present[pair.target]
        x, y = output.embeddings[pair.query][valid], output.embeddings[pair.target][valid]
        found[pair.name] = x @ y.T * scales[pair.name] + biases[pair.name]
    return found


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_negatives_of_the_first_batch_start_at_the_log_odds_of_a_match(seed: int) -> None:
    module, batch = ContrastiveModule(model(seed), Objective(pairs="finetune")), random_batch(seed, seed % 2 == 0)
    module.start(batch)
    for name, values in logits(module, batch).items():
        count = len(values)
        if count < 2:
            continue
        negatives = values[~torch.eye(count, dtype=torch.bool)]
        assert negatives.mean().item() == pytest.approx(-math.log(count - 1), abs=1e-3), name
        assert (values - module.model.logit_bias[name]).abs().max() <= 10.001


@torch.no_grad()
def test_what_a_checkpoint_has_learnt_stays_and_what_infonce_left_starts() -> None:
    module, batch = ContrastiveModule(model(0), Objective(pairs=("a_ac", "a_v", "v_vc"))), random_batch(0, False)
    scales, biases = module.model.logit_scale, module.model.logit_bias
    scales["a_ac"].fill_(0.5)
    biases["a_ac"].fill_(-7.0)
    scales["a_v"].fill_(0.25)  # its bias stands where a new model's does
    module.start(batch)
    assert (scales["a_ac"].item(), biases["a_ac"].item(), scales["a_v"].item()) == (0.5, -7.0, 0.25)
    assert biases["a_v"].item() != -10.0
    assert scales["v_vc"].item() != 10.0


@torch.no_grad()
def test_infonce_has_no_use_for_a_bias_and_leaves_it_to_a_later_sigmoid() -> None:
    module, batch = ContrastiveModule(model(0), Objective(pairs=("a_ac",), loss="infonce")), random_batch(0, False)
    module.start(batch)
    assert module.model.logit_scale["a_ac"].item() != 10.0
    assert module.model.logit_bias["a_ac"].item() == -10.0


def learnable(seed: int) -> Batch:
    """Clip k sounds, looks and reads like k, with some noise."""
    whole, noise = random_batch(0, False), torch.Generator().manual_seed(seed)
    kinds = torch.Generator().manual_seed(7)
    audio = torch.randn(SIZE, 1, 8, generator=kinds) + 0.3 * torch.randn(SIZE, STEPS, 8, generator=noise)
    frames = torch.randint(0, 256, whole.frames.shape, generator=kinds, dtype=torch.uint8)
    texts = {
        kind: replace(text, present=torch.ones_like(text.present), groups=torch.arange(SIZE))
        for kind, text in whole.texts.items()
    }
    return replace(
        whole,
        audio=audio,
        audio_lengths=torch.full((SIZE,), STEPS),
        frames=frames,
        frame_lengths=torch.full((SIZE,), frames.shape[1]),
        texts=texts,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_the_sigmoid_loss_leaves_the_constant_predictor_behind_and_retrieves(seed: int) -> None:
    """A constant gets `log B + (B - 1) log(B / (B - 1))` at best; from biases of -10 the loss was no lower by then."""
    objective, steps = Objective(), 20
    module = ContrastiveModule(model(seed), objective)
    optimizer, weights = make_optimizer(module, Optim(steps=steps, batch_size=SIZE)), loss_weights(objective)
    module.start(learnable(0))
    for step in range(steps):
        optimizer.zero_grad()
        loss = sum(weights[name] * value for name, value in module(learnable(step)).items())
        loss.backward()
        take_step(optimizer, 3e-3 * min(1, (step + 1) / 10), clip_norm=1.0)
    constant = math.log(SIZE) + (SIZE - 1) * math.log(SIZE / (SIZE - 1))
    assert loss.item() < 0.6 * constant
    with torch.no_grad():
        found = logits(module, learnable(1000))
    for name in ("a_ac", "av_avc", "v_vc"):
        assert recall_at_k(found[name].T.numpy(), 1) >= 4 / SIZE, name
