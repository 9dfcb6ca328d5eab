"""The work of `peav detect`: one file after the other, and what is written for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peav.detector import SECONDS_AT_ONCE, Detector, FrameStream, Labels
from peav.errors import EventsError, MediaError, UnsupportedInputError
from peav.events import Event, FrameScores, Postprocessing, find_events
from peav.events.formats import to_audacity, to_record, to_tsv, to_vtt, write_scores
from peav.events.names import unique_names
from peav.inference.isolation import as_media, audio_task, limits_for
from peav.inference.streaming import RECORDED
from peav.jobs import Ledger, Pace, Version, plan, stoppable
from peav.utils.atomic import atomic_write
from peav.utils.lock import FolderLock
from peav.utils.progress import bar
from peav.utils.workers import End, Workers

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
    """Listen to the files that are not done yet, and write what is found; sound is decoded in worker processes.

    Raises:
        EventsError: another process writes to the folder. Stopped: Ctrl-C or SIGTERM.
    """
    labels = detector.encode_labels(texts)
    if outputs.folder is None:
        return Run(list(_listened(detector, paths[:limit], labels, how, outputs, {}, None)))
    settings = {"model": detector.model_id, "labels": dict(texts), **asdict(how)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    outcomes: list[Outcome] = []
    with (
        stoppable(
            lambda: f"stopped: {len(outcomes)} files of this run are done; run the same command again, it goes on"
        ),
        _alone(outputs.folder),
    ):
        done = Ledger(outputs.folder / "detections.jsonl", {"settings": digest}, alone=True, resume=resume)
        failures = Ledger(outputs.folder / "failures.jsonl", {"library": done.path.name})
        work = plan(
            paths,
            lambda path, version: done.has(version) and outputs.complete(path),
            failures,
            limit=limit,
            resume=resume,
        )
        begun = Begun(outputs.folder / "unfinished.pt", digest, resume)
        for outcome in _listened(detector, list(work.todo), labels, how, outputs, work.todo, begun):
            version = work.todo[outcome.path]
            if outcome.error is None:
                events = [to_record(event) for event in outcome.events]
                done.add(version, {"duration": round(outcome.duration, 3), "events": events})
            else:
                failures.fail(version, outcome.error)
            begun.clear()
            outcomes.append(outcome)
        done.close()
        failures.close()
    return Run(outcomes, work.skipped, work.failed_before)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        lock = FolderLock(folder)
    except BlockingIOError as error:
        raise EventsError(
            f"{folder}: another `peav detect` is writing to it; wait for its end, or give another folder to -o"
        ) from error
    try:
        yield
    finally:
        lock.release()


class Begun:
    """How far the file in hand has come, on the disk every few seconds: a recording of hours goes on where it was."""

    def __init__(self, path: Path, settings: str, resume: bool) -> None:
        self.path, self.settings, self.pace = path, settings, Pace()
        self.found: dict[str, Any] = {}
        if not resume:
            self.clear()
        elif path.exists():
            self.found = torch.load(path, weights_only=True)

    def of(self, version: Version) -> dict[str, Any] | None:
        """What is kept of this version of a file: `blocks` pushed, `scores` settled, the stream's `state`."""
        known = self.found.get("version"), self.found.get("settings")
        return self.found if known == (list(version), self.settings) else None

    def keep(self, version: Version, blocks: int, scores: list[np.ndarray], stream: FrameStream) -> None:
        """Write it, if it is time."""
        if self.pace.due():
            settled = torch.from_numpy(np.concatenate(scores, axis=1))
            about = {"version": list(version), "settings": self.settings, "blocks": blocks, "scores": settled}
            with atomic_write(self.path) as temporary:
                torch.save(about | {"state": stream.state()}, temporary)

    def clear(self) -> None:
        """The file is done."""
        self.path.unlink(missing_ok=True)


def _listened(
    detector: Detector,
    paths: Sequence[Path],
    labels: Labels,
    how: Postprocessing,
    outputs: Outputs,
    versions: Mapping[Path, Version],
    begun: Begun | None,
) -> Iterator[Outcome]:
    """What becomes of each file, in order."""
    good = [path for path in paths if _not_utf8(path) is None]
    known = {path: begun.of(versions[path]) for path in good} if begun is not None else {}
    skip = {path: found["blocks"] for path, found in known.items() if found is not None}
    tasks = (audio_task(path, SECONDS_AT_ONCE, detector.sampling_rate, skip.get(path, 0)) for path in good)
    with (
        bar() as progress,
        Workers(tasks, limits=limits_for(SECONDS_AT_ONCE), size=lambda block: block.nbytes) as items,
    ):
        blocks = groupby(items, key=lambda item: item[0])
        for path in progress.track(paths, description="listening"):
            if (error := _not_utf8(path)) is not None:
                yield Outcome(path, error=error)
                continue
            _, own = next(blocks)
            stream = detector.stream(labels, windowing=RECORDED)
            scores = [np.empty((len(stream.labels), 0), np.float32)]
            count = skip.get(path, 0)
            if (found := known.get(path)) is not None:
                stream.resume(found["state"])
                scores.append(found["scores"].numpy())
            try:
                for _, block in own:
                    if isinstance(block, End):
                        if block.error is not None:
                            raise as_media(block.error, str(path))
                        continue
                    scores.append(stream.push(block))
                    count += 1
                    if begun is not None:
                        begun.keep(versions[path], count, scores, stream)
                found_scores = FrameScores(
                    stream.labels, np.concatenate([*scores, stream.finish()], axis=1), stream.duration
                )
                events = find_events(found_scores, how)
                outputs.write(path, found_scores, events)
            except MediaError as failed:
                for _ in own:  # the next file's blocks come after them
                    pass
                yield Outcome(path, error=failed)
                continue
            yield Outcome(path, found_scores.duration, tuple(events))


def _not_utf8(path: Path) -> MediaError | None:
    """Results are text in UTF-8, but a file's name may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return UnsupportedInputError(f"{path}: a name that is not UTF-8 cannot be written; rename the file")
    return None


def _draw(path: Path, scores: FrameScores, events: Sequence[Event], targets: Mapping[str, Path]) -> None:
    from peav.events.render.page import encoded, page
    from peav.events.render.timeline import Timeline, loudness, picture

    timeline = Timeline(path.name, scores, events, loudness(path, scores.duration))
    if "plot" in targets:
        with atomic_write(targets["plot"]) as temporary:
            picture(timeline).save(temporary, "PNG")
    if "html" in targets:
        _write(targets["html"], page(timeline, encoded(path)))


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
