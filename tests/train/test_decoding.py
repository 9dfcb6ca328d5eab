"""Clips that are decoded while training: the same ones in the same batches, whoever decodes them and whatever fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from decoding_worker import SEED, SIZE, clips, model, stream, write_clips

from peav.data.manifest import Row, read_manifest
from peav.errors import RecipeError, TrainingError
from peav.features.keys import clip_key
from peav.features.live import LiveFeatures
from peav.train import batches
from peav.train.decoding import Decode, DecodingStream, Seen, UnreadableClips

CLIPS, BATCHES = 12, 5
NAMES = [f"clip-{number:02d}" for number in range(CLIPS)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_clips(tmp_path, CLIPS)


def seen(folder: Path, workers: int, numbers: range = range(BATCHES), resume: bool = True) -> list[list[list[str]]]:
    feed = stream(folder, workers, resume=resume)
    try:
        return [clips(feed.batch(number)) for number in numbers]
    finally:
        feed.close()


def listed(folder: Path, name: str = "failures.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def replaced(batch: int, place: int, source: list[Row], bad: set[str]) -> str:
    """The naive formula: who takes the place of a clip that cannot be read."""
    for attempt in range(1000):
        row = source[np.random.default_rng((SEED, 5, batch, place, attempt)).integers(len(source))]
        if row.id not in bad:
            return row.id
    raise AssertionError


@pytest.mark.slow
def test_batches_are_the_same_whatever_the_number_of_workers_and_wherever_a_run_goes_on(folder: Path) -> None:
    alone = seen(folder, 0)
    assert len({name for batch in alone for name, *_ in batch}) == CLIPS
    assert seen(folder, 1) == alone
    assert seen(folder, 3) == alone
    assert seen(folder, 1, range(3, BATCHES)) == alone[3:]
    assert not (folder / "failures.jsonl").exists()


@pytest.mark.slow
def test_a_clip_that_cannot_be_read_is_listed_and_replaced_by_the_same_one_everywhere(folder: Path) -> None:
    before = seen(folder, 0)
    rows = read_manifest(folder / "manifest.jsonl")
    sources = [rows[: CLIPS // 2], rows[CLIPS // 2 :]]
    bad = before[2][1][0]  # in place 1 of batch 2
    first = next(number for number, batch in enumerate(before) if bad in [name for name, *_ in batch])
    (folder / f"{bad}.mkv").write_bytes(b"no media at all" * 100)
    alone = seen(folder, 0)
    for number, batch in enumerate(before):
        for place, clip in enumerate(batch):
            expected = replaced(number, place, sources[place // 2], {bad}) if clip[0] == bad else clip[0]
            assert alone[number][place][0] == expected
            if clip[0] != bad:
                assert alone[number][place][1:3] == clip[1:3]
    (line,) = listed(folder)
    assert (line["id"], line["error"], line["batch"]) == (bad, "NotMediaError", first)
    for workers in (1, 3):
        assert seen(folder, workers, resume=False) == alone
        assert listed(folder) == [line]


@pytest.mark.slow
def test_a_listed_clip_is_not_tried_again_from_its_batch_on_and_is_used_before_it(folder: Path) -> None:
    """It can be read, so that each try would show: as for one whose disk was away for a moment."""
    before = seen(folder, 0)
    rows = {row.id: row for row in read_manifest(folder / "manifest.jsonl")}
    often = [name for name in NAMES if sum(name in [one[0] for one in batch] for batch in before) > 1]
    number, bad = next((k, one[0]) for k, batch in enumerate(before) if k for one in batch if one[0] in often)
    line = {"clip": clip_key(rows[bad]), "batch": number, "id": bad}
    (folder / "failures.jsonl").write_text(json.dumps(line) + '\n{"torn')
    for workers in (0, 1):
        after = seen(folder, workers)
        assert after[:number] == before[:number]
        assert bad not in [name for batch in after[number:] for name, *_ in batch]
    assert listed(folder) == [line]


@pytest.mark.slow
def test_a_clip_that_crashes_its_decoder_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAV_WORKER_HOOK", "hostile_decoder:decode")
    os.rename(folder / "clip-03.mkv", folder / "crash.mkv")
    manifest = folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("clip-03.mkv", "crash.mkv"))
    names = {name for batch in seen(folder, 2) for name, *_ in batch}
    assert names == set(NAMES) - {"clip-03"}
    assert [(line["id"], line["error"]) for line in listed(folder)] == [("clip-03", "DecoderCrashError")]


def test_too_many_unreadable_clips_stop_the_run(tmp_path: Path) -> None:
    """100 in a row; or more than 20 and 5 % of those drawn so far. The list has all that were tried."""
    rows = [Row(str(number), tmp_path / f"{number}.wav", tmp_path / f"{number}.wav") for number in range(400)]
    gone, good = Seen(error="MissingFileError", reason="gone"), Seen(True)
    clips = UnreadableClips(tmp_path / "row.jsonl", 100_000)
    assert clips.note(500, 99, [(row, gone) for row in rows[:99]])
    with pytest.raises(TrainingError, match="100 clips in a row cannot be read, the last being 99: MissingFileError"):
        clips.note(501, 99, [(rows[99], gone)])
    assert len((tmp_path / "row.jsonl").read_text().splitlines()) == 100
    clips = UnreadableClips(tmp_path / "share.jsonl", 100_000)
    for number in range(20):
        assert clips.note(number, 4, [(rows[4 * number], gone), (rows[4 * number + 1], good)])
    with pytest.raises(
        TrainingError, match="21 clips, more than 5% of those drawn so far, cannot be read, the last being"
    ):
        clips.note(20, 4, [(rows[80], gone)])
    live = LiveFeatures(model(), 1.0, 0)
    feed = DecodingStream([rows], [1], SIZE, SEED, live, lambda *_: None, UnreadableClips(tmp_path / "run.jsonl", 400))
    with pytest.raises(TrainingError, match="cannot be read"):  # media that are not there at all
        feed.batch(0)
    assert len(listed(tmp_path, "run.jsonl")) >= 21


def test_workers_below_zero_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.decode\.workers must be 0 \(none\) or above, not -1"):
        Decode(-1)


def by_two(folder: Path, *arguments: int) -> list[dict]:
    """What two processes have seen."""
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        + [str(Path(__file__).with_name("decoding_worker.py")), str(folder)]
        + [str(argument) for argument in (*arguments[:1], BATCHES, *arguments[1:])],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_see_the_clips_of_one_also_where_one_alone_cannot_read_a_clip(folder: Path) -> None:
    """Each has every second place; both know every unreadable clip."""
    bad = seen(folder, 0)[2][1][0]
    (folder / f"{bad}.mkv").write_bytes(b"")
    alone = seen(folder, 0, resume=False)
    known = listed(folder)
    for workers in (0, 1):
        (folder / "failures.jsonl").unlink()
        told = by_two(folder, workers)
        for number, batch in enumerate(alone):
            assert [told[place % 2]["seen"][number][place // 2] for place in range(SIZE)] == batch
        assert told[0]["known"] == told[1]["known"] == [[known[0]["clip"], known[0]["batch"]]]
        assert listed(folder) == known


@pytest.mark.slow
def test_of_large_sources_a_process_reads_its_own_rows_and_those_that_nobody_can(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LARGE", 3)
    bad = seen(folder, 0)[2][1][0]
    (folder / f"{bad}.mkv").write_bytes(b"")
    alone = seen(folder, 0, resume=False)
    (folder / "failures.jsonl").unlink()
    for rank, told in enumerate(by_two(folder, 0, 3)):
        assert told["seen"] == [batch[rank::2] for batch in alone]
        own = {name for batch in told["seen"] for name, *_ in batch}
        assert own < set(NAMES) - {bad}
        assert set(told["read"]) == own | {bad}
