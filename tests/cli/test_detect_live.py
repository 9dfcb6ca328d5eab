"""`peav detect -`: events of sound that is still coming, through a real pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from media.make import tone, write_audio
from random_detector import random_detector

from peav.checkpoint import save_pretrained
from peav.detector import Detector
from peav.events import FrameScores, Postprocessing, find_events
from peav.events.formats import to_record
from peav.inference.streaming import LIVE
from peav.media import load_audio

LABELS = ["dog", "siren"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bare", "wav"])
def test_the_first_event_is_printed_before_the_input_ends_and_all_are_those_of_the_stream(
    kind: str, tmp_path: Path
) -> None:
    made = random_detector()
    save_pretrained(made.model, tmp_path / "model", made.tokenizer)
    detector = Detector.load(tmp_path / "model", device="cpu")
    path = write_audio(tmp_path / "a.wav", tone(8.0, 16_000, seed=1), 16_000)
    data = path.read_bytes()
    samples = np.frombuffer(data[-2 * 8 * 16_000 :], "<i2")
    stream = detector.stream(LABELS, sampling_rate=16_000 if kind == "bare" else None)
    parts = [stream.push(samples if kind == "bare" else load_audio(path)), stream.finish()]
    scores = FrameScores(stream.labels, np.concatenate(parts, axis=1), stream.duration)
    threshold = float(np.median(scores.probabilities))
    wanted = find_events(scores, Postprocessing(threshold, median=0.2))
    assert min(event.offset for event in wanted) < 3

    sent = samples.tobytes() if kind == "bare" else data
    command = [sys.executable, "-m", "peav", "detect", "-", "--labels", ",".join(LABELS), "--json", "--median", "0.2"]
    command += ["--model", str(tmp_path / "model"), "--threshold", repr(threshold)]
    command += ["--sampling-rate", "16000"] if kind == "bare" else []
    # On one thread, as this process: with more, sums are taken in another order.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        watch = Timer(300, process.kill)
        watch.start()
        # The rest waits for the first event: were it not printed before, nothing would ever come.
        for at in range(0, len(sent) * 3 // 4, 4000):
            process.stdin.write(sent[at : min(at + 4000, len(sent) * 3 // 4)])
            process.stdin.flush()
        first = process.stdout.readline()
        assert first
        process.stdin.write(sent[len(sent) * 3 // 4 :])
        process.stdin.close()
        lines = [first, *process.stdout]
        watch.cancel()
    assert process.wait() == 0
    order = lambda event: (event["onset"], event["label"])  # noqa: E731
    assert sorted(map(json.loads, lines), key=order) == sorted(map(to_record, wanted), key=order)


def test_listening_gives_what_the_streams_scores_give_whatever_the_blocks() -> None:
    detector, sound = random_detector(), tone(4.0, seed=1)[0]
    stream = detector.stream(LABELS)
    parts = [stream.push(sound), stream.finish()]
    scores = FrameScores(stream.labels, np.concatenate(parts, axis=1), stream.duration)
    how = Postprocessing(float(np.median(scores.probabilities)), 0.9, median=0.2, min_gap=0.12, min_length=0.08)
    wanted = find_events(scores, how)
    blocks = [sound[at : at + 4800] for at in range(0, len(sound), 4800)]
    found = list(detector.listen(blocks, LABELS, postprocessing=how, windowing=LIVE))
    assert len(wanted) > 2
    order = lambda event: (event.onset, event.label)  # noqa: E731
    assert sorted(found, key=order) == sorted(wanted, key=order)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("-", "a.wav"), "one stream"),
        (("-", "-o", "out"), "one stream"),
        (("-", "--format", "vtt"), "one stream"),
        (("a.wav", "--sampling-rate", "16000"), "bare samples"),
    ],
)
def test_what_goes_with_a_stream_and_what_does_not(peav: object, args: tuple[str, ...], reason: str) -> None:
    result = peav("detect", *args, "--labels", "dog")  # type: ignore[operator]
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())
