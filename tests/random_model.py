"""A random small model for tests that need real files and real towers, but nothing that was learned."""

from __future__ import annotations

import numpy as np
import torch

from peav.encoder import Encoder
from peav.inference.tokenizer import train_tokenizer
from peav.model import PEAV
from peav.model.config import preset


def random_encoder(seed: int = 0) -> Encoder:
    """The preset `nano` with random weights."""
    torch.manual_seed(seed)
    model = PEAV(preset("nano"))
    words = ["a dog barking loudly in the yard", "rain falls on a tin roof", "a red car drives past a green house"]
    return Encoder(model, train_tokenizer(words, 320), "random")


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-5) -> bool:
    """Whether two arrays are equal to a tolerance relative to the largest value."""
    return bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())
