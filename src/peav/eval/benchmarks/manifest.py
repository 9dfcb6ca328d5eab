"""Retrieval on the clips of any manifest."""

from __future__ import annotations

from dataclasses import dataclass

from peav.data.manifest import read_manifest
from peav.errors import EvaluationError
from peav.eval.benchmarks import Benchmark
from peav.eval.directions import WORLD
from peav.eval.embedder import Embedder
from peav.eval.protocols import retrieval
from peav.eval.tables import Table, retrieval_table


@dataclass
class Manifest(Benchmark):
    """Retrieval in seven directions among one split of a manifest; `seed` decides which clips the `candidates` are."""

    split: str = "test"
    candidates: int = 256
    seed: int = 0

    def run(self, embedder: Embedder) -> list[Table]:
        """One table.

        Raises:
            EvaluationError: the split has fewer than two rows that any direction can use. ManifestError.
        """
        rows = read_manifest(self.path, self.split)
        results = retrieval(embedder, rows, WORLD, self.candidates, self.seed)
        if not results:
            raise EvaluationError(
                f"{self.path}: no direction has two rows in the split {self.split!r} ({len(rows)} rows)"
            )
        return [retrieval_table(f"{self.path.parent.name}: retrieval (%), split {self.split}", results)]
