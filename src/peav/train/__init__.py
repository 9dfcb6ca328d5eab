"""Training: recipes, the codec's distillation, the loop and its checkpoints."""

from __future__ import annotations

from peav.train.errors import TrainingError
from peav.train.plan import Plan, plan
from peav.train.reading import RecipeError
from peav.train.recipe import Recipe, read_recipe
from peav.train.run import train
from peav.train.trainer import Trainer

__all__ = ["Plan", "Recipe", "RecipeError", "Trainer", "TrainingError", "plan", "read_recipe", "train"]
