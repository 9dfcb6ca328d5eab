"""Rows are cut where they must be and where shots and silences say; what is timed goes with the sound it belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise_clip import write_clip

from peav.data.manifest import Row
from peav.engine.segment import Segmenter, known_duration, probed_duration
from peav.errors import MediaError, RecipeError
from peav.media import load_frames
from peav.media.write import write_media
from peav.types import Event, Word

ROW = Row("a", Path("/a.mp4"), Path("/a.mp4"))


def test_a_row_that_is_short_enough_stays_as_it_is() -> None:
    row = replace(ROW, start=2.0, captions={"audio": ["rain"]})
    (clip,) = Segmenter().clips(row, [], 30.0)
    assert (clip.id, clip.row, clip.measures) == ("a", row, {"duration": 30.0})


def test_a_long_row_becomes_even_segments_with_ids_and_times_of_their_own() -> None:
    clips = Segmenter().clips(replace(ROW, start=10.0), [], 61.0)
    assert [clip.id for clip in clips] == ["a#10.000-30.333", "a#30.333-50.666", "a#50.666-71.000"]
    assert [(clip.row.start, clip.row.end) for clip in clips] == [(10.0, 30.333), (30.333, 50.666), (50.666, 71.0)]
    assert [clip.row.id for clip in clips] == [clip.id for clip in clips]
    assert [clip.measures["duration"] for clip in clips] == [20.333, 20.333, 20.334]


@given(st.floats(0.05, 500), st.floats(0, 100), st.lists(st.floats(0, 500)), st.floats(0.1, 5.0), st.floats(10.0, 30.0))
def test_segments_touch_cover_the_row_and_keep_their_bounds(
    duration: float, start: float, cuts: list[float], shortest: float, longest: float
) -> None:
    segmenter = Segmenter(longest, shortest)
    clips = segmenter.clips(replace(ROW, start=start), cuts, duration)
    assert clips == segmenter.clips(replace(ROW, start=start), sorted(cuts, reverse=True), duration)
    if len(clips) == 1:
        assert duration <= longest + 0.001
        return
    edges = [clip.row.start for clip in clips] + [clips[-1].row.end]
    assert [clip.row.end for clip in clips[:-1]] == edges[1:-1]
    assert edges[0] == pytest.approx(start, abs=0.001)
    assert edges[-1] == pytest.approx(start + duration, abs=0.002)
    lengths = np.diff(np.array(edges, float))
    assert lengths.max() <= longest + 0.002
    assert lengths.min() >= shortest - 0.002
    assert len({clip.id for clip in clips}) == len(clips)


def test_events_and_words_go_with_their_segment_and_captions_of_the_whole_do_not() -> None:
    row = replace(
        ROW,
        captions={"audio": ["rain, then a dog"]},
        plain=("rain, then a dog",),
        synthetic={"audio": ["rain"]},
        transcript="one two three",
        words=(Word("one", 1.0, 2.0), Word("two", 9.0, 10.4), Word("three", 15.0, 16.0)),
        events=(Event("rain", 0.0, 12.0), Event("dog", 14.0, 15.0, 0.7, ("a bark",))),
        extra={"duration": 20.0, "fold": 3},
    )
    first, second = (clip.row for clip in Segmenter().clips(row, [10.0], 20.0))
    assert (first.events, second.events) == (
        (Event("rain", 0.0, 10.0),),
        (Event("rain", 0.0, 2.0), Event("dog", 4.0, 5.0, 0.7, ("a bark",))),
    )
    assert first.words == (Word("one", 1.0, 2.0), Word("two", 9.0, 10.0))
    assert second.words == (Word("three", 5.0, 6.0),)
    assert (first.transcript, second.transcript) == ("one two", "three")
    assert first.extra == {"duration": 10.0, "fold": 3}
    for part in (first, second):
        assert (part.captions, part.plain, part.synthetic) == ({}, (), {})


def test_a_transcript_without_times_passes_to_no_segment() -> None:
    assert [c.row.transcript for c in Segmenter().clips(replace(ROW, transcript="a b"), [4.0], 8.0)] == [None, None]


def test_a_duration_is_taken_from_the_row_where_the_row_knows_it() -> None:
    assert known_duration(replace(ROW, start=2.0, end=5.5)) == 3.5
    assert known_duration(replace(ROW, extra={"duration": 12.5})) == 12.5
    # A file's or a clip's? Nobody knows.
    assert known_duration(replace(ROW, start=2.0, extra={"duration": 12.5})) is None
    assert known_duration(ROW) is None


def test_a_duration_is_else_that_of_the_longest_file(tmp_path: Path) -> None:
    write_media(tmp_path / "a.wav", "wav", audio=[np.zeros(48000 * 3, np.int16)])
    video = write_clip(tmp_path / "b.mp4", 2.0, 1, sound=False)
    assert probed_duration(Row("a", tmp_path / "a.wav", video)) == pytest.approx(3.0, abs=0.01)
    assert probed_duration(Row("a", None, video, start=0.5)) == pytest.approx(1.5, abs=0.01)


def test_nothing_is_decoded_where_no_cuts_are_asked_for(tmp_path: Path) -> None:
    assert Segmenter().cuts_by == {}
    with pytest.raises(MediaError):
        Segmenter(silences=True).cuts(Row("a", tmp_path / "gone.wav"))


def test_bounds_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(RecipeError, match="min_seconds"):
        Segmenter(max_seconds=10.0, min_seconds=6.0)


def test_silences_are_cut_in_their_middle_and_not_at_the_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sound = (3000 * rng.standard_normal(48000 * 10)).astype(np.int16)
    for first, last in ((0.0, 1.0), (3.0, 4.0), (6.0, 6.2), (9.0, 10.0)):
        sound[round(first * 48000) : round(last * 48000)] = 0
    write_media(tmp_path / "a.wav", "wav", audio=[sound])
    row = Row("a", tmp_path / "a.wav")
    assert Segmenter(silences=True).cuts(row) == pytest.approx([3.5], abs=0.05)
    assert Segmenter(silences=True, silence_seconds=0.1).cuts(row) == pytest.approx([3.5, 6.1], abs=0.05)
    assert Segmenter(silences=True).cuts(replace(row, start=2.0, end=8.0)) == pytest.approx([1.5], abs=0.05)


def joined(path: Path, parts: list[np.ndarray]) -> Path:
    """A video of these frames one after the other."""
    write_media(path, "mp4", video=np.concatenate(parts))
    return path


def frames_of(shared: Path, name: str, start: float) -> np.ndarray:
    path = shared / "data" / "av_misc" / "video" / f"{name}.mp4"
    return load_frames(path, fps=25, start=start, end=start + 1.6, size=96).pixels


@pytest.mark.slow
def test_shots_of_real_clips_are_cut_where_they_were_joined_and_nowhere_else(shared: Path, tmp_path: Path) -> None:
    shots = [("pe_train_a", 2), ("mdn_frog", 1), ("chaplin", 3), ("rooftop_b", 1), ("mdn_stream", 0), ("tos_20", 2)]
    parts = [frames_of(shared, *shot) for shot in shots]
    path = joined(tmp_path / "shots.mp4", parts)
    ends = np.cumsum([len(part) for part in parts])[:-1] / 25
    assert Segmenter(shots=True).cuts(Row("a", path, path)) == pytest.approx(ends.tolist(), abs=0.01)
    # A segment begins with the first frame of its shot, though times are rounded.
    clips = Segmenter(shots=True).clips(Row("a", path, path), Segmenter(shots=True).cuts(Row("a", path, path)), 9.6)
    for clip, part in zip(clips, parts, strict=True):
        found = load_frames(path, start=clip.row.start or 0.0, end=clip.row.end).pixels
        assert len(found) == len(part)


@pytest.mark.slow
def test_flashes_fades_and_slow_changes_of_light_are_no_shots(shared: Path, tmp_path: Path) -> None:
    still = frames_of(shared, "rooftop_b", 1)
    flash = still.copy()
    flash[20] = 255
    light = np.linspace(0.2, 1.0, len(still))[:, None, None, None]
    for name, frames in (("flash", flash), ("fade", (still * light).astype(np.uint8))):
        path = joined(tmp_path / f"{name}.mp4", [frames])
        assert Segmenter(shots=True).cuts(Row("a", None, path)) == []
