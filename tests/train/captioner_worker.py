"""One process of a distributed test: `peav train RECIPE` with transformers made importable as in the other tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # noqa: F401  # what transformers wants of torchvision, and one thread
from training_runs import Silent

from peav.train import read_recipe, train

train(read_recipe(sys.argv[1]), Silent())
