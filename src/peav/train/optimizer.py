"""AdamW with the scales and biases of logits in groups of their own.

A logit is `scale * (x . y) + bias`. Embeddings are not normalized, so a scale may be .04 and a bias -10: at one rate
for both, a step would move the scale by 4 % and the bias hardly at all, and the towers would do the bias's work. So

- a step moves a scale's *logarithm*, as in CLIP and SigLIP, though models and checkpoints hold the scale itself;
- a bias has `BIAS_RATE` times the rate;
- neither decays, and their gradients are clipped apart from all others, which they would outweigh.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from peav.distributed import full
from peav.train.recipe import Optim

# A step at the rate r changes the weights of a tower of width D by about r sqrt(D) of themselves, and so logits of +-10
# by a few hundred r. A bias at r is left behind by what towers do to all logits at once; at 50 r it keeps up.
BIAS_RATE = 50.0
_LOGITS = {"logit_scale": 1.0, "logit_bias": BIAS_RATE}  # a name in the path of a parameter: its group's rate


def make_optimizer(module: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW over what trains in `module`, to be moved by `take_step` alone.

    Matrices decay; vectors (norms, biases) and embeddings' tables of one row do not. Parameters with `logit_scale` or
    `logit_bias` in their names are scales and biases.
    """
    groups: dict[str, list[Tensor]] = {name: [] for name in ("matrices", "vectors", *_LOGITS)}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            own = next((part for part in name.split(".") if part in _LOGITS), None)
            groups[own or ("matrices" if _is_matrix(parameter) else "vectors")].append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "kind": kind,
            "rate": _LOGITS.get(kind, 1.0),
            "weight_decay": optim.weight_decay if kind == "matrices" else 0.0,
        }
        for kind, parameters in groups.items()
        if parameters
    ]
    # On a CPU it would round otherwise than runs that are there did, and gain little.
    fused = next(module.parameters()).device.type == "cuda"
    return torch.optim.AdamW(settings, lr=optim.lr, betas=optim.betas, fused=fused or None)


def take_step(optimizer: torch.optim.Optimizer, rate: float, clip_norm: float) -> Tensor:
    """Clip the gradients and take a step at the learning rate `rate`.

    Returns:
        The norm of the gradient before it was clipped, a scalar, scales and biases left out. Where it, or theirs, is
        not finite, the result is not either and no step is taken.
    """
    scales = [scale for scale in _of(optimizer, "logit_scale") if scale.grad is not None]
    for scale in scales:
        assert scale.grad is not None
        scale.grad.mul_(scale.detach())  # the gradient of the logarithm
    norm = full(nn.utils.clip_grad_norm_(_of(optimizer, "matrices", "vectors"), clip_norm))
    logits = full(nn.utils.clip_grad_norm_(_of(optimizer, *_LOGITS), clip_norm))
    if not torch.isfinite(logits):
        return logits
    if torch.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        with _by_logarithm(scales):
            optimizer.step()
    return norm


def _of(optimizer: torch.optim.Optimizer, *kinds: str) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups if group["kind"] in kinds for parameter in group["params"]]


@contextmanager
def _by_logarithm(scales: Sequence[Tensor]) -> Iterator[None]:
    """A step within the block moves logarithms: each scale stands at the zero of its own, multiplied out at the end."""
    with torch.no_grad():
        before = [scale.clone() for scale in scales]
        for scale in scales:
            # AdamW's step does not depend on where a parameter stands if nothing decays: from 0 it is the logarithm's.
            scale.zero_()
        yield
        for scale, start in zip(scales, before, strict=True):
            scale.exp_().mul_(start)


def _is_matrix(parameter: Tensor) -> bool:
    return sum(size > 1 for size in parameter.shape) >= 2
