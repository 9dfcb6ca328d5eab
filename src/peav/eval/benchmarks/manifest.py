"""Retrieval on the clips of any manifest, or of WebDataset tars."""

from __future__ import annotations

from dataclasses import dataclass

from peav.data.places import read_clips
from peav.errors import EvaluationError
from peav.eval.benchmarks import Benchmark
from peav.eval.directions import CAPTIONED
from peav.eval.embedder import Embedder
from peav.eval.protocols import retrieval
from peav.eval.tables import Table, retrieval_table
from peav.utils.text import counted


@dataclass
class Manifest(Benchmark):
    """Retrieval in seven directions among one split of a manifest; `seed` decides which clips the `candidates` are.

    Rows without a split belong to `train`, as in training; a manifest in which no row has one is measured whole.
    """

    split: str = "test"
    candidates: int = 256
    seed: int = 0

    def run(self, embedder: Embedder) -> list[Table]:
        """One table.

        Raises:
            EvaluationError: the split has fewer than two rows that any direction can use. ManifestError.
        """
        clips = read_clips(str(self.path))
        split = "all" if all(row.split is None for row in clips) else self.split
        rows = [row for row in clips if split in ("all", row.split or "train")]
        results = retrieval(embedder, rows, CAPTIONED, self.candidates, self.seed)
        if not results:
            there = ", ".join(sorted({row.split or "train" for row in clips}))
            raise EvaluationError(
                f"{self.path}: no direction has two rows in the split {split!r} ({counted(len(rows), 'row')}); "
                f"its splits are {there}"
            )
        name = self.path.absolute().parent.name if self.path.stem == "manifest" else self.path.name
        return [retrieval_table(f"{name}: retrieval (%), split {split}", results)]
