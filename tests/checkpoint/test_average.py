"""An average of checkpoints is the mean of every weight, and of one model's runs alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import tiny_peaframe, tiny_peav
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from typer.testing import CliRunner

from peav.checkpoint import CheckpointError, average, load_model, load_tokenizer, save_pretrained
from peav.cli.main import app


def tokenizer(word: str) -> Tokenizer:
    return Tokenizer(WordLevel({word: 0}, unk_token=word))


@pytest.mark.slow
@pytest.mark.parametrize("build", [tiny_peav, tiny_peaframe])
def test_every_weight_is_the_mean_of_the_same_weights(tmp_path: Path, build: type) -> None:
    models = [build(), build(), build()]
    for place, model in enumerate(models):
        torch.manual_seed(place)
        for weight in model.parameters():
            torch.nn.init.normal_(weight)
    paths = [save_pretrained(model, tmp_path / str(i), tokenizer("a")) for i, model in enumerate(models)]
    done = CliRunner().invoke(app, ["average", *map(str, paths), "-o", str(tmp_path / "mean")])
    assert done.exit_code == 0, done.output
    mean = load_model(tmp_path / "mean")
    states = [model.state_dict() for model in models]
    for name, weight in mean.state_dict().items():
        expected = torch.stack([state[name].double() for state in states]).sum(0) / 3
        assert torch.equal(weight, expected.float()), name
    kept = load_tokenizer(tmp_path / "mean")
    assert kept is not None
    assert kept.to_str() == tokenizer("a").to_str()


@pytest.mark.slow
def test_how_a_tokenizer_is_set_to_cut_and_pad_makes_no_other_tokenizer(tmp_path: Path) -> None:
    """As in checkpoints of earlier versions, which carry what their training had set."""
    changed = tokenizer("a")
    changed.enable_truncation(9)
    changed.enable_padding(pad_token="a")
    one = save_pretrained(tiny_peaframe(), tmp_path / "one", tokenizer("a"))
    two = save_pretrained(tiny_peaframe(), tmp_path / "two", changed)
    mean = average([one, two], tmp_path / "mean")
    assert (mean / "tokenizer.json").read_bytes() == (one / "tokenizer.json").read_bytes()
    assert json.loads((two / "tokenizer.json").read_text())["truncation"]["max_length"] == 9  # saved as it was


@pytest.mark.slow
def test_what_is_no_run_of_one_model_is_refused(tmp_path: Path) -> None:
    one, two = (save_pretrained(tiny_peav(), tmp_path / name, tokenizer("a")) for name in ("one", "two"))
    other = save_pretrained(tiny_peav(), tmp_path / "other", tokenizer("b"))
    frame = save_pretrained(tiny_peaframe(), tmp_path / "frame", tokenizer("a"))
    for sources, message in (
        ([one], "two checkpoints or more"),
        ([one, frame], "frame is built otherwise than .*one"),
        ([one, other], "other has another tokenizer than .*one"),
    ):
        with pytest.raises(CheckpointError, match=message):
            average(sources, tmp_path / "mean")
        assert not (tmp_path / "mean").exists()
    with pytest.raises(CheckpointError, match="two holds a checkpoint already"):
        average([one, two], two)
