"""Files into a library: decoded in worker processes, embedded, kept, and gone on with after any end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peav.errors import MediaError
from peav.inference.batching import Embedded, embed_stream, spaces_of
from peav.inference.isolation import IsolatedReader
from peav.inference.sources import Finished
from peav.jobs import Ledger, Plan, Version, plan, stoppable
from peav.media.find import media_files, unwritable
from peav.search.library import LibraryRow, LibraryWriter
from peav.types import DecodeFailure
from peav.utils.progress import by_index

if TYPE_CHECKING:
    from peav.encoder import Encoder


def embed_files(
    encoder: Encoder,
    paths: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    window: float = 30.0,
    batch_size: int = 8,
    limit: int | None = None,
    resume: bool = True,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Embed files and folders into a library: a row for every window of every file.

    A file that cannot be decoded, also one that crashes its decoder, is listed in `failures.jsonl` beside the library
    and costs itself alone. Whatever ends the process, what was embedded up to a few seconds before is kept, windows of
    an unfinished file too, and the same call goes on from there.

    Args:
        paths: folders are searched for media.
        output: the library.
        window: seconds of a window.
        batch_size: windows per forward pass.
        limit: embed at most so many files.
        resume: skip files that were embedded or failed before, unchanged; else start anew.

    Returns:
        Counts: `embedded`, `windows`, `hours`, `failed`, `failures` (by type), `skipped`, `failed_before`,
        `library_rows`.

    Raises:
        LibraryError: another process writes to the library, or another model or length of windows made it.
        MissingFileError: none of the paths is there. Stopped: Ctrl-C or SIGTERM.
    """
    files, output = list(dict.fromkeys(file.absolute() for file in media_files(paths))), Path(output)
    job = _Job()
    with (
        stoppable(lambda: job.kept(output)),
        LibraryWriter(output, encoder.output_dim, encoder.model_id, encoder.name, window, resume) as library,
    ):
        failures = Ledger(output.with_name("failures.jsonl"), {"library": output.name})
        work = plan(files, lambda file, version: library.has(version), failures, limit=limit, resume=resume)
        job.run(encoder, library, work, window, batch_size, failures, show_progress)
        failures.close()
        counts = job.summary() | {"skipped": work.skipped, "failed_before": work.failed_before}
        return counts | {"library_rows": library.finish()}


class _Job:
    """The work, and what is counted on the way."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.hours = 0.0

    def run(
        self,
        encoder: Encoder,
        library: LibraryWriter,
        work: Plan,
        window: float,
        batch_size: int,
        failures: Ledger,
        show_progress: bool,
    ) -> None:
        """Embed what is to be done, file by file into the library or into the list of failures."""
        files: list[Path] = []
        for file, version in work.todo.items():
            if (error := unwritable(file)) is None:
                files.append(file)
            else:
                self._fail(version, error, failures)
        versions = [work.todo[file] for file in files]
        durations: dict[int, float] = {}
        with IsolatedReader(encoder.reader("any", window), files, done=lambda i: library.starts(versions[i])) as items:
            # Not in order, so that a window is in the library as soon as its batch is done.
            results = embed_stream(encoder.model, items, spaces_of, None, batch_size, in_order=False)
            for result in by_index(results, len(files), show_progress):
                version = versions[result.index]
                if isinstance(result, DecodeFailure):
                    self._fail(version, result.error, failures)
                elif isinstance(result, Finished):
                    library.complete(version)
                    self.counts["embedded"] += 1
                    self.hours += durations.pop(result.index, 0.0) / 3600
                else:
                    library.add(_row(version, result))
                    self.counts["windows"] += 1
                    durations[result.index] = result.clip.duration

    def summary(self) -> dict[str, Any]:
        """The counts."""
        return {
            "embedded": self.counts["embedded"],
            "windows": self.counts["windows"],
            "hours": round(self.hours, 4),
            "failed": self.reasons.total(),
            "failures": dict(self.reasons),
        }

    def kept(self, output: Path) -> str:
        """What to say when the job was stopped."""
        done = f"{self.counts['embedded']} files ({self.counts['windows']} windows)"
        return f"stopped: {done} of this run are kept in {output}.parts; run the same command again, it goes on"

    def _fail(self, version: Version, error: MediaError, failures: Ledger) -> None:
        self.reasons[type(error).__name__] += 1
        failures.fail(version, error)


def _row(version: Version, result: Embedded) -> LibraryRow:
    clip = result.clip
    embeddings = {space: embedding.cpu().numpy() for space, embedding in result.embeddings.items()}
    path, size, mtime = version
    return LibraryRow(path, clip.modality, clip.start, clip.end, clip.duration, size, mtime, embeddings)
