"""Timelines: every label has its band, every event its place, and the page holds all that it needs."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media.make import tone, write_audio

from peav.events import Event, FrameScores
from peav.events.render.page import encoded, page
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
    assert loudness(path, 1.0, 50).max() == 1.0


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
    text = page(timeline(), sound)
    assert text.count('class="band"') == 3
    assert "a &quot;loud&quot; &lt;siren&gt; &amp; rain" in text
    assert "<siren>" not in text
    assert re.search(r'<i style="left:0.000%;width:50.000%"', text)
    assert not re.search(r"https?://", text)
    assert 'data-onset="0.000" data-offset="2.000"' in text
    silent = page(Timeline("x", timeline().scores, [], timeline().wave), sound)
    assert "None of these was heard" in silent
