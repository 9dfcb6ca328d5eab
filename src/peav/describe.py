"""Captions of many files: a job that may stop at any moment, and what it wrote, for pages that show it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from peav.captioner import WINDOW, Captioner, WindowCaption
from peav.checkpoint.identity import weights_sha256
from peav.errors import CaptionsError, MediaError
from peav.jobs import GOES_ON, Ledger, plan, stoppable, version_of
from peav.media.find import media_files
from peav.types import DecodeFailure, TimedCaption
from peav.utils.checks import shown, span, string
from peav.utils.jsonl import read_lines
from peav.utils.lock import FolderLock
from peav.utils.progress import bar
from peav.utils.terminal import visible
from peav.utils.text import counted

CAPTIONS = "captions.jsonl"
"""The file that has the captions of each file, in a folder of results."""


@dataclass(frozen=True)
class FileCaptions:
    """What is said of one file, window by window; `error`: why there is no more of it."""

    path: Path
    windows: tuple[WindowCaption, ...] = ()
    error: MediaError | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `path` and `windows`, each with `start`, `end` and `text`; `error` where there is one."""
        windows = [{"start": one.start, "end": one.end, "text": one.text} for one in self.windows]
        said: dict[str, Any] = {"path": str(self.path), "windows": windows}
        return said if self.error is None else said | {"error": str(self.error)}


@dataclass(frozen=True)
class DescribeRun:
    """What became of the files, and how many were left out: done before, or failed before."""

    files: list[FileCaptions]
    skipped: int = 0
    failed_before: int = 0

    def summary(self) -> dict[str, Any]:
        """Counts: `described`, `windows`, `failed`, `failures` (by type), `skipped`, `failed_before`."""
        errors = [one.error for one in self.files if one.error is not None]
        return {
            "described": len(self.files) - len(errors),
            "windows": sum(len(one.windows) for one in self.files if one.error is None),
            "failed": len(errors),
            "failures": dict(Counter(type(error).__name__ for error in errors)),
            "skipped": self.skipped,
            "failed_before": self.failed_before,
        }


def describe_files(
    captioner: Captioner,
    paths: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    prompt: str = "caption",
    window: float = WINDOW,
    batch_size: int = 8,
    limit: int | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    show_progress: bool = False,
) -> DescribeRun:
    """Describe files and folders, window by window.

    A file that cannot be decoded, also one that crashes its decoder, costs itself alone. With `output`, that folder
    gets `captions.jsonl`, a line for each file, and `failures.jsonl`. Whatever ends the process, the same call goes on
    from there; files in hand, up to `batch_size` windows of them, are described again. Into a folder of another prompt,
    window or model it starts anew.

    Args:
        paths: folders are searched for media.
        output: a folder for results; None: they are returned alone.
        prompt, window, batch_size: as of `Captioner.stream`.
        limit: describe at most so many files.
        resume: with `output`, skip files that were done or failed before, unchanged; else start anew.
        retry_failed: try those that failed before again.

    Raises:
        ValueError: as `Captioner.stream`.
        CaptionsError: another process writes to the folder.
        MissingFileError: none of the paths is there. Stopped: Ctrl-C or SIGTERM.
    """
    captioner.check(prompt, window, batch_size)  # before anything that a folder holds is given up
    files = list(dict.fromkeys(file.absolute() for file in media_files(paths)))

    def described(todo: Sequence[Path]) -> Iterator[FileCaptions]:
        stream = captioner.stream(todo, prompt, window=window, batch_size=batch_size, isolate=True)
        with bar(show_progress) as progress:
            task = progress.add_task("describing", total=len(todo))
            for index, own in groupby(stream, key=lambda one: one.index):
                parts = list(own)
                windows = tuple(one for one in parts if isinstance(one, WindowCaption))
                error = next((one.error for one in parts if isinstance(one, DecodeFailure)), None)
                progress.update(task, completed=index + 1)
                yield FileCaptions(todo[index], windows, error)

    if output is None:
        return DescribeRun(list(described(files[:limit])))
    folder, found = Path(output), list[FileCaptions]()
    held = f"{folder}: another process is writing to it; wait for its end, or give another folder"
    kept = f"of this run are done; {GOES_ON}"
    with stoppable(lambda: f"{counted(len(found), 'file')} {kept}"), FolderLock(folder, CaptionsError(held)):
        mark = {"settings": _digest(captioner, prompt, window)}
        done = Ledger(folder / CAPTIONS, mark, alone=True, resume=resume)
        failures = Ledger(folder / "failures.jsonl", {"library": CAPTIONS})
        work = plan(
            files, lambda _, version: done.has(version), failures, limit=limit, resume=resume, retry_failed=retry_failed
        )
        for one in described(list(work.todo)):
            if one.error is None:
                done.add(work.todo[one.path], {"windows": one.to_dict()["windows"]})
            else:
                failures.fail(work.todo[one.path], one.error)
            found.append(one)
        done.close()
        failures.close()
    return DescribeRun(found, work.skipped, work.failed_before)


def captions_file(folder: str | os.PathLike[str]) -> Path:
    """The file that `describe_files` wrote into a folder. Raises CaptionsError: there is none."""
    path = Path(folder) / CAPTIONS
    if not path.is_file():
        raise CaptionsError(f"{folder}: holds no {CAPTIONS}; give the folder of: peav describe FILES -o FOLDER")
    return path


def read_captions(
    folder: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]] | None = None
) -> dict[str, list[TimedCaption]]:
    """What `describe_files` wrote into a folder, but for windows without words and files that have changed since.

    Args:
        files: those that are asked for, in any spelling; the result has theirs. None: all.

    Raises:
        CaptionsError: the folder holds none, or a line of its file is not as it was written.
    """
    path = captions_file(folder)
    wanted = None if files is None else {os.path.realpath(file): os.fspath(file) for file in files}
    found: dict[str, list[TimedCaption]] = {}
    for line in read_lines(path):
        try:
            source = string(line.get("path"), "path")
            name = source if wanted is None else wanted.get(os.path.realpath(source))
            if name is not None and _unchanged(source, line):
                found[name] = [_timed(one) for one in line["windows"] if one["text"]]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            about = f"the line of {shown(line.get('path'))}"
            raise CaptionsError(
                f"{path}: {about} is not as peav describe wrote it ({error}); take it out, and describe the file again"
            ) from error
    return found


def _unchanged(source: str, line: Mapping[str, Any]) -> bool:
    """Whether a file is the one that was described, as far as can be told: it may be gone."""
    _, size, time = version_of(Path(source))
    return size < 0 or (size, time) == (line.get("size", size), line.get("mtime", time))


def _timed(window: Mapping[str, Any]) -> TimedCaption:
    return TimedCaption(
        *span(window["start"], window["end"], ("start", "end")), visible(string(window["text"], "text"))
    )


def _digest(captioner: Captioner, prompt: str, window: float) -> str:
    """Of what captions depend on besides the files: those of other settings do not count as done."""
    models = [weights_sha256(captioner.model.state_dict()), captioner.encoder.model_id, captioner.language.model_id]
    asked = captioner.language.question(prompt, "audio_video").parts
    return hashlib.sha256(json.dumps([*models, asked, float(window)]).encode()).hexdigest()[:16]
