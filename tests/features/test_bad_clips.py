"""A few bad clips are passed over; many in a row, or a large share, stop the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from peav.data.manifest import Row
from peav.errors import MediaError, NotMediaError
from peav.features.failures import Failures, TooManyFailures, clip_failure
from peav.utils.storage import FilePart

ROW, BAD = Row(id="x"), NotMediaError("x.mp4: not audio or video")


def test_a_hundred_in_a_row_stop_however_many_there_are() -> None:
    failures = Failures(10**6)
    errors: list[MediaError | None] = [*[BAD] * 99, None, *[BAD] * 99]
    for error in errors:
        failures.note(ROW, error)
    last = r"100 in a row clips cannot be read, the last being x: NotMediaError: x\.mp4: not audio or video; repair"
    with pytest.raises(TooManyFailures, match=last) as stop:
        failures.note(ROW, BAD)
    assert len(stop.value.failed) == 199


def test_more_than_five_in_a_hundred_stop_counting_those_of_earlier_runs() -> None:
    failures = Failures(1000, before=10)
    for _ in range(40):
        failures.note(ROW, BAD)
        failures.note(ROW, None)
    with pytest.raises(TooManyFailures, match="51 of 1000"):
        failures.note(ROW, BAD)


def test_twenty_may_fail_of_however_few() -> None:
    failures = Failures(20)
    for _ in range(20):
        failures.note(ROW, BAD)
    assert len(failures.failed) == 20


def test_a_line_says_which_clip_and_which_file() -> None:
    said = {"error": "NotMediaError", "reason": "x.mp4: not audio or video", "id": "x"}
    sound, pictures = Path("/a/x.wav"), Path("/a/x.mp4")
    assert clip_failure(Row("x", audio_path=sound, video_path=pictures), BAD) == said | {"path": "/a/x.wav"}
    assert clip_failure(Row("x", video_path=pictures), BAD, clip="k") == said | {"path": "/a/x.mp4", "clip": "k"}
    member = FilePart("s3://b/clips.tar", 512, 9, "x.mp4")
    assert clip_failure(Row("x", video_path=member), BAD) == said | {"path": "s3://b/clips.tar/x.mp4"}
