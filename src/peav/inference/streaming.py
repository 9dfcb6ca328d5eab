"""Recordings of any length through a tower that sees all its frames at once: windows at fixed places, cross-faded.

The one way in which frames are scored, live or from a file: whoever pushes the samples, and in whatever blocks, the
codec and the tower see the same windows of them, so that the scores are the same bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peav.media import pad_to_hop
from peav.types import FRAME


@dataclass(frozen=True)
class Windowing:
    """Where the tower's windows lie, in seconds, rounded to frames of 40 ms.

    Window i settles the frames from `i * step` to `(i + 1) * step` and sees `past` seconds before and `ahead` seconds
    after them. Its scores of the frames ahead fade out, linearly, into those of window i + 1. The last window ends with
    the recording and is as long as the others, where the recording is; a recording of up to `step + ahead` seconds is
    one window. Every place follows from the recording alone.

    The tower attends to all of its window, so that a score depends on what else the window holds, and other windows
    give other scores; docs/results.md says how far. A longer `ahead` fades over more, which costs time and evens
    that out.

    Raises:
        ValueError: no step, or more ahead than a step.
    """

    past: float = 10.0
    step: float = 10.0
    ahead: float = 10.0

    def __post_init__(self) -> None:
        if not all(0 <= value < math.inf for value in (self.past, self.step, self.ahead)) or self.steps[1] < 1:
            raise ValueError(f"{self}: give seconds, and a step of at least {FRAME} s")
        if self.ahead > self.step:
            raise ValueError(f"{self}: more than one window ahead; give ahead of at most {self.step} s")

    @property
    def steps(self) -> tuple[int, int, int]:
        """`past`, `step` and `ahead` in frames."""
        return round(self.past / FRAME), round(self.step / FRAME), round(self.ahead / FRAME)


RECORDED = Windowing()
LIVE = Windowing(past=8.0, step=1.0, ahead=1.0)


class LatentBlocks:
    """Samples in, codec latents out, in blocks that end where windows do.

    Args:
        encode: (S,) float32, whole hops -> (S / hop, C).
        hop: samples a latent step.
        halo: steps of context to either side that make a block's latents those of the whole recording.
        first, step: latent steps in the first block and in every other one.
    """

    def __init__(self, encode: Callable[[np.ndarray], Tensor], hop: int, halo: int, first: int, step: int) -> None:
        self.encode, self.hop, self.halo, self.step = encode, hop, halo, step
        self.stop = first  # where the next block ends, in steps
        self.done = 0  # steps given out
        self.begin = 0  # place of the first sample that is held
        self.end = 0  # place after the last one
        self.parts: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> list[Tensor]:
        """Samples (S,) of any number; returns the blocks that they complete."""
        self.parts.append(samples)
        self.end += len(samples)
        blocks = []
        while self.end >= (self.stop + self.halo) * self.hop:
            blocks.append(self._block(self.stop))
            self.stop += self.step
        return blocks

    def finish(self) -> list[Tensor]:
        """The latents of what is left, the recording's end mirrored to a whole hop."""
        steps = -(-self.end // self.hop)
        if steps == self.done:
            return []
        return [self._block(steps)]

    def _block(self, stop: int) -> Tensor:
        """Latents from `done` to `stop`."""
        held = np.concatenate(self.parts)
        samples = held[: (stop + self.halo) * self.hop - self.begin]
        first = self.begin // self.hop
        block = self.encode(pad_to_hop(samples, self.hop))[self.done - first : stop - first]
        self.done = stop
        begin = max(stop - self.halo, 0) * self.hop
        self.parts = [held[begin - self.begin :].copy()]
        self.begin = begin
        return block


class Stitcher:
    """Latents in, scores of settled frames out.

    Args:
        score: latents (T, C) -> (labels, T) probabilities.
        windowing: where windows lie.
        labels: how many there are.
    """

    def __init__(self, score: Callable[[Tensor], Tensor], windowing: Windowing, labels: int) -> None:
        self.score = score
        self.past, self.step, self.ahead = windowing.steps
        self.start = 0  # of the frames that the next window settles
        self.begin = 0  # of the latents that are held
        self.latents: Tensor | None = None
        self.tail = torch.zeros(labels, 0)  # the last window's scores of the frames ahead of it

    @property
    def end(self) -> int:
        """The frame after the last one that has come."""
        return self.begin + (0 if self.latents is None else len(self.latents))

    def push(self, latents: Tensor) -> list[Tensor]:
        """The next latents (T, C); returns the scores (labels, step) of every window that they complete."""
        self.latents = latents if self.latents is None else torch.cat([self.latents, latents])
        settled = []
        while self.end >= (stop := self.start + self.step + self.ahead):
            scores = self._window(max(self.start - self.past, 0), stop)
            settled.append(scores[:, : self.step])
            self.tail = scores[:, self.step :]
            self.start += self.step
            # The last window reaches back from the recording's end by the length of a whole one.
            keep = max(self.start - self.past - self.step, self.begin)
            self.latents, self.begin = self.latents[keep - self.begin :].clone(), keep
        return settled

    def finish(self) -> Tensor:
        """The scores (labels, T) of the frames that are left."""
        if self.end == self.start + self.tail.shape[1]:
            return self.tail
        return self._window(max(self.end - self.past - self.step - self.ahead, 0), self.end)

    def _window(self, first: int, stop: int) -> Tensor:
        """Scores of the frames from `start` to `stop`, seen from `first` on; the tail fades into them."""
        assert self.latents is not None
        scores = self.score(self.latents[first - self.begin : stop - self.begin])[:, self.start - first :]
        faded = self.tail.shape[1]
        if faded:
            weight = torch.arange(1, faded + 1, device=scores.device) / (faded + 1)
            blend = weight * scores[:, :faded] + (1 - weight) * self.tail
            scores = torch.cat([blend, scores[:, faded:]], dim=1)
        return scores
