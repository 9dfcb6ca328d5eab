"""Every verb that loads a model takes its revision, dtype and cache, and hands them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peav.checkpoint import resolve
from peav.cli.main import VERBS, load

Run = Callable[..., Any]
THREE = {"--revision", "--dtype", "--cache-dir"}
# What takes a model goes by these names; `found` and `recipe` are no models.
TAKES_A_MODEL = {"model", "models", "source", "init"}
NONE = {
    "ablate",
    "caption",  # recipes name their models
    "caption report",
    "caption retry",
    "detect calibrate",
    "mix",
    "world",
    *(verb for verb in VERBS if verb.startswith("library ")),
}


def test_every_verb_that_takes_a_model_takes_the_three() -> None:
    for verb in VERBS:
        parameters = load(verb).params
        options = {option for parameter in parameters for option in parameter.opts}
        takes = bool({parameter.name for parameter in parameters} & TAKES_A_MODEL)
        assert takes == (verb not in NONE), verb
        assert (options >= THREE) == takes, verb


@pytest.mark.parametrize(
    "line",
    [
        ("embed", "clip.wav", "-o", "lib.parquet", "--model"),
        ("classify", "clip.wav", "--labels", "dog", "--model"),
        ("detect", "clip.wav", "--labels", "dog", "--model"),
        ("detect", "eval", ".", "truth.tsv", "--model"),
        ("eval",),
        ("prepare", "manifest.jsonl", "-o", "cache", "--model"),
        ("convert",),
        ("average",),
        ("demo", "--model"),
        ("train", "finetune", "--dry-run", "--init"),
    ],
)
def test_revision_and_cache_reach_the_hub(peav: Run, tmp_path: Path, monkeypatch: Any, line: tuple[str, ...]) -> None:
    """Offline, an empty cache is one line that names the revision that was asked for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    Path("manifest.jsonl").write_text('{"path": "clip.wav"}\n')
    Path("truth.tsv").write_text("filename\tonset\toffset\tevent_label\nclip.wav\t0\t1\tdog\n")
    Path("clip.wav").write_bytes((resolve("tiny") / "config.json").read_bytes())
    rest = {
        "eval": ["--manifest", "manifest.jsonl"],
        "convert": ["out", "--to", "peav"],
        "average": ["a/b", "-o", "out"],
    }
    for asked in (["a/b", "--revision", "v7"], ["a/b@v7"]):
        result = peav(*line, *asked, *rest.get(line[0], []), "--cache-dir", tmp_path / "cache")
        assert result.exit_code == 2, result.output
        assert "a/b at revision 'v7' is not in the local cache" in " ".join(result.stderr.split())
        assert not list(tmp_path.glob("cache/*/snapshots"))


def test_a_directory_has_no_revision_and_two_are_refused(peav: Run, model: str) -> None:
    for name in ("tiny", model):
        result = peav("eval", name, "--manifest", "x", "--revision", "v1")
        assert result.exit_code == 2
        assert "has no revision 'v1': leave it out" in " ".join(result.stderr.split())
    result = peav("eval", "a/b@v1", "--manifest", "x", "--revision", "v2")
    assert "two revisions of a/b, 'v1' and 'v2': give one" in result.stderr


def test_converting_and_averaging_round_to_the_dtype_that_was_asked_for(peav: Run, model: str, tmp_path: Path) -> None:
    assert peav("convert", model, tmp_path / "half", "--to", "peav", "--dtype", "bfloat16").exit_code == 0
    assert peav("average", model, model, "-o", tmp_path / "mean", "--dtype", "float16").exit_code == 0
    whole = load_file(Path(model) / "model.safetensors")
    for folder, dtype in (("half", torch.bfloat16), ("mean", torch.float16)):
        tensors = load_file(tmp_path / folder / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {dtype}
        assert all(torch.equal(tensor, whole[name].to(dtype)) for name, tensor in tensors.items())


@pytest.mark.slow
def test_the_dtype_reaches_the_model(as_json: Run) -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        report = as_json("doctor", "--dtype", dtype)
        assert report["healthy"], report
        error = float(report["checks"][-1]["detail"].split("within ")[1].split()[0])
        assert (error > 1e-4) == (dtype != "float32")


def test_training_passes_the_three_on(peav: Run, tmp_path: Path, monkeypatch: Any) -> None:
    given: list[Any] = []

    def seen(recipe: Any, reporter: Any, resume: bool = False) -> dict[str, Any]:
        given.append(recipe)
        raise ValueError("seen")

    monkeypatch.setattr("peav.train.train", seen)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("")
    arguments = ("train", "finetune", "--init", "a/b", "--revision", "v7", "--data", manifest)
    result = peav(*arguments, "--dtype", "float32", "--cache-dir", tmp_path)
    assert "seen" in result.stderr, result.output
    (recipe,) = given
    assert (recipe.model, recipe.hub_cache, recipe.optim.bf16) == ("a/b@v7", str(tmp_path), False)
    assert "--init names" in peav("train", "finetune", "--revision", "v7").stderr
