"""The world as a recipe's source."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

from peav.data.manifest import Row, read_manifest
from peav.data.places import Place, PlaceContext
from peav.synth.world.write import generate


@dataclass(frozen=True)
class World(Place):
    """So many clips of each split of the procedural world, made under `folder` where they are not there yet."""

    folder: str
    train: int
    validation: int
    test: int
    seed: int = 0

    def rows(self, context: PlaceContext) -> list[Row]:
        """The first clips of each split: the folder may hold more, of a run that asked for more."""
        counts = {"train": self.train, "validation": self.validation, "test": self.test}
        context.stage("world", sum(counts.values()))
        folder, numbers = Path(self.folder), count(1)

        def progress(_done: int) -> None:
            context.advance(next(numbers))  # of all splits

        for split, clips in counts.items():
            manifest = generate(folder, clips, self.seed, splits=(split,), jobs=context.workers, progress=progress)
        rows = read_manifest(manifest)
        return [row for split, clips in counts.items() for row in [r for r in rows if r.split == split][:clips]]
