"""Recipes in the keys of before are the recipes that today's keys say."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from peav.cli.main import app
from peav.train.recipe import Recipe, read_recipe

OLD = """
name: old
output: runs/old
model: runs/before/model
data:
  cache: runs/cache
  world: {folder: runs/world, train: 8, validation: 3, test: 1, seed: 1, synthetic: true}
  world_weight: 20
  sources:
    - {manifest: runs/world/manifest.jsonl, only: transcript, splice: 0.2, weight: 5}
    - {recordings: esc10, without: sed_mix, test_fold: 3, weight: 13}
    - mixtures: {folder: runs/mixed, train: 35, validation: 4, sounds: [esc10]}
      weight: 12
    - {recordings: grid, splice: 0.1, splice_video: true, near_misses: 2, lips: true}
    - {manifest: sounds.jsonl, mix: {duration: 5}}
    - {webdataset: "clips-{0..7}.tar"}
    - {prepared: "s3://bucket/cache"}
codec: {checkpoint: runs/other/model, distil_steps: 50, distil_lr: 1.5e-3}
frames: {pretrain_steps: 40, pretrain_batch: 8, frozen: true}
objective: {pairs: finetune, best_rq_weight: 0.05, best_rq_rows: 0.3, words_weight: 0.5}
optim: {steps: 10, batch_size: 9}
"""

NEW = """
name: old
output: runs/old
model: runs/before/model
data:
  cache: runs/cache
  sources:
    - place: {class: world, folder: runs/world, train: 8, validation: 3, test: 1, seed: 1}
      weight: 20
      transforms: [synthetic_captions]
    - place: runs/world/manifest.jsonl
      weight: 5
      transforms: [synthetic_captions, transcripts, {class: word_swap, share: 0.2, pictures: false, copies: 1}]
    - place: esc10
      weight: 13
      transforms: [{class: without_mixed, manifest: sed_mix}, {class: test_fold, fold: 3}, train_only]
    - {place: {class: mixtures, folder: runs/mixed, train: 35, validation: 4, sounds: [esc10]}, weight: 12}
    - {place: grid, transforms: [train_only, {class: word_swap, share: 0.1, pictures: true, copies: 2}]}
    - {place: sounds.jsonl, transforms: [{class: remix, how: {duration: 5}}]}
    - {place: "clips-{0..7}.tar"}
    - {place: "s3://bucket/cache"}
initializers:
  - {class: distill_codec, steps: 50, lr: 1.5e-3, checkpoint: runs/other/model}
  - {class: pretrain_frames, steps: 40, batch_size: 8, lips: [grid]}
frames: {frozen: true}
objective: {pairs: finetune, auxiliary: {best_rq: {weight: 0.05, share: 0.3}, words: {weight: 0.5}}}
optim: {steps: 10, batch_size: 9}
"""


def read(folder: Path, text: str, **overrides: str) -> Recipe:
    (folder / "r.yaml").write_text(text)
    return read_recipe(folder / "r.yaml", overrides)


def test_old_keys_say_what_new_ones_do_and_are_named(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match=r"keys that go with the next release: codec\.checkpoint, codec\.distil_lr"):
        old = read(tmp_path, OLD)
    assert old == read(tmp_path, NEW)


@pytest.mark.slow
def test_of_the_processes_that_share_a_run_one_names_old_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.yaml").write_text(OLD)
    command = ["train", str(tmp_path / "r.yaml"), "--dry-run", "--set", "model=nano"]
    said = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        said.append(CliRunner().invoke(app, command).stderr.count("keys that go with the next release"))
    assert said == [1, 0, 0]


@pytest.mark.filterwarnings("error")
def test_new_keys_give_no_warning(tmp_path: Path) -> None:
    read(tmp_path, NEW)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_old_key_that_is_set_from_outside_changes_a_new_recipe(tmp_path: Path) -> None:
    changed = read(tmp_path, NEW, **{"objective.words_weight": "0", "objective.best_rq_weight": "0.2"})
    assert dict(changed.objective.auxiliary) == {"best_rq": {"weight": 0.2, "share": 0.3}}


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_keys_from_outside_leave_an_initializer_out_or_change_it(tmp_path: Path) -> None:
    taken = read(
        tmp_path, NEW, **{"codec.checkpoint": "there", "codec.distil_steps": "0", "frames.pretrain_steps": "0"}
    )
    assert taken.initializers == ({"class": "distill_codec", "steps": 0, "lr": 0.0015, "checkpoint": "there"},)
