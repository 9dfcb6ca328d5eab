"""The short lessons of parts of a model, before the first step: one loop for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn


def teach(
    parameters: Sequence[Tensor],
    loss_of: Callable[[int], Tensor],
    steps: int,
    lr: float,
    *,
    warmup: int,
    weight_decay: float = 0.0,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Minimize the loss of each step, counted from 0: linear warm-up, then a cosine; returns the mean of the last
    tenth.
    """
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    losses = []
    for step in range(steps):
        rate = min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 0.01
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        progress(step + 1, losses[-1])
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))
