"""Scales move by their logarithms, biases keep up, and neither decays nor weighs on the clipping of the rest."""

from __future__ import annotations

import pytest
import torch
from parallel_worker import model
from torch import Tensor, nn

from peav.model import PEAFrame
from peav.train.optimizer import BIAS_RATE, make_optimizer, take_step
from peav.train.recipe import Optim
from peav.train.task_frames import FrameModule

OPTIM = Optim(steps=1, batch_size=1, weight_decay=0.5)


class Logits(nn.Module):
    """A tower that makes x . y, and a scale and a bias beside it."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Linear(4, 3, dtype=torch.float64)
        self.logit_scale = nn.ParameterDict({"pair": torch.tensor([scale], dtype=torch.float64)})
        self.logit_bias = nn.ParameterDict({"pair": torch.tensor([-10.0], dtype=torch.float64)})

    def loss(self, step: int) -> Tensor:
        product = 250 * self.tower(torch.randn(4, generator=torch.Generator().manual_seed(step), dtype=torch.float64))
        return (self.logit_scale["pair"] * product + self.logit_bias["pair"]).square().mean()


@pytest.mark.parametrize("scale", [0.04, 10.0, -0.5])
def test_a_scale_takes_the_steps_that_adam_takes_on_its_logarithm(scale: float) -> None:
    """Naive: the logarithm is the parameter, and every group has an optimizer of its own."""
    fast, naive = Logits(scale), Logits(scale)
    optimizer = make_optimizer(fast, OPTIM)
    logarithm = torch.tensor([abs(scale)], dtype=torch.float64).log().requires_grad_()
    rates = {"tower": 1.0, "log": 1.0, "bias": BIAS_RATE}
    groups = {"tower": [*naive.tower.parameters()], "log": [logarithm], "bias": [*naive.logit_bias.parameters()]}
    decays = {id(naive.tower.weight): OPTIM.weight_decay}
    adams = [
        (rates[name], torch.optim.AdamW([p], betas=OPTIM.betas, weight_decay=decays.get(id(p), 0.0)))
        for name, parameters in groups.items()
        for p in parameters
    ]
    for step in range(20):
        optimizer.zero_grad()
        fast.loss(step).backward()
        take_step(optimizer, 1e-2 / (1 + step), clip_norm=0.5)
        for _, adam in adams:
            adam.zero_grad()
        del naive.logit_scale["pair"]
        naive.logit_scale["pair"] = nn.Parameter(torch.sign(torch.tensor([scale])).double() * logarithm.detach().exp())
        naive.loss(step).backward()
        logarithm.grad = naive.logit_scale["pair"].grad * naive.logit_scale["pair"].detach()
        nn.utils.clip_grad_norm_(groups["tower"], 0.5)
        nn.utils.clip_grad_norm_([*groups["log"], *groups["bias"]], 0.5)
        for rate, adam in adams:
            adam.param_groups[0]["lr"] = rate * 1e-2 / (1 + step)
            adam.step()
    expected = torch.sign(torch.tensor(scale)) * logarithm.detach().exp()
    assert fast.logit_scale["pair"].item() != scale
    torch.testing.assert_close(fast.logit_scale["pair"].detach(), expected, rtol=1e-12, atol=0, check_dtype=False)
    torch.testing.assert_close(fast.logit_bias["pair"], naive.logit_bias["pair"], rtol=1e-12, atol=0)
    torch.testing.assert_close(fast.tower.weight, naive.tower.weight, rtol=1e-12, atol=1e-15)


def test_however_steep_the_scale_the_rest_is_clipped_as_if_it_stood_alone() -> None:
    module = Logits(0.04)
    optimizer = make_optimizer(module, OPTIM)
    module.loss(0).backward()
    module.logit_scale["pair"].grad.fill_(1e9)
    alone = torch.stack([parameter.grad.norm() for parameter in module.tower.parameters()]).norm()
    gradient = module.tower.weight.grad.clone()
    assert take_step(optimizer, 1e-3, clip_norm=0.5).item() == pytest.approx(alone.item(), rel=1e-12)
    torch.testing.assert_close(module.tower.weight.grad, gradient * 0.5 / alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("broken", ["tower.weight", "logit_scale.pair", "logit_bias.pair"])
def test_a_gradient_that_is_not_finite_takes_no_step_and_shows_in_the_norm(broken: str) -> None:
    module = Logits(0.04)
    optimizer = make_optimizer(module, OPTIM)
    module.loss(0).backward()
    dict(module.named_parameters())[broken].grad.fill_(torch.nan)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert not torch.isfinite(take_step(optimizer, 1e-3, clip_norm=0.5))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_scale_without_a_gradient_stays_to_the_bit() -> None:
    module = Logits(0.3)
    optimizer = make_optimizer(module, OPTIM)
    module.tower.weight.sum().backward()
    take_step(optimizer, 1e-3, clip_norm=0.5)
    assert (module.logit_scale["pair"].item(), module.logit_bias["pair"].item()) == (0.3, -10.0)


def test_every_scale_and_bias_of_both_kinds_of_model_is_found_and_none_decays() -> None:
    whole = model(0)
    for module, expected in ((whole, 10), (FrameModule(PEAFrame.from_peav(whole), clip=True), 1)):
        groups = {group["kind"]: group for group in make_optimizer(module, OPTIM).param_groups}
        clips = int(isinstance(module, FrameModule))  # frame training has a scale for whole clips too
        assert len(groups["logit_scale"]["params"]) == expected + clips
        assert len(groups["logit_bias"]["params"]) == expected
        assert {kind for kind, group in groups.items() if group["weight_decay"]} == {"matrices"}
        assert groups["logit_bias"]["rate"] == BIAS_RATE
