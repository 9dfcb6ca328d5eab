"""Runs from manifests that do not fit into memory: tables in the place of lists, each process its own rows alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from decoding_worker import Read
from tokenizers import Tokenizer
from training_runs import Noting, Silent, losses, recipe_file

from peav.data import tabulate
from peav.data.collate import Collator
from peav.data.manifest import Row, write_manifest
from peav.data.table import RowTable
from peav.distributed import DistContext
from peav.features.extract import ClipFeatures
from peav.inference.tokenizer import train_tokenizer
from peav.train import batches, read_recipe, train
from peav.train.agreement import _digests
from peav.train.batches import BatchStream
from peav.train.clips import gather, texts_of
from peav.train.train_checkpoint import remove_state, states
from peav.types import MODALITIES


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that manifests of the tests are large."""
    monkeypatch.setattr(tabulate, "LARGE", 3)
    monkeypatch.setattr(batches, "LARGE", 3)


class Latents:
    """Stands in for a cache of features: of each clip a latent that is its number."""

    def load_all(self, rows: Sequence[Row]) -> list[ClipFeatures]:
        return [ClipFeatures(latents=np.full((2, 1), int(row.id), np.float16)) for row in rows]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["caption 0 1 2 3 4 5 6 7 8 9 made said"], 300)


def rows(count: int) -> list[Row]:
    kinds = {kind: [f"{kind} caption {n}" for n in range(3)] for kind in MODALITIES}
    made = {kind: [f"{kind} caption 2"] for kind in MODALITIES}
    captions = [{kind: [f"{text} {n}" for text in texts] for kind, texts in kinds.items()} for n in range(count)]
    synthetic = [{kind: [f"{text} {n}" for text in texts] for kind, texts in made.items()} for n in range(count)]
    return [
        Row(str(n), Path("a"), captions=captions[n], synthetic=synthetic[n], transcript=f"said {n}" if n % 2 else None)
        for n in range(count)
    ]


def test_processes_read_their_own_rows_alone_and_draw_what_one_would(all_large: None, tokenizer: Tokenizer) -> None:
    def stream(source: Sequence[Row], dist: DistContext) -> BatchStream:
        collator = Collator(tokenizer, 16, transcript_share=0.5, real_share=0.5)
        return BatchStream([source], [1.0], 8, 0, Latents(), collator, dist=dist)

    alone = stream(rows(40), DistContext())
    for world in (2, 4):
        for rank in range(world):
            source = Read(rows(40))
            shared = stream(source, DistContext(rank, world))
            for number in (0, 3, 11):
                source.read.clear()
                part, whole = shared.batch(number), alone.batch(number)
                own = slice(rank, None, world)
                assert source.read == set(whole.ids[own])
                assert part.ids == whole.ids[own] == alone.ids(number)[own]
                assert (part.audio == whole.audio[own]).all()
                for kind in MODALITIES:
                    said = [tokenizer.decode_batch(batch.texts[kind].ids.tolist()) for batch in (part, whole)]
                    assert said[0] == said[1][own]


def test_captions_of_large_sources_are_drawn_in_the_same_proportions(all_large: None, tokenizer: Tokenizer) -> None:
    collator = Collator(tokenizer, 16, transcript_share=0.5, real_share=0.25)
    stream = BatchStream([rows(40)], [1.0], 40, 0, Latents(), collator)
    drawn: Counter[str] = Counter()
    for number in range(100):
        batch = stream.batch(number)
        for row, text in zip(batch.ids, tokenizer.decode_batch(batch.texts["audio"].ids.tolist()), strict=True):
            kind = "said" if "said" in text else "made" if "caption 2" in text else "real"
            drawn[f"{kind} {int(row) % 2}"] += 1
    # Of 2000 draws each; the deviation of a share is at most .011.
    assert drawn["said 1"] / 2000 == pytest.approx(0.5, abs=0.05)
    assert drawn["said 0"] == 0
    assert drawn["made 0"] / 2000 == pytest.approx(0.75, abs=0.05)
    assert drawn["made 1"] / 2000 == pytest.approx(0.375, abs=0.05)


