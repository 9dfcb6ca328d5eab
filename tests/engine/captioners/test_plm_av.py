"""The captioner `plm_av` says of a clip what `peav.Captioner` says of its file, and `earlier` what a row says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media.make import pictures, tone, write_video

from peav.data.manifest import Row
from peav.engine.captioners.earlier import Earlier
from peav.engine.clip import Answer, Clip, Sample
from peav.errors import CheckpointError
from peav.features.decode import Cut, decode


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="pip install transformers")
    from random_captioner import save_captioner

    return save_captioner(tmp_path_factory.mktemp("plm"))


def test_a_clip_is_told_of_by_the_streams_of_its_kind(model: Path, tmp_path: Path) -> None:
    from peav.captioner import Captioner
    from peav.engine.captioners.plm_av import PlmAv

    paths = [write_video(tmp_path / f"{n}.mp4", pictures(20), sound=tone(0.8, seed=n)) for n in range(3)]
    cut = Cut(16, 336, 30.0)
    clips = [Clip(path.name, Row(path.name, audio_path=path, video_path=path)) for path in paths]
    samples = [Sample(clip, decode(path, path, None, None, cut)) for clip, path in zip(clips, paths, strict=True)]
    mute = Sample(Clip("mute", Row("mute")), decode(None, paths[0], None, None, cut))
    captioner = Captioner.load(model, device="cpu")
    for kind in ("audio", "audio_video"):
        stage = PlmAv(name="plm", kind=kind, model=str(model), device="cpu", max_new_tokens=12)
        stage.setup()
        found = dict(stage([samples[0], mute, *samples[1:]]))
        assert found[1] == Answer("", attempts=0)
        texts = [answer.value for place, answer in sorted(found.items()) if place != 1 and isinstance(answer, Answer)]
        assert len(texts) == 3
        assert all(texts)
        if kind == "audio":
            waveforms = [sample.media.waveform for sample in samples if sample.media]
            assert texts == captioner.caption(waveforms, sampling_rate=48_000, max_new_tokens=12)


def test_it_is_known_by_its_files_and_a_wrong_path_is_said(model: Path, tmp_path: Path) -> None:
    from peav.engine.captioners.plm_av import PlmAv

    first = PlmAv(name="plm", model=str(model))
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in model.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    assert PlmAv(name="plm", model=str(copied)).identity() == first.identity()
    (copied / "config.json").write_text("{}")
    assert PlmAv(name="plm", model=str(copied)).identity() != first.identity()
    assert first.model_name.startswith("captioner@")
    with pytest.raises(CheckpointError, match="no directory"):
        PlmAv(name="plm", model=str(tmp_path / "nowhere" / "x")).setup()


def test_an_earlier_runs_captions_are_weak_ones_of_their_kind() -> None:
    row = Row("a", captions={"audio": ["by people", "a dog"]}, synthetic={"audio": ["a dog", "a cat"]})
    stage = Earlier(name="heard", kind="audio")
    assert [answer for _, answer in stage([Sample(Clip("a", row), None)])] == [Answer("a dog")]
    assert [answer for _, answer in Earlier(name="seen", kind="video")([Sample(Clip("a", row), None)])] == [Answer("")]
    assert np.all(stage.request(Clip("a", row)) == ["a dog", "a cat"])
