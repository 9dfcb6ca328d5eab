"""`peav embed`: files and folders into a library."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peav.cli.console import (
    BatchSize,
    CacheDir,
    Device,
    Dtype,
    Json,
    Model,
    Revision,
    Window,
    fail,
    load,
    one_line_warnings,
    out,
    print_json,
    shown,
)

if TYPE_CHECKING:
    from peav.encoder import Encoder
    from peav.media import MediaError
    from peav.search import FailureLog, LibraryWriter, Version


def embed(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched for media.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The library, a Parquet file.")],
    model: Model = "tiny",
    device: Device = None,
    revision: Revision = None,
    dtype: Dtype = None,
    cache_dir: CacheDir = None,
    window: Window = 30.0,
    batch_size: BatchSize = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Embed at most so many files.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Skip files that were embedded or failed before, unchanged; else start anew.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Embed files and folders into a library: a row for every window of every file.

    A window with sound and pictures gets all three embeddings (audio, video, audio_video), so that any query works.
    Bad files are listed in failures.jsonl beside the library and the run goes on. A killed run goes on where it was
    when the same command runs again; files that failed are tried again when they have changed, or with --no-resume. A
    library has one model and one length of windows, and one process at a time adds to it.
    Exit code: 0, or 1 if every single file failed.
    """
    from peav.search import FailureLog, LibraryWriter, version_of

    began = time.monotonic()
    files = _files(paths)
    encoder = load(model, device, revision, dtype, cache_dir)
    with (
        LibraryWriter(output, encoder.output_dim, encoder.model_id, encoder.name, window, resume) as library,
        one_line_warnings(),
    ):
        failures = FailureLog(output.with_name("failures.jsonl"), output.name)
        # Versions are taken before decoding: a file that changes meanwhile is embedded again by the next run.
        versions = {file: version_of(file) for file in files}
        new = {file: version for file, version in versions.items() if not (resume and library.has(*version))}
        todo = {file: version for file, version in new.items() if not (resume and failures.has(*version))}
        summary = _embed_all(encoder, library, dict(islice(todo.items(), limit)), window, batch_size, failures)
        summary |= {"skipped": len(files) - len(new), "failed_before": len(new) - len(todo)}
        summary |= {"library": str(output), "library_rows": library.finish(), "model": encoder.name}
    summary["seconds"] = round(time.monotonic() - began, 2)
    if as_json:
        print_json(summary)
    else:
        _report(summary, output)
    if (summary["failed"] or summary["failed_before"]) and not summary["embedded"] and not summary["skipped"]:
        raise typer.Exit(1)


def _files(paths: Sequence[Path]) -> list[Path]:
    """What to embed; a path that is not there is kept, to be listed as a failure beside the good ones."""
    from peav.media import find_media

    present = [path for path in paths if path.exists()]
    files = [*find_media(present or paths), *(path for path in paths if path not in present)]
    if not files:
        fail(f"no media files in {', '.join(map(str, paths))}")
    return list(dict.fromkeys(path.absolute() for path in files))


def _unwritable(file: Path) -> MediaError | None:
    """Parquet holds UTF-8 alone, but a file's name may be any bytes."""
    from peav.media import UnsupportedInputError

    try:
        str(file).encode()
    except UnicodeEncodeError:
        return UnsupportedInputError(f"{file}: a name that is not UTF-8 cannot stand in a library; rename the file")
    return None


def _embed_all(
    encoder: Encoder,
    library: LibraryWriter,
    versions: dict[Path, Version],
    window: float,
    batch_size: int,
    failures: FailureLog,
) -> dict[str, Any]:
    """Embed the files, one by one into the library or into the list of failures; returns the counts."""
    from peav.encoder import SPACES, WindowEmbedding
    from peav.inference.sources import Unreadable
    from peav.search import Row

    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    hours = 0.0
    files = list(versions)
    results = encoder.stream(files, SPACES, window=window, batch_size=batch_size, show_progress=True)
    for _, items in groupby(results, key=lambda result: result.index):
        group = list(items)
        last = group[-1]
        file = files[last.index]
        error = last.error if isinstance(last, Unreadable) else _unwritable(file)
        if error is not None:
            reasons[type(error).__name__] += 1
            failures.add(versions[file], error)
            continue
        path, size, mtime = versions[file]
        done = [item for item in group if isinstance(item, WindowEmbedding)]
        library.add([Row(path, w.modality, w.start, w.end, w.duration, size, mtime, w.embeddings) for w in done])
        counts["embedded"] += 1
        counts["windows"] += len(done)
        hours += done[-1].duration / 3600
    return {
        "embedded": counts["embedded"],
        "windows": counts["windows"],
        "hours": round(hours, 4),
        "failed": reasons.total(),
        "failures": dict(reasons),
    }


def _report(summary: dict[str, Any], output: Path) -> None:
    minutes = summary["hours"] * 60
    listed = shown(output.with_name("failures.jsonl"))
    out.print(
        f"[bold]{summary['embedded']}[/] files embedded ({summary['windows']} windows, {minutes:.1f} min of media) "
        f"in {summary['seconds']:.1f} s; {summary['skipped']} were there already"
    )
    if summary["failed"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary["failures"].items())
        out.print(f"[yellow]{summary['failed']} failed[/] ({kinds}): see {listed}")
    if summary["failed_before"]:
        out.print(
            f"[yellow]{summary['failed_before']} failed before[/] and have not changed: see {listed}; "
            "take their lines out to try them again"
        )
    out.print(f"{shown(output)}: {summary['library_rows']} rows by {summary['model']}")
