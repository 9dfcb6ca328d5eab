"""Files into a library: decoded in worker processes, embedded, kept, and gone on with after any end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peav.inference.batching import Embedded, embed_stream, spaces_of
from peav.inference.isolation import IsolatedReader
from peav.inference.sources import Finished
from peav.jobs import GOES_ON, Ledger, Version, plan, stoppable
from peav.media.find import media_files, unwritable
from peav.search.library import LibraryRow, LibraryWriter
from peav.types import DecodeFailure
from peav.utils.progress import by_index
from peav.utils.text import counted

if TYPE_CHECKING:
    from peav.encoder import Encoder


def embed_files(
    encoder: Encoder,
    paths: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    window: float | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Embed files and folders into a library: a row for every window of every file.

    A file that cannot be decoded, also one that crashes its decoder, is listed in `failures.jsonl` beside the library
    and costs itself alone. Whatever ends the process, what was embedded up to a few seconds before is kept, windows of
    an unfinished file too, and the same call goes on from there.

    Args:
        paths: folders are searched for media.
        output: the library.
        window: seconds of a window; None: that of the library that is there, 5 for a new one.
        batch_size: windows per forward pass.
        limit: embed at most so many files.
        resume: skip files that were embedded or failed before, unchanged; else start anew.
        retry_failed: try those that failed before again.

    Returns:
        Counts: `embedded`, `windows`, `hours`, `failed`, `failures` (by type), `skipped`, `failed_before`,
        `library_rows`.

    Raises:
        LibraryError: another process writes to the library, or another model or length of windows made it.
        MissingFileError: none of the paths is there. Stopped: Ctrl-C or SIGTERM.
    """
    files, output = list(dict.fromkeys(file.absolute() for file in media_files(paths))), Path(output)
    done = _Done()
    kept = f"of this run are kept in {output}.parts; {GOES_ON}"
    with (
        stoppable(lambda: f"{counted(done.files, 'file')} ({counted(done.windows, 'window')}) {kept}"),
        LibraryWriter(output, encoder.output_dim, encoder.model_id, encoder.name, window, resume) as library,
    ):
        failures = Ledger(output.with_name("failures.jsonl"), {"library": output.name})
        work = plan(
            files,
            lambda file, version: library.has(version),
            failures,
            limit=limit,
            resume=resume,
            retry_failed=retry_failed,
        )
        _embed(encoder, library, work.todo, failures, done, batch_size, show_progress)
        failures.close()
        return {
            "embedded": done.files,
            "windows": done.windows,
            "hours": round(done.seconds / 3600, 4),
            "failed": failures.failed.total(),
            "failures": dict(failures.failed),
            "skipped": work.skipped,
            "failed_before": work.failed_before,
            "library_rows": library.finish(),
        }


@dataclass
class _Done:
    """How many files and windows are embedded, and how many seconds the files last."""

    files: int = 0
    windows: int = 0
    seconds: float = 0.0


def _embed(
    encoder: Encoder,
    library: LibraryWriter,
    todo: Mapping[Path, Version],
    failures: Ledger,
    done: _Done,
    batch_size: int,
    show_progress: bool,
) -> None:
    """Embed files, each into the library or into the list of failures."""
    refused = {file: error for file in todo if (error := unwritable(file)) is not None}
    for file, error in refused.items():
        failures.fail(todo[file], error)
    files = [file for file in todo if file not in refused]
    versions = [todo[file] for file in files]
    durations: dict[int, float] = {}
    reader = encoder.reader("any", library.window)
    with IsolatedReader(reader, files, done=lambda i: library.starts(versions[i])) as items:
        results = embed_stream(encoder.model, items, spaces_of, None, batch_size, library.save)
        for result in by_index(results, len(files), show_progress):
            version = versions[result.index]
            if isinstance(result, DecodeFailure):
                failures.fail(version, result.error)
            elif isinstance(result, Finished):
                library.complete(version)
                done.files += 1
                done.seconds += durations.pop(result.index, 0.0)
            else:
                library.add(_row(version, result))
                done.windows += 1
                durations[result.index] = result.clip.duration


def _row(version: Version, result: Embedded) -> LibraryRow:
    clip = result.clip
    embeddings = {space: embedding.cpu().numpy() for space, embedding in result.embeddings.items()}
    path, size, mtime = version
    return LibraryRow(path, clip.modality, clip.start, clip.end, clip.duration, size, mtime, embeddings)