def manifest(tmp_path: Path, count: int = 30) -> str:
    records = [
        {
            "path": f"{n}.wav" if n % 2 else f"{n}.mp4",
            "captions": {"audio": [f"sound {n}"]},
            "split": ["train", "validation", "test", None, "left out"][n % 5],
            "license": ["CC0", None][n % 2],
            "transcript": "hello" if n % 3 == 0 else None,
            "fold": n % 3,
        }
        for n in range(count)
    ]
    write_manifest(tmp_path / "m.parquet", records)
    return str(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    "transforms", [[], ["train_only"], ["transcripts"], [{"class": "test_fold", "fold": 1}]], ids=str
)
def test_a_table_gives_a_recipe_the_clips_of_the_list(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transforms: list
) -> None:
    source = {"place": manifest(tmp_path), "transforms": transforms}
    recipe = read_recipe(recipe_file(tmp_path, tmp_path, "run", data={"sources": [source], "temperature": 2.0}))
    listed = gather(recipe, Silent())
    monkeypatch.setattr(tabulate, "LARGE", 3)
    table = gather(recipe, Silent())
    assert isinstance(table.sources[0], RowTable)
    for clips in (listed, listed.sound_alone()), (table, table.sound_alone()):
        assert isinstance(clips[1].sources[0], RowTable) == (clips[0] is table)
    for one, other in ((listed, table), (listed.sound_alone(), table.sound_alone())):
        for own, others in zip(one.groups(), other.groups(), strict=True):
            assert sorted(own, key=lambda row: row.id) == sorted(others, key=lambda row: row.id)
        assert sorted(row.id for row in one.all()) == sorted(row.id for row in other.all())
        assert one.all()[0] in other.all()
        assert one.licenses() == other.licenses()
        assert one.shares(2.0) == other.shares(2.0)
        assert sorted(texts_of(one.sources)) == sorted(texts_of(other.sources))


def test_a_transform_that_changes_rows_is_given_them_all(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"place": str(world / "manifest.jsonl"), "transforms": ["train_only", "synthetic_captions"]}
    recipe = read_recipe(recipe_file(tmp_path, world, "run", data={"sources": [source]}))
    listed = gather(recipe, Silent())
    monkeypatch.setattr(tabulate, "LARGE", 3)
    (rows,) = gather(recipe, Silent()).sources
    assert isinstance(rows, list)
    assert sorted(rows, key=lambda row: row.id) == sorted(listed.sources[0], key=lambda row: row.id)


def test_held_out_rows_of_a_table_are_as_many_as_fit(
    tmp_path: Path, all_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peav.train.clips.HELD_OUT", 2)
    source = {"place": manifest(tmp_path)}
    clips = gather(read_recipe(recipe_file(tmp_path, tmp_path, "run", data={"sources": [source]})), Silent())
    assert [len(clips.validation), len(clips.test)] == [2, 2]
    assert len(clips.sources[0]) == 12


def test_processes_compare_tables_by_their_digest(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    table = tabulate.make_table([path], tmp_path / "cache")
    again = tabulate.make_table([path], tmp_path / "another")
    train_rows = table.where(lambda group: group.trains)
    assert _digests([table]) == _digests([again])
    assert len({tuple(_digests(sources)) for sources in ([table], [train_rows], [[], table])}) == 3


@pytest.mark.slow
def test_a_run_from_a_table_resumes_with_the_same_losses(world: Path, tmp_path: Path, all_large: None) -> None:
    def run(name: str, steps: int, resume: bool = False) -> Path:
        recipe = read_recipe(recipe_file(tmp_path, world, name), {"optim.steps": json.dumps(steps)})
        train(recipe, Noting(), resume)
        return tmp_path / name

    whole = losses(run("whole", 6))
    assert losses(run("again", 6)) == whole
    run("stopped", 6)
    for path in states(tmp_path / "stopped" / "checkpoints")[1:]:  # as if it had been killed after step 2
        remove_state(path)
    assert losses(run("stopped", 6, resume=True)) == whole
    assert (world / "cache" / "manifests").is_dir()
