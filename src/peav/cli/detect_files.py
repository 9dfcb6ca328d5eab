"""The work of `peav detect`: one file after the other, and what is written for each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peav.detector import Detector, Labels
from peav.events import Event, FrameScores, Postprocessing, find_events
from peav.events.formats import to_audacity, to_record, to_tsv, to_vtt, write_scores
from peav.events.journal import Journal
from peav.jobs import Ledger, version_of
from peav.media import MediaError, UnsupportedInputError
from peav.utils.atomic import atomic_write
from peav.utils.progress import bar

SUFFIXES = {"json": ".json", "tsv": ".tsv", "audacity": ".txt", "vtt": ".vtt"}


@dataclass(frozen=True)
class Outcome:
    """What became of one file: its events, or the error that it gave."""

    path: Path
    duration: float = 0.0
    events: tuple[Event, ...] = ()
    error: MediaError | None = None

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        if self.error is not None:
            return {"path": str(self.path), "error": str(self.error)}
        events = [to_record(event) for event in self.events]
        return {"path": str(self.path), "duration": round(self.duration, 3), "events": events}


class Outputs:
    """Where results go.

    Files in the folder are called like the input without its suffix, or with it where two inputs would share a name.
    Timelines of several inputs have that name added: timeline.png becomes timeline-dog.png.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        format: str,
        folder: Path | None,
        scores: bool,
        plot: Path | None,
        html: Path | None,
    ) -> None:
        self.format, self.folder, self.scores, self.plot, self.html = format, folder, scores, plot, html
        self.names = unique_names(paths)

    def of(self, path: Path) -> dict[str, Path]:
        """Every file that is written for an input, by kind."""
        name = self.names[path]
        targets: dict[str, Path] = {}
        if self.folder is not None and self.format in SUFFIXES:
            targets["events"] = self.folder / f"{name}{SUFFIXES[self.format]}"
        if self.folder is not None and self.scores:
            targets["scores"] = self.folder / "scores" / f"{name}.tsv"
        for kind, target in (("plot", self.plot), ("html", self.html)):
            if target is not None:
                several = len(self.names) > 1
                targets[kind] = target.with_name(f"{target.stem}-{name}{target.suffix}") if several else target
        return targets

    def complete(self, path: Path) -> bool:
        """Whether everything that is to be written for an input is there."""
        return all(target.exists() for target in self.of(path).values())

    def write(self, path: Path, scores: FrameScores, events: Sequence[Event]) -> None:
        """Everything for one input, each file whole or not at all."""
        targets = self.of(path)
        if "events" in targets:
            _write(targets["events"], self._text(path, scores, events))
        if "scores" in targets:
            write_scores(targets["scores"], scores)
        if "plot" in targets or "html" in targets:
            _draw(path, scores, events, targets)

    def _text(self, path: Path, scores: FrameScores, events: Sequence[Event]) -> str:
        if self.format == "json":
            record = Outcome(path, scores.duration, tuple(events)).record()
            return json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        if self.format == "tsv":
            return to_tsv({path.name: events})
        return to_audacity(events) if self.format == "audacity" else to_vtt(events)


@dataclass(frozen=True)
class Run:
    """What became of the files that were listened to, and how many were left out: done before, or failed before."""

    outcomes: list[Outcome]
    skipped: int = 0
    failed_before: int = 0


def detect_files(
    detector: Detector,
    paths: Sequence[Path],
    texts: Mapping[str, str],
    how: Postprocessing,
    outputs: Outputs,
    limit: int | None,
    resume: bool,
) -> Run:
    """Listen to the files that are not done yet, and write what is found."""
    labels = detector.encode_labels(texts)
    if outputs.folder is None:
        return Run([_listen(detector, path, labels, how, outputs) for path in _track(paths[:limit])])
    settings = {"model": detector.model_id, "labels": dict(texts), **asdict(how)}
    journal = Journal(outputs.folder / "detections.jsonl", settings, resume)
    failures = Ledger(outputs.folder / "failures.jsonl", {"library": journal.path.name})
    # Versions are taken before decoding: a file that changes meanwhile is listened to again by the next run.
    versions = {path: version_of(path) for path in paths}
    new = [path for path in paths if not (journal.has(*versions[path]) and outputs.complete(path))]
    todo = [path for path in new if not (resume and failures.has(versions[path]))]
    outcomes = []
    for path in _track(todo[:limit]):
        outcome = _listen(detector, path, labels, how, outputs)
        if outcome.error is None:
            journal.add(versions[path], outcome.duration, outcome.events)
        else:
            failures.fail(versions[path], outcome.error)
        outcomes.append(outcome)
    return Run(outcomes, len(paths) - len(new), len(new) - len(todo))


def _track(paths: Sequence[Path]) -> Iterator[Path]:
    with bar() as progress:
        yield from progress.track(paths, description="listening")


def unique_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name of its own for each path: its stem, its name, or all of its folders, whichever is enough."""
    names: dict[Path, str] = {}
    for kind in (lambda p: p.stem, lambda p: p.name, lambda p: "_".join(p.parts[1:])):
        proposed = {path: kind(path) for path in paths if path not in names}
        counts = Counter([*proposed.values(), *names.values()])
        names |= {path: name for path, name in proposed.items() if counts[name] == 1}
    return names


def _listen(detector: Detector, path: Path, labels: Labels, how: Postprocessing, outputs: Outputs) -> Outcome:
    try:
        _check_name(path)
        scores = detector.scores(path, labels)
        events = find_events(scores, how)
        outputs.write(path, scores, events)
    except MediaError as error:
        return Outcome(path, error=error)
    return Outcome(path, scores.duration, tuple(events))


def _check_name(path: Path) -> None:
    """Results are text in UTF-8, but a file's name may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UnsupportedInputError(f"{path}: a name that is not UTF-8 cannot be written; rename the file") from error


def _draw(path: Path, scores: FrameScores, events: Sequence[Event], targets: Mapping[str, Path]) -> None:
    from peav.events.page import encoded, page
    from peav.events.timeline import Timeline, loudness, picture

    timeline = Timeline(path.name, scores, events, loudness(path, scores.duration))
    if "plot" in targets:
        with atomic_write(targets["plot"]) as temporary:
            picture(timeline).save(temporary, "PNG")
    if "html" in targets:
        _write(targets["html"], page(timeline, encoded(path)))


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
