"""Captioners of the world err as often as is said, and the engine's captions of the world are a source that trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from training_runs import Silent
from typer.testing import CliRunner

from peav.cli.main import app
from peav.data.manifest import Row, read_manifest
from peav.data.places import PlaceContext, read_clips
from peav.engine.clip import Clip, Sample
from peav.errors import ManifestError, RecipeError
from peav.lab.weak import PERSON, STREAMS, Captioned, Stream, WorldCaptioner, named, things
from peav.recipes import SHIPPED
from peav.recipes.config import read_mapping
from peav.synth.world.kinds import KINDS
from peav.synth.world.place import World
from peav.train import read_recipe, train
from peav.types import Event

SMALL = {"train": 16, "validation": 2, "test": 2, "seed": 5}


def clip(number: int, kinds: Sequence[str] = ("dog", "bell"), **changes) -> Row:
    """One in which all things are heard and seen."""
    path = Path("a.mp4")
    events = tuple(Event(KINDS[name].label, 0.0, 1.0) for name in kinds)
    captions = {"audio": ["sounds"], "video": [" and ".join(f"a {KINDS[name].nouns[0]}" for name in kinds)]}
    rest = {"captions": captions, "events": events, "extra": {"kinds": list(kinds), "voice": None}}
    return Row(f"c{number}", path, path, **(rest | changes))


def said(row: Row, captioner: WorldCaptioner) -> str:
    one = Clip(row.id, row)
    ((_, answer),) = captioner([Sample(one)])
    captioner.apply(one, answer.value)
    assert one.weak[captioner.name].kind == captioner.kind
    return one.weak[captioner.name].text


@pytest.mark.parametrize("stream", STREAMS)
def test_a_captioner_without_mistakes_names_all_that_is_there_and_nothing_else(world: Path, stream: Stream) -> None:
    captioner = WorldCaptioner("true", stream)
    rows = [row for row in read_manifest(world / "manifest.jsonl") if captioner.request(Clip(row.id, row))]
    assert len(rows) > 10
    for row in rows:
        assert named(said(row, captioner), stream) == things(row, stream) != frozenset()


@pytest.mark.parametrize("stream", STREAMS)
def test_things_are_wrong_and_missing_as_often_as_is_said_and_the_same_every_time(stream: Stream) -> None:
    captioner, again = (WorldCaptioner("a", stream, seed=1, wrong=0.25, missing=0.1) for _ in range(2))
    missing = wrong = 0
    for number in range(1000):
        row = clip(number)
        text = said(row, captioner)
        assert text == said(row, again)
        missing += 2 - len(text.split(" and ")) + (text == "something")
        wrong += len(named(text, stream) - things(row, stream))
    assert abs(missing / 2000 - 0.1) < 0.03
    assert abs(wrong / 2000 - 0.25) < 0.04


def test_captioners_of_two_seeds_err_independently() -> None:
    both = [WorldCaptioner(str(seed), seed=seed, wrong=0.5) for seed in (1, 2)]
    rows = [clip(number, ["dog"]) for number in range(1000)]
    right = [[said(row, one) in KINDS["dog"].heard for one in both] for row in rows]
    assert abs(sum(map(all, right)) / 1000 - 0.25) < 0.06
    assert abs(sum(map(any, right)) / 1000 - 0.75) < 0.06


def test_what_is_silent_is_not_heard_what_is_hidden_is_not_seen_and_who_speaks_is_both() -> None:
    captions = {"audio": ["a"], "video": ["a dog, barking"]}
    row = clip(0, events=(Event(KINDS["bell"].label, 0.0, 1.0),), captions=captions,
               extra={"kinds": ["dog", "bell"], "voice": "anna"})  # fmt: skip
    assert things(row, "audio") == {"bell", PERSON}
    assert things(row, "video") == {"dog", PERSON}


def test_a_stream_that_is_missing_has_no_caption_and_one_that_is_all_missed_says_so() -> None:
    everything = WorldCaptioner("deaf", "audio", missing=1.0)
    assert everything.request(Clip("c", clip(0, captions={"video": ["a dog"]}))) is None
    assert said(clip(0), everything) == "something"


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(RecipeError, match="deaf: wrong and missing are shares"):
        WorldCaptioner("deaf", wrong=0.7, missing=0.7)
    with pytest.raises(ManifestError, match="c0: is no clip of the world"):
        WorldCaptioner("a").request(Clip("c0", clip(0, extra={})))


def test_each_captioner_errs_in_the_same_share_of_things_in_every_recipe() -> None:
    lines = {}
    for name in ("world_a", "world_b", "world_joined", "world_stage1"):
        for one in read_mapping(SHIPPED / "engine" / f"{name}.yaml")["captioners"]:
            assert one["wrong"] + one["missing"] == pytest.approx(0.35)
            assert lines.setdefault(one["name"], one) == one
    assert len(lines) == 4


@pytest.mark.slow
def test_the_engines_captions_of_the_world_are_a_source_and_are_made_once(world: Path, tmp_path: Path) -> None:
    captioners = [{"class": "peav.lab.weak:WorldCaptioner", "name": kind, "kind": kind} for kind in STREAMS]
    (tmp_path / "r.yaml").write_text(json.dumps({"name": "r", "captioners": captioners}))
    place = Captioned(World(str(world), **SMALL), str(tmp_path / "r.yaml"), str(tmp_path / "out"))
    rows = place.rows(PlaceContext())
    assert [row.split for row in rows] == ["train"] * 16 + ["validation"] * 2 + ["test"] * 2
    for row in rows:
        assert set(row.synthetic) == (set(row.by_people().captions) if row.trains else set())
        for stream in set(STREAMS) & set(row.synthetic):
            assert named(row.synthetic[stream][0], stream) == things(row, stream)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").glob("*")}
    assert place.rows(PlaceContext()) == rows
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = [{"class": "earlier", "name": kind, "kind": kind} for kind in STREAMS]
    (tmp_path / "2.yaml").write_text(json.dumps({"name": "2", "captioners": again}))
    second = Captioned(place.world, str(tmp_path / "2.yaml"), str(tmp_path / "2"), earlier=place.folder)
    for first, row in zip(rows, second.rows(PlaceContext()), strict=True):
        assert (row.id, row.split, row.by_people().captions) == (first.id, first.split, first.by_people().captions)
        assert row.synthetic.keys() == first.synthetic.keys()
        for stream in set(STREAMS) & set(row.synthetic):
            assert named(row.synthetic[stream][0], stream) == things(row, stream)


def shipped(name: str, world: Path) -> dict[str, Any]:
    """A shipped recipe with a small world in the place of its own."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: {"folder": str(world), **SMALL} if key == "world" else changed(one)
                    for key, one in value.items()}  # fmt: skip
        return [changed(one) for one in value] if isinstance(value, list) else value

    return changed(read_mapping(SHIPPED / f"{name}.yaml"))


@pytest.mark.slow
def test_the_shipped_ablation_trains_on_what_the_engine_wrote_by_the_confidence_of_a_model_of_its_own(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base, wanted = shipped("engine_stage0", world), shipped("ablation_engine", world)
    base |= {"model": "nano", "codec": {}, "frames": {}}
    base["optim"] |= {"steps": 3, "batch_size": 4}
    base["data"]["workers"] = 1
    Path("base.yaml").write_text(yaml.safe_dump(base))
    Path("wanted.yaml").write_text(yaml.safe_dump(wanted | {"base": "base.yaml", "seeds": [0]}))
    train(read_recipe("base.yaml"), Silent())
    result = CliRunner().invoke(app, ["ablate", "wanted.yaml", "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["results"]["rows"]
    assert [row["variant"] for row in rows] == list(wanted["groups"]["captions"])
    assert all(row[figure] != "–" for row in rows for figure in wanted["figures"])
    weak = [one for row in read_clips("runs/world-captions/stage1") for one in row.extra["weak"]]
    assert {one["confidence"] for one in weak} == {"low", "medium", "high"}
