"""Clips on disk: real files of the right length, the same whoever made them, kept on a second run."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import av
import pytest

from peav.errors import MissingSpeechError, WorldError
from peav.synth.world import generate, speech, write
from peav.synth.world.splits import SPLITS
from peav.synth.world.voices import VOICES

CLIPS = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("world"), CLIPS, 11)


def rows(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def files(manifest: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((manifest.parent / "media").iterdir())}


def test_rows_are_complete_ordered_and_shared_80_10_10(made: Path) -> None:
    found = rows(made)
    assert [row["split"] for row in found] == ["train"] * 16 + ["validation"] * 2 + ["test"] * 2
    assert [row["id"] for row in found[:3]] == ["train-000000", "train-000001", "train-000002"]
    for row in found:
        assert set(row["captions"]) == {"audio", "video", "audio_video"}
        assert row["source"] == "peav world seed 11"
        assert row["license"] == "CC0-1.0"
        assert (made.parent / row["path"]).is_file()
        for event in row["events"]:
            assert 0 <= event["onset"] < event["offset"] <= row["duration"]
            assert isinstance(event["visible"], bool)
        spoken = [word["word"] for word in row["words"]]
        assert spoken == (row["transcript"] or "").split()
        assert all(0 <= word["start"] <= word["end"] <= row["duration"] for word in row["words"])


def test_files_decode_to_their_duration(made: Path) -> None:
    for row in rows(made):
        with av.open(str(made.parent / row["path"])) as file:
            assert file.duration == pytest.approx(row["duration"] * 1e6, abs=2)
            has = {stream.type for stream in file.streams}
            assert has == {kind for kind in ("audio", "video") if row["captions"][kind]}
            if "video" in has:
                frames = [frame.time for frame in file.decode(video=0)]
                assert frames == pytest.approx([number * 0.08 for number in range(round(row["duration"] / 0.08))])
        if "audio" in has:
            with av.open(str(made.parent / row["path"])) as file:
                assert file.streams.audio[0].rate == 48_000
                assert file.streams.audio[0].channels == 1


@pytest.mark.slow
def test_another_run_makes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = generate(tmp_path, CLIPS, 11)
    assert again.read_text() == made.read_text()
    assert files(again) == files(made)


@pytest.mark.slow
def test_several_processes_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_WORTH_A_PROCESS", 10)
    alone = generate(tmp_path / "one", 20, 5, splits=("test",))
    shared = generate(tmp_path / "two", 20, 5, splits=("test",), jobs=2)
    assert shared.read_text() == alone.read_text()
    assert files(shared) == files(alone)


def test_a_second_run_keeps_what_is_there_and_adds_what_is_missing(made: Path, tmp_path: Path) -> None:
    manifest = generate(tmp_path, 3, 11, splits=("train",))
    kept = tmp_path / "media" / Path(rows(manifest)[0]["path"]).name
    kept.write_bytes(b"untouched")
    (tmp_path / rows(manifest)[1]["path"]).unlink()
    generate(tmp_path, 2, 11, splits=("test",))
    found = rows(generate(tmp_path, 4, 11, splits=("train",)))
    assert [row["id"] for row in found] == [*(f"train-{k:06d}" for k in range(4)), "test-000000", "test-000001"]
    assert kept.read_bytes() == b"untouched"
    whole = files(made)
    assert all(body == whole[name] for name, body in files(manifest).items() if name != kept.name and name in whole)
    assert not list(tmp_path.rglob("*.tmp"))


def test_another_world_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    generate(tmp_path, 1, 1)
    with pytest.raises(WorldError, match="choose an empty folder"):
        generate(tmp_path, 1, 2)


def test_unknown_splits_and_no_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=f"choose from {', '.join(SPLITS)}"):
        generate(tmp_path, 1, 1, splits=("tset",))
    with pytest.raises(WorldError, match="at least 1"):
        generate(tmp_path, 0, 1)


def test_without_espeak_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *rest, **named)

    speech._installation.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingSpeechError, match=r"pip install 'peav\[world\]'"):
        speech.say("hello", VOICES[0])
    speech._installation.cache_clear()


@pytest.mark.parametrize("voice", VOICES, ids=lambda voice: voice.name)
def test_every_voice_speaks_and_marks_each_word(voice: Any) -> None:
    spoken = speech.say("the small dog found a red boat", voice)
    assert [word.word for word in spoken.words] == ["the", "small", "dog", "found", "a", "red", "boat"]
    assert all(one.end == other.start for one, other in zip(spoken.words[:-1], spoken.words[1:], strict=True))
    assert 1.0 < spoken.duration < 3.5
