"""Promises for bad input: a typed error that names the file and the fix; never a crash, a hang or a silent result."""

from __future__ import annotations

import io
import os
import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media.make import bad_files, good_files, pictures, tone, write_audio, write_video

from peav.media import (
    MediaError,
    MediaWarning,
    MissingFileError,
    NoAudioStreamError,
    NoVideoStreamError,
    UnreadableFileError,
    UnsupportedInputError,
    ZeroLengthError,
    iter_audio,
    iter_frames,
    load_audio,
    load_frames,
    probe,
)
from peav.media.formats import WHITELIST


def use(source: Any) -> tuple[int, int]:
    """Decode all of a source, as a caller would who does not know what is in it: (samples, frames)."""
    info = probe(source)
    samples = sum(len(waveform) for _, waveform in iter_audio(source)) if info.has_audio else 0
    frames = sum(len(part) for _, part in iter_frames(source, size=16)) if info.has_video else 0
    return samples, frames


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, type[Exception]]]:
    return bad_files(tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return good_files(tmp_path_factory.mktemp("good"))


def test_there_are_at_least_eighteen_kinds_of_bad_file(bad: dict[str, tuple[Path, type[Exception]]]) -> None:
    assert len(bad) >= 18


def test_every_bad_file_is_its_typed_error(bad: dict[str, tuple[Path, type[Exception]]]) -> None:
    found = {}
    for name, (path, _) in bad.items():
        with pytest.raises(MediaError) as caught:
            use(path)
        found[name] = caught.type
        assert str(path) in str(caught.value), "the message names the file"
        assert len(str(caught.value)) < 400 + len(str(path))
        assert not isinstance(caught.value, av.FFmpegError)
    assert found == {name: error for name, (_, error) in bad.items()}


def test_bad_bytes_are_the_same_error_as_the_bad_file(bad: dict[str, tuple[Path, type[Exception]]]) -> None:
    for name, (path, error) in bad.items():
        if path.is_file() and path.suffix not in (".aac", ".flac"):  # these are known by the name alone
            with pytest.raises(error, match="<bytes>"):
                use(path.read_bytes())
            with pytest.raises(error), io.BytesIO(path.read_bytes()) as file:
                use(file)
            assert name


@pytest.mark.slow
def test_every_good_file_decodes_without_a_word(good: list[Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in good:
            samples, frames = use(path)
            assert samples or frames, path.name
            assert load_audio(path).std() > 0.05 if samples else True


def test_cover_art_is_not_a_video(good: list[Path]) -> None:
    for path in good:
        if path.stem == "cover":
            assert not probe(path).has_video
            with pytest.raises(NoVideoStreamError, match=rf"{path.name}: no video stream \(its picture is cover art\)"):
                load_frames(path)


def test_the_stream_that_is_not_there_is_named(tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "a.wav", tone(0.1))
    silent = write_video(tmp_path / "b.mp4", pictures(3))
    with pytest.raises(NoVideoStreamError, match=r"a\.wav: no video stream; use it as audio only"):
        load_frames(sound)
    with pytest.raises(NoAudioStreamError, match=r"b\.mp4: no audio stream; use it as video only"):
        load_audio(silent)


@pytest.mark.parametrize("function", [probe, load_audio, load_frames])
@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("nowhere/a.wav", MissingFileError, "nowhere/a.wav: no such file"),
        ("pyproject.toml/a.wav", MissingFileError, "no such file"),
        ("", UnreadableFileError, "a folder"),
        ("/dev/zero", UnreadableFileError, "a device"),
        ("a\0b.wav", UnreadableFileError, "cannot be read"),
        ("x" * 5000, UnreadableFileError, "cannot be read"),
        ("https://example.org/a.mp4", UnsupportedInputError, "download the file"),
        ("rtsp://example.org/live", UnsupportedInputError, "download the file"),
        ("concat:a.wav|b.wav", MissingFileError, "no such file"),
        ("pipe:0", MissingFileError, "no such file"),
        (b"", ZeroLengthError, "<bytes>"),
        (io.BytesIO(b""), ZeroLengthError, "<file object>"),
        (io.StringIO("text"), UnsupportedInputError, "mode 'rb'"),
        (None, UnsupportedInputError, "NoneType"),
        (17, UnsupportedInputError, "int"),
        (np.zeros(9), UnsupportedInputError, "ndarray"),
    ],
)
def test_what_cannot_be_a_source_is_a_typed_error(
    function: Any, source: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        function(source)


def test_a_folder_is_a_typed_error_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="a folder, not a file; give the files in it"):
        load_audio(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_typed_error(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", tone(0.1))
    path.chmod(0)
    with pytest.raises(UnreadableFileError, match="check its permissions"):
        load_audio(path)


def test_closed_and_unseekable_file_objects_are_typed_errors(tmp_path: Path) -> None:
    with write_audio(tmp_path / "a.wav", tone(0.1)).open("rb") as file:
        pass
    with pytest.raises(UnsupportedInputError, match=r"a\.wav: the file object is closed"):
        load_audio(file)
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read, "rb") as pipe, pytest.raises(UnsupportedInputError, match="give its bytes"):
        load_audio(pipe)


def test_tags_need_not_be_utf8(tmp_path: Path) -> None:
    data = write_audio(tmp_path / "a.wav", tone(0.1)).read_bytes()
    tag = b"INFOINAM" + struct.pack("<I", 6) + b"caf\xe9\xff\0"
    data += b"LIST" + struct.pack("<I", len(tag)) + tag
    (tmp_path / "a.wav").write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    assert probe(tmp_path / "a.wav").has_audio
    assert len(load_audio(tmp_path / "a.wav")) == 4800


@pytest.mark.parametrize("length", [2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_box_that_claims_more_than_any_file_holds_is_the_last_one(tmp_path: Path, length: int) -> None:
    path = write_audio(tmp_path / "a.mp4", tone(0.5), codec="aac")
    whole = load_audio(path)
    data = path.read_bytes() + struct.pack(">I4sQ", 1, b"free", length) + bytes(100)
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaWarning)
        for source in (path, data, io.BytesIO(data)):
            assert np.array_equal(load_audio(source), whole)


def test_every_format_that_is_opened_is_one_of_ffmpegs() -> None:
    # The newest are not in every FFmpeg; one that is misspelled would be in none.
    known = {part for name in av.formats_available for part in name.split(",")}
    assert set(WHITELIST.split(",")) - known <= {"webp_anim"}


@pytest.fixture(scope="module")
def seeds(good: list[Path]) -> list[bytes]:
    names = ("movie.mp4", "web.webm", "cover.mp3", "voice.opus", "music.flac", "old.avi", "broadcast.ts", "stereo.wav")
    return [path.read_bytes() for path in good if path.name in names]


@pytest.mark.filterwarnings("ignore::peav.media.MediaWarning")
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_damage_is_a_result_or_a_typed_error(data: st.DataObject, seeds: list[bytes]) -> None:
    broken = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(broken) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=64))
        broken[at : at + len(patch)] = patch
    del broken[data.draw(st.integers(1, len(broken))) :]
    with suppress(MediaError):
        samples, frames = use(bytes(broken))
        assert samples < 10 * 48000
        assert frames < 1000
