"""The world as a recipe's source: files and tars hold the same clips, and say which captions a machine wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peav.data.places import PlaceContext
from peav.media import probe
from peav.synth.world.place import World, WorldTars


@pytest.mark.slow
def test_tars_hold_the_clips_of_the_files_and_are_found_again(tmp_path: Path) -> None:
    context = PlaceContext(str(tmp_path / "cache"))
    folder = str(tmp_path / "world")
    files = {row.id: row for row in World(folder, 4, 1, seed=2, machine=True).rows(context)}
    place = WorldTars(folder, 4, 1, seed=2, machine=True, tars=2)
    packed = place.rows(context)
    assert len(packed) == len(files) == 5
    for row in packed:
        other = files[row.id]
        bare = [replace(one, audio_path=None, video_path=None, extra={}) for one in (row, other)]
        assert bare[0] == bare[1]
        sound, same = probe(row.audio_path or row.video_path), probe(other.audio_path or other.video_path)
        assert (sound.has_audio, sound.has_video) == (same.has_audio, same.has_video)
        for kind, texts in row.captions.items():
            assert row.synthetic.get(kind, []) == texts[1:]
    tars = {path: path.stat().st_mtime_ns for path in (tmp_path / "world").glob("*.tar")}
    assert len(tars) == 2
    assert place.rows(context) == packed
    assert {path: path.stat().st_mtime_ns for path in tars} == tars
