"""Lips: the frames of a talking face learn which word is being said, from themselves and their neighbors.

A mouth is a few pixels of a small picture, and neither captions nor a contrastive loss on a few hundred clips ask for
them. Where a manifest knows the times of the words, a cross-entropy on every frame does, as `lab.words` does for
sound. The head is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peav.data.manifest import Row
from peav.errors import RecipeError
from peav.lab.words import UNLABELED, spoken_vocabulary, words_at
from peav.media import Frames, load_frames

CLIPS, STRETCH = 6, 20  # clips of each step, frames of each
SLOWEST = 3  # every third frame at most is looked at, or every second, or every one: frame rates differ
SHIFT = 3  # pixels
SILENT = 0.5  # seconds after the last word
KEPT = 10**9  # bytes of frames that stay in memory, about, were clips a hundred frames long
WIDTH, REACH = 192, 5  # of the head: channels, and frames that each of its two convolutions sees


class Lips(nn.Module):
    """Learns to read the lips of `rows`, clips with pictures of `size` pixels and timed words.

    Raises:
        RecipeError: no row has both.
    """

    def __init__(self, rows: Sequence[Row], size: int, features: int) -> None:
        super().__init__()
        self.rows = [row for row in rows if row.video_path is not None and row.words]
        if not self.rows:
            raise RecipeError("lips: no clip of the source has pictures and timed words; leave it out")
        self.vocabulary = spoken_vocabulary(self.rows)
        self.norm = nn.LayerNorm(features)
        self.near = nn.Conv1d(features, WIDTH, REACH, padding=REACH // 2)
        self.far = nn.Conv1d(WIDTH, WIDTH, REACH, padding=REACH // 2)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(WIDTH, len(self.vocabulary) + 1)
        self._size = size
        self._load = lru_cache(max(CLIPS, KEPT // (100 * 3 * size**2)))(self._frames)

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Stretches of random clips, shifted, mirrored and relit.

        Returns:
            Frames (CLIPS, STRETCH, size, size, 3) uint8 and their words (CLIPS, STRETCH) int64.

        Raises:
            MediaError: a clip that cannot be read.
        """
        drawn = [self._stretch(int(rng.integers(len(self.rows))), rng) for _ in range(CLIPS)]
        pixels, labels = (np.stack(each) for each in zip(*drawn, strict=True))
        return torch.from_numpy(pixels), torch.from_numpy(labels)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of frames whose features are (CLIPS, STRETCH, D); `labels` as `draw` gives them."""
        states = self.norm(features)  # (CLIPS, STRETCH, D)
        states = (states - states.mean(1, keepdim=True)).transpose(1, 2)  # what stays the same is the face, not speech
        near = F.gelu(self.near(states))  # (CLIPS, WIDTH, STRETCH)
        far = F.gelu(self.far(self.drop(near)) + near)
        logits = self.head(self.drop(far).transpose(1, 2))  # (CLIPS, STRETCH, words + 1)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNLABELED)

    def _frames(self, place: int) -> Frames:
        row = self.rows[place]
        assert row.video_path is not None
        start = row.start or 0.0
        end = start + row.words[-1].end + SILENT
        return load_frames(
            row.video_path, start=start, end=end if row.end is None else min(end, row.end), size=self._size
        )

    def _stretch(self, place: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        row, clip = self.rows[place], self._load(place)
        every = int(rng.integers(1, SLOWEST + 1))
        first = int(rng.integers(max(1, len(clip.pixels) - (STRETCH - 1) * every)))
        chosen = np.minimum(first + every * np.arange(STRETCH), len(clip.pixels) - 1)
        return _altered(clip.pixels[chosen], rng), words_at(
            row.words, clip.times[chosen] - (row.start or 0.0), self.vocabulary
        )


def _altered(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    down, right = rng.integers(-SHIFT, SHIFT + 1, 2)
    pixels = np.roll(pixels, (down, right), (1, 2))
    if rng.random() < 0.5:
        pixels = pixels[:, :, ::-1]
    contrast, light = rng.uniform(0.85, 1.15), rng.uniform(-12, 12)
    return (pixels * contrast + light).clip(0, 255).astype(np.uint8)
