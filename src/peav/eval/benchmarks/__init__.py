"""The benchmarks of `peav eval`: what one is, and their names.

A benchmark is a subclass of `Benchmark` in a file of its own, with a line in `BENCHMARKS`; outside the package it is
named as `peav eval MODEL --bench path/to/file.py:Class=PATH`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peav.eval.embedder import Embedder
from peav.eval.tables import Table

BENCHMARKS = {
    "manifest": "peav.eval.benchmarks.manifest:Manifest",
    "sounds": "peav.eval.benchmarks.sounds:Sounds",
    "grid": "peav.eval.benchmarks.grid:Grid",
}


@dataclass
class Benchmark:
    """Figures of a model on the clips at `path`; other options have defaults."""

    path: Path

    def run(self, embedder: Embedder) -> list[Table]:
        """Measure a model.

        Args:
            embedder: gives the embeddings of clips and texts; clips that cannot be read are left out of all figures.
        """
        raise NotImplementedError
