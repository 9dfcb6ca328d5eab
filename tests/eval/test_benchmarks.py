from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from peav.cli.main import app
from peav.data.recordings import read_recordings
from peav.encoder import Encoder
from peav.errors import EvaluationError
from peav.eval.benchmarks.manifest import Manifest
from peav.eval.benchmarks.sounds import LOG_MEL, Sounds, divide
from peav.eval.directions import CAPTIONED
from peav.eval.embedder import FileEmbedder


@pytest.mark.slow
def test_a_manifest_measures_every_direction_on_the_split(encoder: Encoder, manifest: Path) -> None:
    table = Manifest(manifest).run(FileEmbedder(encoder))[0]
    assert [row["direction"] for row in table.rows] == list(CAPTIONED)
    targets = {row["direction"]: row["targets"] for row in table.rows}
    assert targets == {
        "t2av": 3,
        "t2a": 4,
        "t2v": 4,
        "a2v": 3,
        "v2a": 3,
        "speech2transcript": 4,
        "transcript2speech": 4,
    }
    assert all(0 <= row["recall@1"] <= row["recall@5"] <= 1 for row in table.rows)
    assert "| t2av | 3 |" in table.to_markdown()


@pytest.mark.slow
def test_retrieval_tables_fit_a_terminal_of_80_columns(encoder: Encoder, manifest: Path) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(Manifest(manifest).run(FileEmbedder(encoder))[0].to_rich())
    shown = console.file.getvalue()
    assert "transcript2speech" in shown
    assert "…" not in shown


@pytest.mark.slow
def test_figures_are_the_same_twice(encoder: Encoder, manifest: Path) -> None:
    embedder = FileEmbedder(encoder)
    assert Manifest(manifest).run(embedder)[0].to_dict() == Manifest(manifest).run(embedder)[0].to_dict()


@pytest.mark.slow
def test_clips_in_tars_have_the_figures_of_their_manifest(encoder: Encoder, manifest: Path, tmp_path: Path) -> None:
    for record in map(json.loads, manifest.read_text().splitlines()):
        with tarfile.open(tmp_path / f"clips-{record['split']}.tar", "a") as tar:
            tar.add(manifest.parent / record["path"], record["path"])
            (tmp_path / "fields.json").write_text(json.dumps(record))
            tar.add(tmp_path / "fields.json", f"{Path(record['path']).stem}.json")
    tables = [Manifest(path).run(FileEmbedder(encoder))[0] for path in (manifest, tmp_path / "clips-*.tar")]
    assert tables[1].rows == tables[0].rows
    assert [table.title for table in tables] == [
        f"{manifest.parent.name}: retrieval (%), split test",
        "clips-*.tar: retrieval (%), split test",
    ]


def test_the_former_name_of_the_option_for_a_manifest_still_works_and_says_so(tmp_path: Path) -> None:
    for option, renamed in (("--manifest", False), ("--world", True)):
        result = CliRunner().invoke(app, ["eval", "tiny", option, str(tmp_path / "none.jsonl")])
        assert result.exit_code == 2
        assert "none.jsonl: no such manifest" in result.stderr
        assert ("--world is --manifest now" in result.stderr) == renamed
    assert "--world" not in CliRunner().invoke(app, ["eval", "--help"]).stdout


def test_an_empty_split_is_an_error(encoder: Encoder, manifest: Path) -> None:
    says = r"no direction has two rows in the split 'dev' \(0 rows\); its splits are test, train"
    with pytest.raises(EvaluationError, match=says):
        Manifest(manifest, "dev").run(FileEmbedder(encoder))


