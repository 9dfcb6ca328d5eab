"""Frames learn from timed events, starting from the clip-level model, and exactly resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_runs import Silent, losses, recipe_file

from peav.checkpoint import load_model
from peav.detector import Detector
from peav.errors import RecipeError
from peav.model import PEAV, PEAFrame
from peav.train import read_recipe, train


def aligned(folder: Path, world: Path, name: str, steps: int = 4, **changes) -> Path:
    values = {"align": {"clip_weight": 0.3}, "optim": {"steps": steps}} | changes
    path = recipe_file(folder, world, name, **values)
    path.write_text(path.read_text() + "model: tiny\n")
    return path


def test_it_starts_as_the_clip_level_model_read_frame_by_frame() -> None:
    clip = load_model("tiny").float().eval()
    assert isinstance(clip, PEAV)
    frame = PEAFrame.from_peav(clip).eval()
    latents, ids = torch.randn(2, 9, 128), torch.tensor([[1, 5, 9, 2]])
    with torch.inference_mode():
        frames = clip.project(clip.audio_hidden(latents).sequence, "audio")
        text = clip.project(clip.text_hidden(ids)[:, 0], "text_audio")
        expected = torch.einsum("bte,ne->bnt", frames, text) * clip.logit_scale["a_ac"] + clip.logit_bias["a_ac"]
        assert torch.allclose(frame.frame_logits(latents, None, ids), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_run_gives_a_model_that_detects_and_resumes_with_the_same_losses(world: Path, tmp_path: Path) -> None:
    result = train(read_recipe(aligned(tmp_path, world, "whole")), Silent())
    assert {"auroc", "t2a"} <= set(result["validation"])
    assert set(losses(tmp_path / "whole")[0]) == {"frames", "clip"}
    page = (tmp_path / "whole" / "curves.html").read_text()
    assert all(f'data-name="losses/{name}"' in page for name in ("frames", "clip"))
    detector = Detector.load(tmp_path / "whole" / "model")
    assert detector.scores(torch.zeros(48_000), ["rain falling"], sampling_rate=48_000).probabilities.shape == (1, 25)
    cut = aligned(tmp_path, world, "cut")
    train(read_recipe(cut), Silent())
    (tmp_path / "cut" / "checkpoints" / "step-0000004.pt").unlink()
    train(read_recipe(cut), Silent(), resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_the_loss_of_frames_falls(world: Path, tmp_path: Path) -> None:
    optim = {"steps": 30, "batch_size": 16, "lr": 2e-3}
    train(read_recipe(aligned(tmp_path, world, "learn", optim=optim, align={"prior": False})), Silent())
    log = [record["frames"] for record in losses(tmp_path / "learn")]
    assert sum(log[-5:]) < 0.8 * sum(log[:5])


@pytest.mark.slow
@pytest.mark.parametrize("mix", [None, {"duration": 2, "events": [1, 3]}], ids=["clips", "soundscapes drawn anew"])
def test_two_processes_train_frames_as_one_does(mix: dict | None, world: Path, tmp_path: Path) -> None:
    transforms = [] if mix is None else [{"class": "remix", "how": mix}]
    data = {"sources": [{"place": str(world / "manifest.jsonl"), "transforms": transforms}], "max_seconds": 5}
    train(read_recipe(aligned(tmp_path, world, "alone", 3, data=data)), Silent())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "peav"]
    shared = aligned(tmp_path, world, "shared", 3, data=data)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "train", str(shared)], env=environment, check=True, capture_output=True)
    assert all(record["frames"] > 0 for record in losses(tmp_path / "alone"))
    for one, two in zip(losses(tmp_path / "alone"), losses(tmp_path / "shared"), strict=True):
        assert two == pytest.approx(one, rel=1e-3)


@pytest.mark.slow
def test_clips_without_events_train_and_are_measured_too(world: Path, tmp_path: Path) -> None:
    lines = (world / "manifest.jsonl").read_text().splitlines()
    silent = world / "silent.jsonl"
    silent.write_text("".join(json.dumps(json.loads(line) | {"events": []}) + "\n" for line in lines))
    path = aligned(tmp_path, world, "silent", 1, data={"sources": [{"place": str(silent)}]})
    result = train(read_recipe(path), Silent())
    assert "auroc" not in result["test"]
    assert losses(tmp_path / "silent")[0]["frames"] == 0


@pytest.mark.slow
def test_a_run_without_held_out_clips_still_gives_its_model(world: Path, tmp_path: Path) -> None:
    lines = (world / "manifest.jsonl").read_text().splitlines()
    alone = world / "alone.jsonl"
    alone.write_text("".join(json.dumps(json.loads(line) | {"split": "train"}) + "\n" for line in lines))
    train(read_recipe(aligned(tmp_path, world, "alone", 1, data={"sources": [{"place": str(alone)}]})), Silent())
    assert (tmp_path / "alone" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "changes",
    [{"codec": {"trainable": True}}, {"optim": {"recompute": True}}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_frame_training_does_not_know_is_refused(world: Path, tmp_path: Path, changes: dict) -> None:
    with pytest.raises(RecipeError, match="knows no"):
        read_recipe(aligned(tmp_path, world, "no", **changes))


def test_two_kinds_of_training_at_once_are_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="leave one of them out"):
        read_recipe(aligned(tmp_path, world, "both", tune={"rank": 4}))
