"""Text files that people write: with a byte order mark or without, and with any system's line ends."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from peav.errors import PeavError, TextError
from peav.utils.checks import shown

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: str | Path, error: type[PeavError] = TextError) -> str:
    """A text file, see `decode`. Raises `error` where it is absent, or not UTF-8."""
    try:
        return decode(Path(path).read_bytes(), str(path), error)
    except FileNotFoundError as missing:
        raise error(f"{path}: no such file; check the path") from missing
    except IsADirectoryError as folder:
        raise error(f"{path}: a folder; give a file") from folder


def text_lines(path: str | Path, error: type[PeavError] = TextError) -> Iterator[str]:
    """Every line of a text file with its end, one in memory at a time; otherwise as `read_text`."""
    number = 0
    with open(path, "rb") as file:
        for data in file:
            text = decode(data, str(path), error, number)
            for line in io.StringIO(text, newline="") if "\r" in text else (text,):  # \r alone ends a line, too
                yield line
                number += 1


def decode(data: bytes, where: str, error: type[PeavError] = TextError, before: int = 0) -> str:
    """UTF-8 without its byte order mark; lines end as they did. Raises `error`, which begins with `where`.

    `before` is how many lines of a file stand before these.
    """
    zeros = [byte == 0 for byte in data[:4]]
    if data.startswith(_UTF16) or zeros in ([True, False] * 2, [False, True] * 2):
        raise error(f"{where}: UTF-16; save it as UTF-8, or: iconv -f UTF-16 -t UTF-8 OLD > NEW")
    try:
        text = data.decode("utf-8" if before else "utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = before + data.count(b"\n", 0, wrong.start) + 1
        raise error(f"{where}:{line}: not UTF-8 ({wrong.reason}); save it as UTF-8") from wrong
    if "\0" in text:
        line = before + text.count("\n", 0, text.index("\0")) + 1
        raise error(f"{where}:{line}: holds a zero byte; save it as text in UTF-8")
    return text


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line that holds something, with its number, counted from 1.

    Lines end as an editor ends them. `str.splitlines` would also cut at characters within them, such as U+2028.
    """
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if line.strip():
            yield number, line


def parse_json(text: str, where: str, error: type[PeavError] = TextError) -> Any:
    """JSON, however it is broken. Raises `error`, which begins with `where`."""
    try:
        return json.loads(text)
    except RecursionError as deep:
        raise error(f"{where}: JSON that is nested too deeply") from deep
    except ValueError as wrong:
        reason = wrong.msg if isinstance(wrong, json.JSONDecodeError) else wrong
        raise error(f"{where}: not JSON ({reason})") from wrong


def table(
    text: str | Iterable[str], delimiter: str, where: str, error: type[PeavError], needs: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a text table by the names in its first line, with its place; cells may be quoted, as in CSV. The text
    may come as its lines with their ends.

    Raises:
        error: one of the names in `needs` is missing, a name that stands twice, a row of another length, a quote that
            is not closed.
    """
    skip = delimiter == ","  # `path, caption` is written by hand
    source = io.StringIO(text, newline="") if isinstance(text, str) else text
    reader = csv.reader(source, delimiter=delimiter, strict=True, skipinitialspace=skip)
    begins = 1
    try:
        names = [name.strip() for name in next(reader, [])]
        if len(names) == 1 and ";" in names[0]:
            raise error(f"{where}:1: semicolons stand between columns; save it with commas, or as .tsv with tabs")
        if missing := sorted(set(needs) - set(names)):
            raise error(f"{where}: lacks the columns {', '.join(missing)}; tabs or commas stand between columns")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise error(f"{where}:1: the column {shown(repeated[0])} stands twice; give each its own name")
        begins = reader.line_num + 1
        for row in reader:
            place, begins = f"{where}:{begins}", reader.line_num + 1
            if not row:  # an empty line
                continue
            if len(row) != len(names):
                raise error(f"{place}: {len(row)} cells under {len(names)} names; quote cells that hold a separator")
            yield place, dict(zip(names, row, strict=True))
    except csv.Error as wrong:
        raise error(f"{where}:{begins}: {wrong}; a quote may be open: close it, and double quotes in cells") from wrong


def readable(label: str) -> str:
    """A label as words: `door_wood_knock` is read as "door wood knock"."""
    return label.replace("_", " ").strip()


def clock(seconds: float) -> str:
    """62.5 -> 1:02.5."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def as_csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table as CSV: the names, and a line for each row; what a row has beyond them is left out."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
