"""The formats in which events are written: what one is, and their names.

A format is a subclass of `EventFormat` in a file of its own, with a line in `FORMATS`; outside the package it is named
as `peav detect --format path/to/file.py:Class`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from peav.events.formats import to_audacity, to_record, to_tsv, to_vtt
from peav.utils.plugins import load_class
from peav.utils.text import as_csv

if TYPE_CHECKING:
    from peav.events.outputs import FileEvents

FORMATS = {
    "json": "peav.events.writers:Json",
    "csv": "peav.events.writers:Csv",
    "tsv": "peav.events.writers:Tsv",
    "audacity": "peav.events.writers:Audacity",
    "vtt": "peav.events.writers:Vtt",
}


class EventFormat:
    """How the events of recordings are written as text."""

    suffix: ClassVar[str] = ".txt"
    """Of the file for each recording."""
    holds_many: ClassVar[bool] = False
    """Whether one text may hold several recordings; else `text` gets one."""

    def text(self, files: Mapping[str, FileEvents]) -> str:
        """The events of recordings by name, with the line break at the end."""
        raise NotImplementedError


class Json(EventFormat):
    """An object for each recording; of several a list."""

    suffix = ".json"
    holds_many = True

    def text(self, files: Mapping[str, FileEvents]) -> str:
        """As `FileEvents.to_dict` says them."""
        records = [file.to_dict() for file in files.values()]
        return json.dumps(records[0] if len(records) == 1 else records, indent=2, ensure_ascii=False) + "\n"


class Csv(EventFormat):
    """A line for each event, with the names of JSON, and the path of its recording as it stands there."""

    suffix = ".csv"
    holds_many = True

    def text(self, files: Mapping[str, FileEvents]) -> str:
        """A recording without events has no line."""
        names = ("path", "onset", "offset", "label", "score")
        rows = [{"path": str(file.path)} | to_record(event) for file in files.values() for event in file.events]
        return as_csv(names, rows)


class Tsv(EventFormat):
    """The table of sed_scores_eval and DCASE, with a column for the score."""

    suffix = ".tsv"
    holds_many = True

    def text(self, files: Mapping[str, FileEvents]) -> str:
        """A row for each event."""
        return to_tsv({name: file.events for name, file in files.items()})


class Audacity(EventFormat):
    """A label track of Audacity."""

    def text(self, files: Mapping[str, FileEvents]) -> str:
        """A line for each event."""
        (file,) = files.values()
        return to_audacity(file.events)


class Vtt(EventFormat):
    """WebVTT subtitles."""

    suffix = ".vtt"

    def text(self, files: Mapping[str, FileEvents]) -> str:
        """A cue for each event."""
        (file,) = files.values()
        return to_vtt(file.events)


def event_format(name: str) -> EventFormat:
    """The format of a name. Raises PluginError."""
    return load_class(name, EventFormat, FORMATS)()
