"""Timelines: every label has its band, every event its place, and the page holds all that it needs."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media.make import tone, write_audio

from peav.events import Event, FrameScores, Postprocessing
from peav.events.render.page import encoded, page
from peav.events.render.page import sound as sound_of
from peav.events.render.timeline import (
    COLORS,
    Timeline,
    loudness,
    picture,
    stretched,
    tick_label,
    tick_step,
    wave_peaks,
)

LABELS = ("dog", 'a "loud" <siren> & rain', "owl")


def timeline(duration: float = 4.0) -> Timeline:
    frames = max(1, round(duration / 0.04))
    values = np.zeros((3, frames), np.float32)
    values[0, : frames // 2] = 0.9
    events = [Event("dog", 0.0, duration / 2, 0.9)]
    return Timeline("dog.wav", FrameScores(LABELS, values, duration), events, np.linspace(0, 1, 400))


def test_a_picture_has_a_band_for_every_label_and_colors_where_events_are() -> None:
    image = picture(timeline())
    assert image.width == 1600
    color = tuple(int(COLORS[0][i : i + 2], 16) for i in (1, 3, 5))
    found = np.argwhere((np.asarray(image) == color).all(axis=2))
    left, right = found[:, 1].min(), found[:, 1].max()
    others = picture(Timeline("x", timeline().scores, [], timeline().wave))
    assert (right - left) == pytest.approx((1572 - left) / 2, abs=3)  # half of the axis, which ends at the margin
    assert not (np.asarray(others) == color).all(axis=2).any()


@pytest.mark.parametrize("duration", [0.02, 0.5, 30.0, 3700.0])
def test_pictures_of_any_length_can_be_drawn(duration: float) -> None:
    assert picture(timeline(duration)).height > 200


@given(count=st.integers(0, 50), columns=st.integers(1, 80))
def test_a_column_shows_the_highest_of_its_frames(count: int, columns: int) -> None:
    values = np.random.default_rng(count).random(count)
    wanted = [
        max(
            (v for i, v in enumerate(values) if i < (c + 1) * count / columns and i + 1 > c * count / columns),
            default=0,
        )
        for c in range(columns)
    ]
    assert np.allclose(stretched(values, columns), wanted)


def test_the_wave_is_the_peaks_of_the_file_in_any_blocks(tmp_path: Path) -> None:
    sound = np.concatenate([np.zeros(8000), 0.5 * np.ones(8000)]).astype(np.float32)
    for size in (16000, 999):
        peaks = wave_peaks((sound[at : at + size] for at in range(0, 16000, size)), 1.0, 16000, 10)
        assert peaks.tolist() == [0.0] * 5 + [1.0] * 5
    path = write_audio(tmp_path / "a.wav", tone(1.0))
    short = loudness(path, FrameScores(("dog",), np.zeros((1, 25), np.float32), 1.0))
    assert (len(short), short.max()) == (1600, 1.0)


@pytest.mark.parametrize(
    ("seconds", "step", "text"), [(5, 1, "0:05"), (0.2, 0.2, "0:00.2"), (3750, 60, "1:02:30"), (59.96, 0.1, "1:00.0")]
)
def test_ticks_read_as_times(seconds: float, step: float, text: str) -> None:
    assert tick_label(seconds, step) == text


@given(st.floats(0.02, 1e6), st.integers(5, 14))
def test_an_axis_never_has_more_ticks_than_fit(duration: float, most: int) -> None:
    assert duration / tick_step(duration, most) <= most + 1e-6


def test_a_page_holds_sound_bands_and_events_and_fetches_nothing(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", tone(4.0))
    sound = encoded(path)
    with av.open(io.BytesIO(sound)) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(4.0, abs=0.1)
    text = page(timeline(), sound_of(path, 4.0, tmp_path))
    assert 'src="data:audio/mp4;base64,' in text
    assert text.count('class="band"') == 3
    assert "a &quot;loud&quot; &lt;siren&gt; &amp; rain" in text
    assert "<siren>" not in text
    assert not re.search(r"https?://", text)
    assert drawn(text)["events"] == [[0, 0.0, 2.0, 0.9]]


def drawn(text: str) -> dict[str, Any]:
    """What a page's script is given."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_a_page_draws_the_scores_and_the_wave_to_the_256th_and_each_labels_threshold() -> None:
    shown = Timeline("x", *vars_of(timeline()), Postprocessing({"dog": 0.7, "owl": 0.2}, low=0.5))
    text = page(shown, "dog.wav")
    data = drawn(text)
    assert (data["thresholds"], data["low"]) == ([0.7, 0.3, 0.2], 0.5)
    assert "above 0.70, 1 event<" in text
    assert "above 0.20, 0 events<" in text
    values = np.frombuffer(zlib.decompress(base64.b64decode(data["packed"])), np.uint8) / 255
    assert np.abs(values[: data["columns"]] - shown.wave).max() < 1 / 256
    assert np.abs(values[data["columns"] :].reshape(3, data["frames"]) - shown.scores.probabilities).max() < 1 / 256


def vars_of(shown: Timeline) -> tuple[FrameScores, Sequence[Event], np.ndarray]:
    return shown.scores, shown.events, shown.wave


def test_the_page_of_an_hour_is_under_five_megabytes_whatever_the_scores(tmp_path: Path) -> None:
    random, labels = np.random.default_rng(0), tuple(f"label {row}" for row in range(26))
    scores = FrameScores(labels, random.random((26, 90_000), np.float32), 3600.0)
    events = [Event(labels[i % 26], i, i + 0.5, 0.9) for i in range(3600)]
    address = sound_of(tmp_path / "a b" / "hour.wav", 3600.0, tmp_path / "out")
    assert address == "../a%20b/hour.wav"
    assert len(page(Timeline("hour.wav", scores, events, random.random(90_000)), address)) < 5_000_000
