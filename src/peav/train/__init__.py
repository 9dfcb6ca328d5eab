"""Training: recipes, the codec's distillation, the loop and its checkpoints."""

from __future__ import annotations

from peav.errors import RecipeError, TrainingError
from peav.train.curves import write_curves
from peav.train.media_cost import Media
from peav.train.plan import Cluster, Plan, plan
from peav.train.recipe import Recipe, read_recipe
from peav.train.run import train
from peav.train.trainer import Trainer

__all__ = [
    "Cluster",
    "Media",
    "Plan",
    "Recipe",
    "RecipeError",
    "Trainer",
    "TrainingError",
    "plan",
    "read_recipe",
    "train",
    "write_curves",
]
