"""A ModernBERT of random weights, for recipes that must run where no hub can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from peav.checkpoint import save_text_encoder
from peav.inference.tokenizer import train_tokenizer
from peav.model import TextConfig
from peav.model.peav import initialize
from peav.model.text import TextEncoder
from peav.train.initialize import TextEncoderMaker


@dataclass(frozen=True)
class RandomModernBERT(TextEncoderMaker):
    """So many `layers` of the model's own text encoder, with a tokenizer trained on the run's texts."""

    folder: str
    layers: int = 2
    seed: int = 0

    def make(self, config: TextConfig, texts: Callable[[], Iterable[str]]) -> str:
        """The folder, written where there is no checkpoint in it."""
        if not (Path(self.folder) / "config.json").exists():
            with torch.random.fork_rng(devices=[]):  # what the run draws does not depend on this
                torch.manual_seed(self.seed)
                encoder = TextEncoder(replace(config, num_hidden_layers=self.layers))
                initialize(encoder)
            save_text_encoder(encoder, train_tokenizer(texts(), config.vocab_size), self.folder)
        return self.folder
