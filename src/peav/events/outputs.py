"""What detection writes for each recording: events, score tables, timelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from peav.errors import MediaError
from peav.events.formats import to_record, write_scores
from peav.events.names import unique_names
from peav.events.postprocess import Postprocessing
from peav.events.types import FrameScores
from peav.events.writers import EventFormat
from peav.types import Event, TimedCaption
from peav.utils.atomic import atomic_write
from peav.utils.storage import write_all


@dataclass(frozen=True)
class FileEvents:
    """What became of one file: its events, or the error that it gave."""

    path: Path
    duration: float = 0.0
    events: tuple[Event, ...] = ()
    error: MediaError | None = None
    timelines: tuple[Path, ...] = ()
    """That were drawn of it."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `path`, and `duration` and `events`, or `error`."""
        if self.error is not None:
            return {"path": str(self.path), "error": str(self.error)}
        events = [to_record(event) for event in self.events]
        return {"path": str(self.path), "duration": round(self.duration, 3), "events": events}


@dataclass(frozen=True)
class DetectRun:
    """What became of the files that were listened to, and how many were left out: done before, or failed before."""

    files: list[FileEvents]
    skipped: int = 0
    failed_before: int = 0

    def summary(self) -> dict[str, Any]:
        """Counts: `detected`, `events`, `hours`, `failed`, `failures` (by type), `skipped`, `failed_before`."""
        done = [file for file in self.files if file.error is None]
        return {
            "detected": len(done),
            "events": sum(len(file.events) for file in done),
            "hours": round(sum(file.duration for file in done) / 3600, 4),
            "failed": len(self.files) - len(done),
            "failures": dict(Counter(type(file.error).__name__ for file in self.files if file.error is not None)),
            "skipped": self.skipped,
            "failed_before": self.failed_before,
        }


@dataclass(frozen=True)
class Outputs:
    """Where results go.

    Files in the folder are called like the input without its suffix, or with it where two inputs would share a name.
    Timelines of several inputs have that name added: timeline.png becomes timeline-dog.png. The pages have
    `captions`, which go by path.
    """

    paths: Sequence[Path]
    folder: Path | None = None
    format: EventFormat | None = None
    scores: bool = False
    plot: Path | None = None
    html: Path | None = None
    captions: Mapping[str, Sequence[TimedCaption]] = field(default_factory=dict)

    @cached_property
    def names(self) -> dict[Path, str]:
        """What the files of each input are called."""
        return unique_names(self.paths)

    def of(self, path: Path) -> dict[str, Path]:
        """Every file that is written for an input, by kind."""
        name = self.names[path]
        targets: dict[str, Path] = {}
        if self.folder is not None and self.format is not None:
            targets["events"] = self.folder / f"{name}{self.format.suffix}"
        if self.folder is not None and self.scores:
            targets["scores"] = self.folder / "scores" / f"{name}.tsv"
        for kind, target in (("plot", self.plot), ("html", self.html)):
            if target is not None:
                several = len(self.names) > 1
                targets[kind] = target.with_name(f"{target.stem}-{name}{target.suffix}") if several else target
        return targets

    def complete(self, path: Path) -> bool:
        """Whether everything that is to be written for an input is there; in a page also the captions."""
        targets = self.of(path)
        if not all(target.exists() for target in targets.values()):
            return False
        from peav.events.render.page import captions_html

        captions = self.captions.get(str(path), ())
        return not captions or "html" not in targets or captions_html(captions) in targets["html"].read_text("utf-8")

    def write(self, path: Path, scores: FrameScores, events: Sequence[Event], how: Postprocessing) -> FileEvents:
        """Everything for one input, each file whole or not at all; `how` its scores became events."""
        targets = self.of(path)
        drawn = tuple(targets[kind] for kind in ("plot", "html") if kind in targets)
        found = FileEvents(path, scores.duration, tuple(events), timelines=drawn)
        if "events" in targets:
            assert self.format is not None
            write_all(targets["events"], self.format.text({path.name: found}))
        if "scores" in targets:
            write_scores(targets["scores"], scores)
        if drawn:
            _draw(path, scores, events, how, targets, self.captions.get(str(path), ()))
        return found


def _draw(
    path: Path,
    scores: FrameScores,
    events: Sequence[Event],
    how: Postprocessing,
    targets: Mapping[str, Path],
    captions: Sequence[TimedCaption],
) -> None:
    from peav.events.render.page import page, sound
    from peav.events.render.timeline import Timeline, loudness, picture

    timeline = Timeline(path.name, scores, events, loudness(path, scores), how)
    if "plot" in targets:
        with atomic_write(targets["plot"]) as temporary:
            picture(timeline).save(temporary, "PNG")
    if "html" in targets:
        write_all(targets["html"], page(timeline, sound(path, scores.duration, targets["html"].parent), captions))