@pytest.mark.slow
def test_rows_without_a_split_are_of_training_and_alone_they_are_measured_whole(
    encoder: Encoder, manifest: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    plain = [row | {"path": str(manifest.parent / row["path"])} for row in rows]
    for row in plain:
        row.pop("split", None)
    none, some = tmp_path / "none.jsonl", tmp_path / "some.jsonl"
    tested = [row | ({"split": "test"} if number < 3 else {}) for number, row in enumerate(plain)]
    none.write_text("".join(json.dumps(row) + "\n" for row in plain))
    some.write_text("".join(json.dumps(row) + "\n" for row in tested))
    embedder = FileEmbedder(encoder)
    for path, split, title in (
        (none, "test", "split all"),
        (some, "test", "split test"),
        (some, "train", "split train"),
    ):
        (table,) = Manifest(path, split).run(embedder)
        assert table.title == f"{path.name}: retrieval (%), {title}"

    def targets(path: Path, split: str) -> int:
        return max(int(row["targets"]) for row in Manifest(path, split).run(embedder)[0].rows)

    assert targets(none, "test") == targets(some, "test") + targets(some, "train")


@pytest.mark.slow
def test_sounds_are_classified_on_the_fold_that_the_probe_did_not_see(encoder: Encoder, recordings: Path) -> None:
    train, test = divide(recordings, 2)
    assert [row.id.split("/")[1] for row in test] == [f"{i}.wav" for i in range(6, 12)]
    assert not {row.id for row in train} & {row.id for row in test}
    table = Sounds(recordings, fold=2).run(FileEmbedder(encoder))[0]
    assert [(row["method"], row["clips"], row["classes"]) for row in table.rows] == [
        ("zero-shot", 6, 3),
        ("linear probe", 6, 3),
        ("log-mel statistics, linear probe", 6, 3),
    ]


@pytest.mark.slow
def test_zero_shot_is_compared_with_the_probes_on_the_clips_and_classes_that_they_were_taught(
    encoder: Encoder, recordings: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(recordings, tmp_path / "other")
    manifest = other / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(json.dumps(row) for row in rows if row["label"] != "bell" or row["fold"] == 2))
    whole, kept = (Sounds(folder, fold=2).run(FileEmbedder(encoder))[0] for folder in (recordings, other))
    assert [(row["method"], row["clips"], row["classes"]) for row in kept.rows] == [
        ("zero-shot", 6, 3),
        ("zero-shot, the probes' classes", 4, 2),
        ("linear probe", 4, 2),
        ("log-mel statistics, linear probe", 4, 2),
    ]
    assert kept.rows[0]["accuracy"] == whole.rows[0]["accuracy"]


@pytest.mark.slow
def test_classes_of_several_folders_are_told_apart_together(encoder: Encoder, recordings: Path, tmp_path: Path) -> None:
    other = shutil.copytree(recordings, tmp_path / "other")
    manifest = other / "manifest.jsonl"
    renamed = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(json.dumps(row | {"label": f"far {row['label']}"}) for row in renamed))
    table = Sounds(recordings, (other,), 2).run(FileEmbedder(encoder))[0]
    assert [(row["clips"], row["classes"]) for row in table.rows] == [(12, 6)] * 3
    assert table.title == f"{recordings.name} and other: sounds (%), fold 2"


def test_a_fold_that_does_not_exist_names_those_that_do(recordings: Path) -> None:
    with pytest.raises(EvaluationError, match=r"fold 9 leaves no clips .* folds \[1, 2\]"):
        divide(recordings, 9)


def test_the_real_folds_and_sentences_are_read(shared: Path) -> None:
    train, test = divide(shared / "data" / "esc10", 1)
    assert len(train) + len(test) == 238
    assert {row.extra["label"] for row in train} == {row.extra["label"] for row in test}
    rows = [row for row in read_recordings(shared / "data" / "grid_av", "test") if row.transcript]
    assert len(rows) >= 100
    assert all(row.video_path and row.audio_path for row in rows)


@pytest.mark.slow
def test_the_command_prints_one_json_document(
    encoder: Encoder, manifest: Path, recordings: Path, tmp_path: Path
) -> None:
    encoder.save_pretrained(tmp_path / "model")
    command = ["eval", str(tmp_path / "model"), "--manifest", str(manifest), "--esc10", str(recordings), "--fold", "2"]
    result = CliRunner().invoke(app, [*command, "--candidates", "2", "--json"])
    assert result.exit_code == 0, result.output
    captioned, sounds = json.loads(result.stdout)["results"]
    assert {row["targets"] for row in captioned["rows"]} == {2}
    assert [row["method"] for row in sounds["rows"]] == ["zero-shot", "linear probe", LOG_MEL]


@pytest.mark.slow
def test_files_that_break_their_decoder_are_left_out_and_listed(
    encoder: Encoder, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real worker processes; the figures are those of the same folder without these files."""
    encoder.save_pretrained(tmp_path / "model")
    hostile = {"crash": "DecoderCrashError", "hang": "DecodingTimeoutError", "eat": "DecodingMemoryError"}
    folder = shutil.copytree(recordings, tmp_path / recordings.name)
    manifest = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for name in hostile:
        shutil.copy(folder / "6.wav", folder / f"{name}.wav")
        rows.insert(7, rows[6] | {"path": f"{name}.wav"})
    manifest.write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setenv("PEAV_WORKER_HOOK", "hostile_decoder:decode")
    monkeypatch.setenv("PEAV_DECODE_IDLE_SECONDS", "3")
    monkeypatch.setenv("PEAV_DECODE_MEMORY", str(200 << 20))

    def figures(sounds: Path) -> dict[str, Any]:
        command = ["eval", str(tmp_path / "model"), "--esc10", str(sounds), "--fold", "2", "--json"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    whole, left = figures(recordings), figures(folder)
    assert left["results"] == whole["results"]
    assert whole["failures"] == []
    assert {Path(line["id"]).stem: line["error"] for line in left["failures"]} == hostile


def test_the_command_says_what_to_give_it() -> None:
    result = CliRunner().invoke(app, ["eval", "tiny"])
    assert result.exit_code == 2
    assert "--manifest MANIFEST" in result.stderr
