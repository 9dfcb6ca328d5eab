from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peav.data.manifest import Row, read_manifest
from peav.encoder import Encoder
from peav.eval.embedder import FileEmbedder
from peav.media import MissingFileError, load_audio

ALL = ("audio", "video", "audio_video")


def test_streams_are_what_the_files_hold(encoder: Encoder, manifest: Path) -> None:
    rows = read_manifest(manifest)
    embedder = FileEmbedder(encoder)

    def streams(row: Row) -> frozenset[str]:
        return embedder.streams([row])[0]

    assert streams(rows[0]) == set(ALL)
    assert streams(rows[6]) == {"video"}
    assert streams(rows[7]) == {"audio"}
    assert streams(replace(rows[0], video_path=None)) == {"audio"}
    assert streams(replace(rows[0], video_path=rows[1].video_path)) == set(ALL)


@pytest.mark.slow
def test_rows_are_embedded_as_the_encoder_embeds_their_files(encoder: Encoder, manifest: Path) -> None:
    rows = read_manifest(manifest)[4:]
    media = FileEmbedder(encoder, batch_size=3).media(rows, ALL)
    paths = [row.audio_path for row in rows]
    expected = {"audio": encoder.encode_audio([paths[i] for i in (0, 1, 3)])}
    expected["video"] = encoder.encode_video([paths[i] for i in (0, 1, 2)])
    expected["audio_video"] = encoder.encode_audio_video(paths[:2])
    for space, keep in (("audio", [0, 1, 3]), ("video", [0, 1, 2]), ("audio_video", [0, 1])):
        np.testing.assert_allclose(media[space][keep], expected[space], rtol=1e-4, atol=1e-5)
        missing = [i for i in range(4) if i not in keep]
        assert np.isnan(media[space][missing]).all()


@pytest.mark.slow
def test_a_clip_is_embedded_once_in_each_space(encoder: Encoder, manifest: Path) -> None:
    rows = read_manifest(manifest)[:3]
    embedded: list[int] = []
    embedder = FileEmbedder(encoder, progress=lambda done, total: embedded.append(total) if done == total else None)
    first = embedder.media(rows[:2], ["audio"])["audio"]
    again = embedder.media([rows[1], rows[2], rows[0], rows[1]], ["audio"])["audio"]
    assert embedded == [2, 1]
    assert np.array_equal(again[[2, 0, 3]], first[[0, 1, 1]])
    embedder.media(rows, ["audio", "video"])
    embedder.media(rows, ["video"])
    assert embedded == [2, 1, 3]


@pytest.mark.slow
def test_a_span_is_embedded_as_if_it_were_the_whole_file(encoder: Encoder, manifest: Path) -> None:
    whole = read_manifest(manifest)[0]
    span = replace(whole, start=0.4, end=0.8)
    media = FileEmbedder(encoder).media([span, whole], ["audio"])["audio"]
    waveform = load_audio(whole.audio_path, start=0.4, end=0.8)
    np.testing.assert_allclose(media[0], encoder.encode_audio(waveform, sampling_rate=48000), rtol=1e-4, atol=1e-5)
    assert np.abs(media[0] - media[1]).max() > 1e-3


@pytest.mark.slow
def test_sound_and_pictures_may_come_from_two_files(encoder: Encoder, manifest: Path) -> None:
    one, two = read_manifest(manifest)[:2]
    row = Row("mixed", audio_path=one.audio_path, video_path=two.video_path)
    media = FileEmbedder(encoder).media([row], ["audio", "video"])
    np.testing.assert_allclose(media["audio"][0], encoder.encode_audio(one.audio_path), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(media["video"][0], encoder.encode_video(two.video_path), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_normalised_media_and_texts_have_unit_length(encoder: Encoder, manifest: Path) -> None:
    embedder = FileEmbedder(encoder, normalize=True)
    media = embedder.media(read_manifest(manifest)[:2], ["audio"])["audio"]
    np.testing.assert_allclose(np.linalg.norm(media, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedder.texts(["a dog"], "audio"), axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_progress_counts_every_row(encoder: Encoder, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peav.eval.embedder.DECODED_AT_ONCE", 2)
    seen: list[tuple[int, int]] = []
    rows = read_manifest(manifest)[:3] + [replace(row, video_path=None) for row in read_manifest(manifest)[:3]]
    FileEmbedder(encoder, progress=lambda done, total: seen.append((done, total))).media(rows, ["audio"])
    assert seen == [(1, 6), (2, 6), (3, 6), (5, 6), (6, 6)]


@pytest.mark.slow
def test_a_row_that_cannot_be_read_fails_alone(encoder: Encoder, manifest: Path, tmp_path: Path) -> None:
    good = read_manifest(manifest)[0]
    for bad in (Row("gone", tmp_path / "gone.wav"), Row("gone", tmp_path / "gone.mp4", tmp_path / "gone.mp4")):
        embedder = FileEmbedder(encoder)
        media = embedder.media([bad, good], ["audio"])["audio"]
        assert np.isnan(media).all(1).tolist() == [True, False]
        assert embedder.streams([bad, good]) == [frozenset(), frozenset(ALL)]
        ((row, error),) = embedder.failed.values()
        assert row == bad
        assert type(error) is MissingFileError
        assert str(bad.audio_path) in str(error)
