"""Detector: when anything described in words sounds in a recording (PE-A-Frame, arXiv 2512.19687)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from peav.errors import EventsError, MediaError, UnsupportedInputError
from peav.events.outputs import DetectRun, FileEvents, Outputs
from peav.events.postprocess import EventStream, Postprocessing, find_events
from peav.events.thresholds import as_postprocessing, write_postprocessing
from peav.events.types import FrameScores
from peav.events.writers import event_format
from peav.inference.labels import LabelInput, label_texts
from peav.inference.pretrained import Pretrained
from peav.inference.scoring import Scored, Unfinished, score_files
from peav.inference.sources import is_single, name_of, read_ahead, unwrap
from peav.inference.streaming import LIVE, RECORDED, SECONDS_AT_ONCE, FrameStream, StreamingWindow
from peav.jobs import GOES_ON, Ledger, Version, plan, stoppable
from peav.media import as_waveform, iter_audio
from peav.media.find import media_files
from peav.model import PEAFrame
from peav.types import POSTPROCESSING, Event, TimedCaption
from peav.utils.lock import FolderLock
from peav.utils.renamed import renamed
from peav.utils.text import counted


@dataclass(frozen=True, eq=False)
class EncodedLabels:
    """Labels that the text tower has read: names, and a row of `embeddings` (N, output_dim) for each."""

    names: tuple[str, ...]
    embeddings: Tensor


class Detector(Pretrained[PEAFrame]):
    """Finds when sounds that labels describe are heard; made by `Detector.load`.

    Labels are any words, one or many: `dog barking`, `a door is slammed`, `door_slam` (read without its underscore); a
    mapping gives each label the words that the model reads for it. Each is read once a call, or once for many calls
    with `encode_labels`. Words past the model's 512 tokens do not count.

    Recordings are paths, bytes, binary file objects, or waveforms ((S,) or (C, S), with `sampling_rate=`), of any
    length, in bounded memory. The last frame is completed by mirroring the recording's end, also where all of it is
    shorter than one frame of 40 ms; no event ends past the recording. Bad ones raise the `peav.media.MediaError` (a
    ValueError) that says what is wrong with them.

    A frame's score depends on the recording, the labels and the `StreamingWindow` alone, bit for bit: how the samples
    came, from a file or live in blocks of any size, makes no difference.

    How scores become events unless a call says otherwise is a part of the model: `postprocessing`.
    """

    _kind = PEAFrame
    _other = "a PE-AV checkpoint, which embeds whole clips; `peav embed` and peav.load take it"

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> Detector:
        """Load a PE-A-Frame model.

        Args:
            name: `frame-tiny` (shipped, offline), a hub name such as `facebook/pe-a-frame-large`, or a directory in any
                of the three layouts.
            device: where to put it; None: the first GPU if there is one, else the CPU.
            dtype: of weights and computation, such as `"bfloat16"`; None: float32.
            revision: branch, tag or commit on the hub.
            cache_dir: where downloads are kept; None: the hub's own cache.

        Raises:
            CheckpointError: nothing there, an unreachable hub, a missing or unknown tensor, a PE-AV checkpoint.
        """
        return cls.from_pretrained(name, device=device, dtype=dtype, revision=revision, cache_dir=cache_dir)

    def detect(
        self,
        audio: Any,
        labels: LabelInput | EncodedLabels,
        threshold: float | Mapping[str, float] | None = None,
        *,
        sampling_rate: int | None = None,
        low: float | None = None,
        median: float | None = None,
        min_gap: float | None = None,
        min_length: float | None = None,
        windowing: StreamingWindow = RECORDED,
    ) -> list[Event]:
        """The events of a recording, by onset.

        Args:
            audio: one recording; see the class.
            labels: what to listen for.
            threshold: the probability above which a label sounds, for all of them or by label; None: the model's own.
            sampling_rate: of a waveform, in Hz.
            low, median, min_gap, min_length: see `peav.events.Postprocessing`; None: the model's own.
            windowing: how a long recording is cut; see `peav.inference.streaming.StreamingWindow`.

        Raises:
            LabelError: no labels, an empty one, one twice.
            ValueError: postprocessing that makes no sense, a checkpoint without a tokenizer.
            MediaError: a recording that cannot be read.
        """
        read = self.encode_labels(labels)
        how = self.postprocessing.adjusted(
            read.names, threshold, low=low, median=median, min_gap=min_gap, min_length=min_length
        )
        return find_events(self.scores(audio, read, sampling_rate=sampling_rate, windowing=windowing), how)

    def scores(
        self,
        audio: Any,
        labels: LabelInput | EncodedLabels,
        *,
        sampling_rate: int | None = None,
        windowing: StreamingWindow = RECORDED,
    ) -> FrameScores:
        """The probability of every label in every frame of 40 ms; arguments and errors as in `detect`."""
        stream = self.stream(labels, windowing=windowing)
        parts = [stream.push(block) for block in self._blocks(audio, sampling_rate)]
        return FrameScores(stream.labels, np.concatenate([*parts, stream.finish()], axis=1), stream.duration)

    def stream(
        self, labels: LabelInput | EncodedLabels, *, sampling_rate: int | None = None, windowing: StreamingWindow = LIVE
    ) -> FrameStream:
        """Score sound while it comes in; see `FrameStream`.

        Args:
            sampling_rate: of what will be pushed, in Hz; None: the model's own, 48 kHz.
            windowing: more `hop` and `lookahead` mean more delay and less work.
        """
        rate = self.sampling_rate if sampling_rate is None else sampling_rate
        read = self.encode_labels(labels)
        return FrameStream(self.model, read.names, read.embeddings, rate, windowing)

    def listen(
        self,
        blocks: Iterable[Any],
        labels: LabelInput | EncodedLabels,
        *,
        sampling_rate: int | None = None,
        postprocessing: Postprocessing | None = None,
        windowing: StreamingWindow = LIVE,
    ) -> Iterator[Event]:
        """The events of sound that is still coming, each as soon as nothing that follows can change it.

        Together they are what `find_events` makes of the scores of `stream` with the same window. An event comes back
        `FrameStream.latency`, half the median and `min_gap` after its end, at the latest; where the next sound of its
        label has begun by then, with that one's end.

        Args:
            blocks: samples as `FrameStream.push` takes them, of any number.
            sampling_rate: of the blocks, in Hz; None: the model's own, 48 kHz.
            postprocessing: None: the model's own.
        """
        stream = self.stream(labels, sampling_rate=sampling_rate, windowing=windowing)
        events = EventStream(stream.labels, postprocessing or self.postprocessing)
        for block in blocks:
            yield from events.push(stream.push(block))
        yield from events.finish(stream.finish(), stream.duration)

    def encode_labels(self, labels: LabelInput | EncodedLabels) -> EncodedLabels:
        """Read labels once, to give them to any number of calls.

        Raises:
            LabelError: no labels, an empty one, one twice, something that is no string.
            ValueError: a checkpoint without a tokenizer.
        """
        if isinstance(labels, EncodedLabels):
            return labels
        texts = label_texts(labels)
        # One at a time: a label's scores are then its own, whatever it stands beside.
        states = self._text_states(list(texts.values()), batch_size=1)
        with torch.inference_mode():
            return EncodedLabels(tuple(texts), self.model.heads["text"](states))

    @property
    def postprocessing(self) -> Postprocessing:
        """How scores become events unless a call says otherwise; saved with the model, and no part of its id."""
        return as_postprocessing(self._postprocessing or {}, self.name)

    @postprocessing.setter
    def postprocessing(self, how: Postprocessing) -> None:
        self._postprocessing = asdict(how)

    @property
    def sampling_rate(self) -> int:
        """Of the samples that the model hears, in Hz."""
        return self.model.config.audio.codec.sampling_rate

    def _blocks(self, audio: Any, sampling_rate: int | None) -> Iterator[np.ndarray]:
        """The recording as mono blocks of a few seconds at the model's rate."""
        audio, sampling_rate = unwrap(audio, sampling_rate)
        if not is_single(audio) or isinstance(audio, Mapping):
            raise UnsupportedInputError(
                "one recording at a time: a path, bytes, a file object, an array or Hugging Face's audio; use a loop"
            )
        if not isinstance(audio, np.ndarray | Tensor):
            blocks = iter_audio(audio, float(SECONDS_AT_ONCE), sampling_rate=self.sampling_rate)
            yield from (block for _, block in read_ahead(blocks))
            return
        name = name_of(audio, 0)
        if sampling_rate is None:
            raise UnsupportedInputError(f"{name}: an array of samples needs sampling_rate= in Hz")
        try:
            waveform = as_waveform(audio, sampling_rate, self.sampling_rate)
        except MediaError as error:
            raise type(error)(f"{name}: {error}") from error
        size = SECONDS_AT_ONCE * self.sampling_rate
        yield from (waveform[at : at + size] for at in range(0, len(waveform), size))


