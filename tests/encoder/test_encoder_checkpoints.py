"""Loading, saving, uploading; ids and cards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from random_model import close, random_encoder

import peav
from peav.checkpoint import CheckpointError
from peav.encoder import Encoder


def test_save_and_load_give_the_same_bits(encoder: Encoder, files: dict[str, Path], tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "model")
    loaded = peav.load(str(tmp_path / "model"), device="cpu")
    assert loaded.model_id == encoder.model_id
    weights = encoder.model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in loaded.model.state_dict().items())
    # Weights that lie elsewhere in memory may be multiplied in another order: equal bits are of one way of loading.
    again = peav.load(str(tmp_path / "model"), device="cpu")
    assert np.array_equal(loaded.encode(files["both"]), again.encode(files["both"]))
    assert close(loaded.encode(files["both"]), encoder.encode(files["both"]))
    assert np.array_equal(loaded.encode_text("rain"), again.encode_text("rain"))
    assert close(loaded.encode_text("rain"), encoder.encode_text("rain"))


def test_bfloat16_is_near_and_has_the_same_id(encoder: Encoder, files: dict[str, Path], tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "model")
    half = peav.load(str(tmp_path / "model"), device="cpu", dtype=torch.bfloat16)
    row, wanted = half.encode(files["both"]), encoder.encode(files["both"])
    assert row.dtype == np.float32
    assert row @ wanted / np.linalg.norm(row) / np.linalg.norm(wanted) > 0.98
    assert half.model_id == encoder.model_id


def test_other_weights_have_another_id(encoder: Encoder) -> None:
    assert random_encoder(seed=1).model_id != encoder.model_id


def test_nothing_to_load_is_one_clear_error(golden: Path) -> None:
    with pytest.raises(CheckpointError, match="no directory"):
        peav.load("/no/such/model")
    with pytest.raises(CheckpointError, match="PE-A-Frame"):
        peav.load(str(golden / "pe-a-frame-perception_models"))


@pytest.mark.slow
def test_golden_checkpoints_embed_files(golden: Path, files: dict[str, Path]) -> None:
    layouts = [peav.load(str(golden / f"pe-av-{layout}")) for layout in ("perception_models", "transformers")]
    rows = [model.encode(files["both"], window=None) for model in layouts]
    assert close(rows[0], rows[1])


def test_the_hub_upload_is_what_save_pretrained_writes(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is the one thing that cannot run for real here."""
    sent: dict[str, object] = {}

    class Api:
        def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
            sent["repo"] = (repo_id, private, exist_ok)

        def upload_folder(self, repo_id: str, folder_path: str, revision: str | None) -> object:
            sent["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            sent["card"] = (Path(folder_path) / "README.md").read_text()
            sent["config"] = json.loads((Path(folder_path) / "config.json").read_text())["format"]
            return type("Commit", (), {"commit_url": "https://hub/commit/1"})()

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert encoder.push_to_hub("me/tiny", private=True) == "https://hub/commit/1"
    assert sent["repo"] == ("me/tiny", True, True)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(sent["files"])  # type: ignore[arg-type]
    assert sent["config"] == "peav"
    assert "\n# me/tiny\n" in str(sent["card"])
    assert 'peav.load("me/tiny")' in str(sent["card"])


def test_a_model_loads_from_a_path_and_says_its_dtype(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "model")
    loaded = peav.load(tmp_path / "model", device="cpu", dtype="bfloat16")
    assert loaded.name == str(tmp_path / "model")
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}
    assert isinstance(loaded, peav.Encoder)
    for wrong in ("int8", "half", torch.int8):
        with pytest.raises(ValueError, match="no dtype"):
            peav.load(tmp_path / "model", dtype=wrong)


def test_a_card_is_called_as_asked_and_goes_with_an_unchanged_model(encoder: Encoder, tmp_path: Path) -> None:
    tiny = peav.load("tiny", device="cpu")
    tiny.save_pretrained(tmp_path / "copy", name="barker")
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "\n# barker\n" in card
    assert f'peav.load("{tmp_path / "copy"}")' in card
    assert "**Figures**" in card
    with torch.no_grad():
        tiny.model.audio.codec.state_dict()[next(iter(tiny.model.audio.codec.state_dict()))].add_(1)
    tiny.save_pretrained(tmp_path / "changed")
    assert "**Figures**" not in (tmp_path / "changed" / "README.md").read_text()
    encoder.save_pretrained(tmp_path / "fresh")
    assert "# fresh\n\nA PE-AV model" in (tmp_path / "fresh" / "README.md").read_text()
