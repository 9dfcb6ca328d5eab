"""Training: recipes, the codec's distillation, the loop and its checkpoints."""

from __future__ import annotations

from peav.train.recipe import Recipe, RecipeError, read_recipe
from peav.train.run import train
from peav.train.trainer import Trainer, TrainingError

__all__ = ["Recipe", "RecipeError", "Trainer", "TrainingError", "read_recipe", "train"]
