"""The AudioSet tagger: real YAMNet by tflite, a tiny model by ONNX; windows over the clip; files told by content."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peav.data.manifest import Row
from peav.engine.captioners.audio_tagger import AudioTagger, _said
from peav.engine.clip import Answer, Clip, Sample
from peav.errors import RecipeError
from peav.features.decode import Decoded
from peav.media import load_audio


def sample(waveform: np.ndarray | None) -> Sample:
    return Sample(Clip("a", Row("a")), Decoded(waveform, None))


def yamnet(shared: Path, **options: Any) -> AudioTagger:
    pytest.importorskip("ai_edge_litert")
    models = shared / "models"
    if not models.is_dir():
        pytest.skip("needs ../shared/models")
    return AudioTagger("y", str(models / "yamnet.tflite"), str(models / "yamnet_class_map.csv"), **options)


@pytest.fixture
def mean_and_loudest(tmp_path: Path) -> AudioTagger:
    """A model that scores `mean` by a window's mean and `Loud, very` by its maximum, and has a second output."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["samples"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["samples"], ["max"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["mean", "max"], ["scores"], axis=1),
        helper.make_node("Identity", ["mean"], ["embedding"]),
    ]
    tensor = helper.make_tensor_value_info
    outputs = [tensor("embedding", TensorProto.FLOAT, [1, 1]), tensor("scores", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph(nodes, "g", [tensor("samples", TensorProto.FLOAT, [1, "samples"])], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "m.onnx"))
    (tmp_path / "classes.txt").write_text("mean\nLoud, very\n")
    return AudioTagger("o", str(tmp_path / "m.onnx"), str(tmp_path / "classes.txt"), rate=48_000, window=1.0)


def test_yamnet_hears_a_dog(shared: Path) -> None:
    tagger = yamnet(shared)
    tagger.setup()
    dog = load_audio(shared / "data" / "esc10" / "audio" / "1-100032-A.opus")
    (_, heard), (_, soundless) = tagger([sample(dog), sample(None)])
    assert isinstance(heard, Answer)
    assert "dog" in heard.value
    assert soundless == Answer("")
    assert tagger.model_name == "yamnet.tflite@469be6a3421c"


def test_the_model_and_its_classes_must_fit_each_other(tmp_path: Path, shared: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("dog\ncat\n")
    tagger = yamnet(shared)
    tagger.classes = str(few)
    with pytest.raises(RecipeError, match="no output of 2 classes: give the file of classes that belongs to it"):
        tagger.setup()
    with pytest.raises(RecipeError, match="takes 15600 samples: leave window out"):
        yamnet(shared, window=2.0).setup()


def test_scores_are_the_mean_or_the_maximum_over_windows_the_last_of_which_ends_with_the_clip(
    mean_and_loudest: AudioTagger,
) -> None:
    sound = np.concatenate([np.zeros(60_000), np.full(48_000, 0.5)]).astype(np.float32)
    mean_and_loudest.setup()
    # Windows begin at 0, 24000, 48000 and 60000: the shares of each that sound are 0, 1/4, 3/4 and 1.
    np.testing.assert_allclose(mean_and_loudest.scores(sample(sound)), [0.5, 0.5], atol=1e-6)
    mean_and_loudest.pool = "mean"
    np.testing.assert_allclose(mean_and_loudest.scores(sample(sound)), [0.25, 0.375], atol=1e-6)
    assert mean_and_loudest.caption(sample(sound)) == Answer("loud or very and mean")
    mean_and_loudest.exclude = ["Loud, very"]
    assert mean_and_loudest.caption(sample(sound)) == Answer("mean")
    short = np.full(4800, 0.5, np.float32)
    np.testing.assert_allclose(mean_and_loudest.scores(sample(short)), [0.05, 0.5], atol=1e-6)
    mean_and_loudest.min_score = 0.9
    assert mean_and_loudest.caption(sample(sound)) == Answer("")


def test_a_model_of_any_length_needs_a_window(mean_and_loudest: AudioTagger) -> None:
    mean_and_loudest.window = None
    with pytest.raises(RecipeError, match="takes any length: give a window"):
        mean_and_loudest.setup()


def test_the_identity_follows_what_the_files_hold(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"one")
    (tmp_path / "c.txt").write_text("dog\n")
    shutil.copy(tmp_path / "a.onnx", tmp_path / "b.onnx")
    (tmp_path / "x.onnx").write_bytes(b"two")
    a, b, x = (AudioTagger("t", str(tmp_path / f"{n}.onnx"), str(tmp_path / "c.txt")).identity() for n in "abx")
    assert a == b != x
    assert a == AudioTagger("t", str(tmp_path / "a.onnx"), str(tmp_path / "c.txt"), threads=4).identity()


def test_class_names_are_said_as_words() -> None:
    names = ["Boat, Water vehicle", "Bark", "R&B", "Hi-hat"]
    assert [_said(name) for name in names] == ["boat or water vehicle", "bark", "R&B", "hi-hat"]


def test_what_cannot_be_used_is_named() -> None:
    with pytest.raises(RecipeError, match=r"model m\.pt: give a \.tflite or an \.onnx file"):
        AudioTagger("t", "m.pt", "c.txt")
    with pytest.raises(RecipeError, match=r"nowhere\.onnx: No such file or directory; check the path"):
        AudioTagger("t", "nowhere.onnx", "c.txt").identity()
    with pytest.raises(RecipeError, match="pool 'median': give mean or max"):
        AudioTagger("t", "m.onnx", "c.txt", pool="median")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="kind video: a tagger of sound alone"):
        AudioTagger("t", "m.onnx", "c.txt", kind="video")
