"""Sentences of the GRID corpus, see `eval.grid`."""

from __future__ import annotations

from dataclasses import dataclass

from peav.data.recordings import read_recordings
from peav.errors import EvaluationError
from peav.eval.benchmarks import Benchmark
from peav.eval.embedder import Embedder
from peav.eval.grid import CANDIDATES, retrievals, sentence_table
from peav.eval.tables import Table, retrieval_table
from peav.utils.text import counted


@dataclass
class Grid(Benchmark):
    """Retrieval of sentences, clips against clips and, with `sentences`, against all 64 000 of the grammar.

    `split`: `test` or `train` of `read_recordings`; None: all clips, for a model that was trained on none.
    """

    split: str | None = "test"
    candidates: int = CANDIDATES
    seed: int = 0
    sentences: bool = False

    def run(self, embedder: Embedder) -> list[Table]:
        """One table, or two.

        Raises:
            EvaluationError: fewer than two clips. ManifestError.
        """
        rows = read_recordings(self.path, self.split)
        results = retrievals(embedder, rows, self.candidates, self.seed)
        if not results:
            raise EvaluationError(
                f"{self.path}: no direction has two rows in the split {self.split!r} ({counted(len(rows), 'row')})"
            )
        title = f"{self.path.name}: sentences (%), split {self.split or 'all'}"
        whole = [sentence_table(embedder, self.path, self.split)] if self.sentences else []
        return [retrieval_table(title, results), *whole]
