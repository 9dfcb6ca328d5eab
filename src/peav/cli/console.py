"""What the verbs share: where they print, how they fail, how they load a model. Their options are in `options`.

All that a verb prints goes through here: `out` and `err` for people, with `escape` around every text that is not ours,
`print_json` and `echo` for programs. No control character of a file's name reaches the terminal on any of these ways.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich import markup

import peav
from peav.utils.terminal import SafeConsole, is_control, visible
from peav.utils.text import as_csv
from peav.utils.text import clock as clock

if TYPE_CHECKING:
    from peav.detector import Detector
    from peav.encoder import Encoder

out = SafeConsole()
err = SafeConsole(stderr=True)


def fail(reason: object) -> NoReturn:
    """One red line on stderr, exit code 2."""
    line = " ".join(str(reason).split())
    err.print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True, highlight=False)
    raise typer.Exit(2)


class _Said(logging.Handler):
    """Warnings, and what the loggers say, as one yellow line each above a progress bar; the same line once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.say(record.getMessage())

    def say(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            err.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True, highlight=False)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Warnings, and what the loggers say, as one line each, instead of Python's two with a line of source."""
    said, logger = _Said(), logging.getLogger("peav")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: said.say(str(message))
        logger.addHandler(said)
        try:
            yield
        finally:
            logger.removeHandler(said)


def escape(text: str) -> str:
    """A text that is not ours, such as a file's name, to be printed by `out` or `err` as it is, on one line."""
    return markup.escape(visible(text))


def echo(text: str, *, newline: bool = True) -> None:
    """Lines of text on stdout for other programs, untouched by colors and line widths."""
    typer.echo(visible(text, keep="\n\t"), nl=newline)


def print_json(result: Any) -> None:
    """JSON on stdout, untouched by colors and line widths. What is not finite is null: JSON has no word for it."""
    text = json.dumps(_finite(result), indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo("".join(f"\\u{ord(c):04x}" if is_control(c) and c != "\n" else c for c in text))


def print_csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table for other programs on stdout: the names, and a line for each row."""
    echo(as_csv(names, rows), newline=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(
    model: str,
    device: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    cache_dir: Path | None = None,
) -> Encoder:
    """Load an encoder with a sign of life, since a large one takes a while."""
    with err.status(f"loading {escape(model)}"):
        return peav.load(model, device=device, revision=revision, dtype=dtype, cache_dir=cache_dir)


def load_detector(
    model: str, device: str | None, revision: str | None, dtype: str | None, cache_dir: Path | None
) -> Detector:
    """The same for a PE-A-Frame model."""
    with err.status(f"loading {escape(model)}"):
        return peav.Detector.load(model, device=device, revision=revision, dtype=dtype, cache_dir=cache_dir)


def say_written(*paths: Path) -> None:
    """A line on stderr for each file that was written beside the results."""
    for path in paths:
        err.print(f"[dim]written:[/] {shown(path)}", soft_wrap=True, highlight=False)


def report_failures(summary: Mapping[str, Any], listed: Path) -> None:
    """Lines about files that failed in a job, and where they are listed."""
    if summary["failed"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary["failures"].items())
        out.print(f"[yellow]{summary['failed']} failed[/] ({kinds}): see {shown(listed)}")
    if summary["failed_before"]:
        out.print(
            f"[yellow]{summary['failed_before']} failed before[/] and have not changed: see {shown(listed)}; "
            "--retry-failed tries them again"
        )


def exit_if_all_failed(summary: Mapping[str, Any], done: int) -> None:
    """Exit code 1 for a job of which every single file failed, now or before."""
    if (summary["failed"] or summary["failed_before"]) and not done and not summary["skipped"]:
        raise typer.Exit(1)


def shown(path: str | Path) -> str:
    """A path as short as it can be: relative to the working directory where it lies below it."""
    path, here = str(path), os.getcwd() + os.sep
    return escape(path.removeprefix(here))


def meter(share: float, width: int = 12) -> str:
    """A bar for a share of 0 to 1; none where no person looks."""
    if not out.is_terminal:
        return ""
    filled = round(max(0.0, min(1.0, share)) * width)
    return f"[green]{'━' * filled}[/][dim]{'━' * (width - filled)}[/]"