def detect_files(
    detector: Detector,
    paths: Iterable[str | os.PathLike[str]],
    labels: LabelInput,
    output: str | os.PathLike[str] | None = None,
    *,
    postprocessing: Postprocessing | None = None,
    format: str | None = "json",
    scores: bool = False,
    plot: Path | None = None,
    html: Path | None = None,
    captions: Mapping[str, Sequence[TimedCaption]] | None = None,
    limit: int | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    show_progress: bool = False,
) -> DetectRun:
    """Find the events of files and folders, in files of any length.

    A file that cannot be decoded, also one that crashes its decoder, costs itself alone. With `output`, that folder
    gets `detections.jsonl` with a line for each file, a file for each input in `format`, and `failures.jsonl`. Whatever
    ends the process, the same call goes on from there, within a file too.

    Args:
        paths: folders are searched for media.
        labels: what to listen for, as in `Detector.detect`.
        output: a folder for results; None: they are returned alone.
        postprocessing: from scores to events; None: the model's own.
        format: of the file for each input: json, csv, tsv, audacity, vtt or a class of yours,
            `path/to/file.py:Class`; None: none is written.
        scores: write every frame's scores too, into `output/scores`.
        plot, html: draw a timeline, as PNG and as a page with a player; of several files, each its own.
        captions: by path, as `describe.read_captions` gives them, for the pages.
        limit: listen to at most so many files.
        resume: with `output`, skip files that were done or failed before, unchanged; else start anew.
        retry_failed: try those that failed before again.

    Raises:
        LabelError: no labels, an empty one, one twice.
        EventsError: another process writes to the folder.
        MissingFileError: none of the paths is there. Stopped: Ctrl-C or SIGTERM.
    """
    files = list(dict.fromkeys(file.absolute() for file in media_files(paths)))
    how, folder = postprocessing or detector.postprocessing, None if output is None else Path(output)
    texts = label_texts(labels)
    outputs = Outputs(
        files, folder, None if format is None else event_format(format), scores, plot, html, captions or {}
    )
    read = detector.encode_labels(texts)

    def found_in(todo: Sequence[Path], unfinished: Unfinished | None = None) -> Iterator[FileEvents]:
        def stream() -> FrameStream:
            return detector.stream(read, windowing=RECORDED)

        rate = detector.sampling_rate
        for path, scored in score_files(stream, todo, rate, unfinished, show_progress=show_progress):
            yield _events(path, scored, read.names, how, outputs)

    if folder is None:
        return DetectRun(list(found_in(files[:limit])))
    settings = {"model": detector.model_id, "labels": texts, **asdict(how)}
    # Lines that other settings wrote into the same folder do not count as done.
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    found: list[FileEvents] = []
    held = f"{folder}: another process is writing to it; wait for its end, or give another folder"
    kept = f"of this run are done; {GOES_ON}"
    with stoppable(lambda: f"{counted(len(found), 'file')} {kept}"), FolderLock(folder, EventsError(held)):
        done = Ledger(folder / "detections.jsonl", {"settings": digest}, alone=True, resume=resume)
        failures = Ledger(folder / "failures.jsonl", {"library": done.path.name})
        write_postprocessing(folder / POSTPROCESSING, how)

        def complete(path: Path, version: Version) -> bool:
            return done.has(version) and outputs.complete(path)

        work = plan(files, complete, failures, limit=limit, resume=resume, retry_failed=retry_failed)
        unfinished = Unfinished(folder / "unfinished.pt", digest, work.todo, resume)
        for one in found_in(list(work.todo), unfinished):
            if one.error is None:
                done.add(work.todo[one.path], {key: one.to_dict()[key] for key in ("duration", "events")})
            else:
                failures.fail(work.todo[one.path], one.error)
            unfinished.clear()
            found.append(one)
        done.close()
        failures.close()
    return DetectRun(found, work.skipped, work.failed_before)


def _events(
    path: Path, scored: Scored | MediaError, labels: tuple[str, ...], how: Postprocessing, outputs: Outputs
) -> FileEvents:
    """The events of one file, once they are written."""
    if isinstance(scored, MediaError):
        return FileEvents(path, error=scored)
    scores = FrameScores(labels, *scored)
    events = find_events(scores, how)
    try:
        return outputs.write(path, scores, events, how)
    except MediaError as error:  # a timeline decodes the file again
        return FileEvents(path, error=error)


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"LabelError": "peav.errors:LabelError", "Labels": "peav.detector:EncodedLabels"})
