"""`peav embed`: files and folders into a library."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peav.cli.console import (
    BatchSize,
    Device,
    Json,
    Model,
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
    from peav.search import LibraryWriter

Version = tuple[str, int, int]  # path, size in bytes, modification time in nanoseconds


def embed(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched for media.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The library, a Parquet file.")],
    model: Model = "tiny",
    device: Device = None,
    window: Window = 30.0,
    batch_size: BatchSize = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Embed at most so many files.")] = None,
    resume: Annotated[bool, typer.Option(help="Skip files that the library has, unchanged; else start anew.")] = True,
    as_json: Json = False,
) -> None:
    """Embed files and folders into a library: a row for every window of every file.

    A window with sound and pictures gets all three embeddings (audio, video, audio_video), so that any query works.
    Bad files are listed in failures.jsonl beside the library and the run goes on. A killed run goes on where it was
    when the same command runs again. Exit code: 0, or 1 if every single file failed.
    """
    from peav.search import LibraryWriter

    began = time.monotonic()
    files = _files(paths)
    encoder = load(model, device)
    library = LibraryWriter(output, encoder.output_dim, encoder.model_id, encoder.name, resume=resume)
    # Versions are taken before decoding: a file that changes meanwhile is embedded again by the next run.
    versions = {file: _version(file) for file in files}
    todo = [file for file in files if not (resume and library.has(*versions[file]))]
    skipped = len(files) - len(todo)
    with one_line_warnings():
        failures = output.with_name("failures.jsonl")
        chosen = {file: versions[file] for file in todo[:limit]}
        summary = _embed_all(encoder, library, chosen, window, batch_size, failures)
    summary |= {"skipped": skipped, "library": str(output), "library_rows": library.finish(), "model": encoder.name}
    summary["seconds"] = round(time.monotonic() - began, 2)
    if as_json:
        print_json(summary)
    else:
        _report(summary, output)
    if summary["failed"] and not summary["embedded"] and not skipped:
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


def _version(file: Path) -> Version:
    """What tells one version of a file from another."""
    try:
        status = file.stat()
    except OSError:  # decoding will say what is wrong with it
        return str(file), -1, -1
    return str(file), status.st_size, status.st_mtime_ns


def _embed_all(
    encoder: Encoder,
    library: LibraryWriter,
    versions: dict[Path, Version],
    window: float,
    batch_size: int,
    failures: Path,
) -> dict[str, Any]:
    """Embed the files, one by one into the library or into the list of failures; returns the counts."""
    from peav.encoder import SPACES, WindowEmbedding
    from peav.inputs import Unreadable
    from peav.search import Row

    failures.unlink(missing_ok=True)
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
        if isinstance(last, Unreadable) or error:
            reasons[type(error).__name__] += 1
            entry = {"path": str(file), "error": type(error).__name__, "reason": str(error)}
            with failures.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(json.dumps(entry, ensure_ascii=False) + "\n")
            continue
        path, size, mtime = versions[file]
        done = [item for item in group if isinstance(item, WindowEmbedding)]
        library.add([Row(path, w.modality, w.start, w.end, w.duration, size, mtime, w.embeddings) for w in done])
        counts["embedded"] += 1
        counts["windows"] += len(done)
        hours += last.duration / 3600
    return {
        "embedded": counts["embedded"],
        "windows": counts["windows"],
        "hours": round(hours, 4),
        "failed": reasons.total(),
        "failures": dict(reasons),
    }


def _report(summary: dict[str, Any], output: Path) -> None:
    minutes = summary["hours"] * 60
    out.print(
        f"[bold]{summary['embedded']}[/] files embedded ({summary['windows']} windows, {minutes:.1f} min of media) "
        f"in {summary['seconds']:.1f} s; {summary['skipped']} were there already"
    )
    if summary["failed"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary["failures"].items())
        out.print(f"[yellow]{summary['failed']} failed[/] ({kinds}): see {shown(output.with_name('failures.jsonl'))}")
    out.print(f"{shown(output)}: {summary['library_rows']} rows by {summary['model']}")
