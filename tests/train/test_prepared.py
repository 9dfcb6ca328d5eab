"""Training from prepared clips is training from their media, and other models are refused."""

from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path

import pytest
from training_runs import Silent, losses, recipe_file
from typer.testing import CliRunner

from peav.cli.main import app
from peav.data.manifest import read_manifest, write_manifest
from peav.errors import PreparedError, RecipeError, TrainingError
from peav.train import read_recipe, train

pytestmark = pytest.mark.slow
SPLICED = ["transcripts", {"class": "word_swap", "share": 0.5}]
FROZEN = {"codec": {"checkpoint": "tiny"}, "frames": {"checkpoint": "tiny", "num_frames": 24, "frozen": True}}


@pytest.fixture(scope="module")
def prepared(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "cache"
    result = CliRunner().invoke(app, ["prepare", str(world / "manifest.jsonl"), "-o", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"folder": str(folder), "clips": 20, "computed": 20, "failed": 0}
    return folder


def sources(*places: dict) -> dict:
    return {"data": {"sources": list(places)}}


def agree(run: Path, other: Path) -> bool:
    """Whether two runs had the same losses. The features of each were computed by itself: on some processors the last
    bit of a matrix product depends on where in memory it lies, and now and then tips the rounding to float16."""
    pairs = zip(losses(run), losses(other), strict=True)
    return all(a.keys() == b.keys() and all(math.isclose(a[k], b[k], rel_tol=1e-4) for k in a) for a, b in pairs)


def test_prepared_clips_train_with_the_losses_of_their_media(world: Path, prepared: Path, tmp_path: Path) -> None:
    words = {"objective": {"auxiliary": {"words": {"weight": 0.5}}}}
    media = train(read_recipe(recipe_file(tmp_path, world, "media", steps=3, **FROZEN, **words)), Silent())
    changes = FROZEN | words | sources({"place": str(prepared)})
    shards = train(read_recipe(recipe_file(tmp_path, world, "shards", steps=3, **changes)), Silent())
    assert agree(tmp_path / "shards", tmp_path / "media")
    assert (shards["validation"], shards["test"]) == (media["validation"], media["test"])
    assert not any((tmp_path / "shards").glob("failures*"))


def test_prepared_clips_train_beside_media_and_with_near_misses(world: Path, prepared: Path, tmp_path: Path) -> None:
    manifest = str(world / "manifest.jsonl")
    for name, first in (("media", {"place": manifest}), ("mixed", {"place": str(prepared)})):
        changes = FROZEN | sources(first, {**first, "transforms": SPLICED}, {"place": manifest})
        changes["optim"] = {"batch_size": 6}
        train(read_recipe(recipe_file(tmp_path, world, name, steps=2, **changes)), Silent())
    assert agree(tmp_path / "media", tmp_path / "mixed")


def test_clips_in_tars_train_with_the_losses_of_their_manifest(world: Path, prepared: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (world / "manifest.jsonl").read_text().splitlines()]
    for number in range(2):
        with tarfile.open(tmp_path / f"clips-{number}.tar", "w") as tar:
            for record in records[number * 10 :][:10]:
                path = world / record["path"]
                (tmp_path / "fields.json").write_text(json.dumps(record))
                tar.add(path, f"{record['id']}{path.suffix}")
                tar.add(tmp_path / "fields.json", f"{record['id']}.json")
    changes = FROZEN | sources({"place": str(tmp_path / "clips-{0..1}.tar")})
    train(read_recipe(recipe_file(tmp_path, world, "tars", steps=2, **changes)), Silent())
    changes = FROZEN | sources({"place": str(prepared)})
    train(read_recipe(recipe_file(tmp_path, world, "shards", steps=2, **changes)), Silent())
    assert agree(tmp_path / "tars", tmp_path / "shards")


def test_frames_are_trained_from_prepared_clips_as_from_their_media(
    world: Path, prepared: Path, tmp_path: Path
) -> None:
    for name, source in (
        ("media", {"place": str(world / "manifest.jsonl")}),
        ("shards", {"place": str(prepared)}),
    ):
        path = recipe_file(tmp_path, world, name, steps=2, align={"clip_weight": 0.3}, **sources(source))
        path.write_text(path.read_text() + "model: tiny\n")
        train(read_recipe(path), Silent())
    assert agree(tmp_path / "shards", tmp_path / "media")


def test_a_run_refuses_clips_that_another_model_or_length_prepared(world: Path, prepared: Path, tmp_path: Path) -> None:
    source = {"place": str(prepared)}
    random = {**FROZEN, **sources(source), "codec": {}}
    with pytest.raises(PreparedError, match=r"prepared by tiny with codec \w+, not \w+ as in tiny, as this recipe has"):
        train(read_recipe(recipe_file(tmp_path, world, "random", **random)), Silent())
    short = FROZEN | {"data": {"sources": [source], "max_seconds": 5.0}}
    with pytest.raises(PreparedError, match=r"with max seconds 10.0, not 5.0"):
        train(read_recipe(recipe_file(tmp_path, world, "short", **short)), Silent())


@pytest.mark.parametrize("alive", [{"frames": {"checkpoint": "tiny"}}, {"codec": {"trainable": True}}])
def test_prepared_clips_cannot_train_what_made_them(world: Path, prepared: Path, tmp_path: Path, alive: dict) -> None:
    changes = FROZEN | sources({"place": str(prepared)}) | alive
    with pytest.raises(RecipeError, match="has no pictures or waveforms"):
        train(read_recipe(recipe_file(tmp_path, world, "alive", **changes)), Silent())


def test_a_run_whose_files_are_mostly_bad_stops_and_lists_them(world: Path, tmp_path: Path) -> None:
    good = [{"id": row.id, "path": str(row.audio_path)} for row in read_manifest(world / "manifest.jsonl")[:4]]
    bad = [{"id": f"bad {i}", "path": str(tmp_path / f"{i}.mp4")} for i in range(40)]
    write_manifest(tmp_path / "manifest.jsonl", good + bad)
    changes = FROZEN | sources({"place": str(tmp_path / "manifest.jsonl")})
    with pytest.raises(TrainingError, match=r"21 of 44 clips cannot be read, .*failures\.jsonl"):
        train(read_recipe(recipe_file(tmp_path, world, "stops", **changes)), Silent())
    assert len((tmp_path / "stops" / "failures.jsonl").read_text().splitlines()) == 21
