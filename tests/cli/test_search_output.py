"""What `peav search` gives to other programs and to people who would rather look and listen."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peav.media import load_audio, load_frames, probe

Run = Callable[..., Any]


def test_csv_holds_what_json_holds(peav: Run, as_json: Run, library: Path) -> None:
    hits = as_json("search", library, "rain")
    lines = list(csv.DictReader(io.StringIO(peav("search", library, "rain", "--csv").stdout)))
    assert [line["path"] for line in lines] == [hit["path"] for hit in hits]
    for name in ("start", "end", "score"):
        assert [float(line[name]) for line in lines] == [hit[name] for hit in hits]


def test_by_file_gives_the_best_window_of_each(as_json: Run, library: Path) -> None:
    hits, best = as_json("search", library, "rain"), {}
    for hit in hits:
        best.setdefault(hit["path"], hit)
    assert len(best) < len(hits)
    assert as_json("search", library, "rain", "--by", "file") == list(best.values())
    assert as_json("search", library, "rain", "--by", "file", "--top", 2) == list(best.values())[:2]


@pytest.mark.slow
def test_what_scores_too_little_is_left_out(peav: Run, as_json: Run, library: Path) -> None:
    hits = as_json("search", library, "rain")
    least = hits[2]["score"]
    assert as_json("search", library, "rain", "--min-score", least) == hits[:3]
    assert as_json("search", library, "rain", "--min-score", 1e9) == []
    assert "nothing scores 1e+09 or more" in peav("search", library, "rain", "--min-score", 1e9).stdout


def test_a_table_for_other_programs_breaks_no_name_and_draws_no_bars(peav: Run, library: Path, folder: Path) -> None:
    for name in ("sound.wav", "more/long.flac"):
        lines = peav("search", library, "rain").stdout.splitlines()
        assert any(str(folder / name) in line for line in lines)
    assert "\u2501" not in "".join(lines)


def test_a_playlist_begins_each_file_at_its_moment(peav: Run, as_json: Run, library: Path, tmp_path: Path) -> None:
    hits = as_json("search", library, "rain")
    assert peav("search", library, "rain", "--m3u", tmp_path / "a.m3u").exit_code == 0
    head, *lines = (tmp_path / "a.m3u").read_text().splitlines()
    assert head == "#EXTM3U"
    assert lines[3::4] == [hit["path"] for hit in hits]
    assert [float(line.partition("=")[2]) for line in lines[1::4]] == pytest.approx(
        [hit["start"] for hit in hits], abs=1e-3
    )


@pytest.mark.slow
def test_cut_clips_hold_the_windows_that_were_found(peav: Run, as_json: Run, library: Path, tmp_path: Path) -> None:
    hits = as_json("search", library, "rain")
    assert peav("search", library, "rain", "--clips", tmp_path / "cut").exit_code == 0
    clips = sorted((tmp_path / "cut").iterdir())
    assert len(clips) == len(hits)
    for clip, hit in zip(clips, hits, strict=True):
        source, made = probe(hit["path"]), probe(clip)
        assert (made.has_audio, made.has_video) == (source.has_audio, source.has_video)
        assert made.duration == pytest.approx(hit["end"] - hit["start"], abs=0.1)
        if clip.suffix == ".flac":  # to the last bit but the sixteenth
            expected = load_audio(hit["path"], start=hit["start"], end=hit["end"])
            assert np.abs(load_audio(clip) - expected).max() <= 2**-15
        else:
            expected = load_frames(hit["path"], num_frames=1, start=hit["start"]).pixels[0].astype(int)
            found = load_frames(clip, num_frames=1).pixels[0].astype(int)
            assert np.abs(found - expected[: found.shape[0], : found.shape[1]]).mean() < 12


def test_a_page_holds_a_player_for_each_hit_with_the_window_in_it(
    peav: Run, as_json: Run, library: Path, tmp_path: Path
) -> None:
    hits = as_json("search", library, "<b>rain</b>")
    assert peav("search", library, "<b>rain</b>", "--html", tmp_path / "a.html").exit_code == 0
    text = (tmp_path / "a.html").read_text()
    assert "<b>rain" not in text
    assert not re.search(r"(src|href)=.?https?:", text)
    players = re.findall(
        r'<(audio|video) controls preload="metadata" aria-label="([^"]+)" src="data:[^,]+,([^"]+)"', text
    )
    assert len(players) == len(hits)
    for (kind, label, data), hit in zip(players, hits, strict=True):
        clip = base64.b64decode(data)
        info = probe(clip)
        assert Path(hit["path"]).name in label
        assert info.has_video == (kind == "video") == probe(hit["path"]).has_video
        assert info.duration == pytest.approx(hit["end"] - hit["start"], abs=0.2)
        if info.has_audio:  # it begins at the moment
            heard, wanted = load_audio(clip), load_audio(hit["path"], start=hit["start"], end=hit["end"])
            count = min(len(heard), len(wanted))
            assert np.corrcoef(heard[:count], wanted[:count])[0, 1] > 0.9


@pytest.mark.slow
def test_a_file_that_has_gone_is_said_and_the_other_hits_are_there(
    peav: Run, model: str, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "media"
    copy.mkdir()
    for name in ("a.wav", "b.wav"):
        (copy / name).write_bytes((folder / "sound.wav").read_bytes())
    assert peav("embed", copy, "-o", tmp_path / "lib.parquet", "--model", model).exit_code == 0
    (copy / "a.wav").unlink()
    result = peav(
        "search", tmp_path / "lib.parquet", "rain", "--html", tmp_path / "a.html", "--clips", tmp_path / "cut"
    )
    assert result.exit_code == 0
    assert "a.wav: no such file" in result.stderr
    assert len(list((tmp_path / "cut").iterdir())) == 1
    assert (tmp_path / "a.html").read_text().count("<audio") == 1
