"""Whether the engine's captions name the right sound, beside the captioners that they are made of.

    pip install ai-edge-litert
    python benchmarks/engine_quality.py

On clips that tiny did not train on, a table and a run each: ESC-10 fold 3, the held-out clips of esc50_cc, and those of
grid_av, where the sound is speech. (Those of av_misc are seven, and two of their captions name a sound.) Two captioners
(tiny zero-shot over the shipped vocabulary, and YAMNet) alone, each with the captions of which the engine's confidence
is not low alone, and what the template makes of both, without confidence and with it (similarity by tiny, thirds of the
run). Columns as in captioners.py; the sounds' words are those of esc_synonyms.yaml.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from captioners import figures
from rich.console import Console
from rich.table import Table

from peav.data.manifest import Row
from peav.data.recordings import read_recordings
from peav.engine.recipe import EngineRecipe
from peav.engine.run import caption
from peav.recipes.config import from_mapping

SETS = ("esc10", "esc50_cc", "grid_av")
CAPTIONERS = ("tiny", "yamnet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="with the sets in it")
    parser.add_argument("--models", type=Path, default=Path("../shared/models"), help="with YAMNet in it")
    asked = parser.parse_args()
    for name in SETS:
        measure(name, held_out(asked.data / name), asked.models)


def held_out(folder: Path) -> list[Row]:
    """The test clips of a folder of recordings; those without a label are of speech."""
    rows = read_recordings(folder, "test")
    return [replace(row, extra={"label": "speech"} | row.extra) for row in rows]


def measure(name: str, rows: list[Row], models: Path) -> None:
    table = Table("captions", "right", "another", "silent", "words", title=f"{name}: {len(rows)} clips")
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "clips.jsonl"
        lines = [{"id": row.id, "audio_path": str(row.audio_path)} for row in rows]
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        by_tiny = {"class": "similarity", "model": "tiny"}
        scored = captioned(manifest, Path(folder) / "out", recipe(models, by_tiny))
        plain = captioned(manifest, Path(folder) / "out", recipe(models, None))
    weak = {row: {one["captioner"]: one for one in made["weak"]} for row, made in scored.items()}
    for captioner in CAPTIONERS:
        add(table, f"{captioner} alone", rows, {row: own[captioner]["text"] for row, own in weak.items()})
    for captioner in CAPTIONERS:
        sure = {row: own[captioner] for row, own in weak.items() if own[captioner]["confidence"] != "low"}
        add(table, f"{captioner} where not low", rows, {row: one["text"] for row, one in sure.items()})
    add(table, "both, without confidence", rows, {row: final(made) for row, made in plain.items()})
    add(table, "both, with confidence", rows, {row: final(made) for row, made in scored.items()})
    Console(width=120).print(table)


def recipe(models: Path, score: dict[str, Any] | None) -> EngineRecipe:
    files = {
        name: str(models / file) for name, file in (("model", "yamnet.tflite"), ("classes", "yamnet_class_map.csv"))
    }
    captioners = [
        {"class": "tagger", "name": "tiny", "kind": "audio", "model": "tiny"},
        {"class": "audio_tagger", "name": "yamnet", **files},
    ]
    return from_mapping(EngineRecipe, {"name": "esc", "captioners": captioners, "score": score})


def captioned(manifest: Path, out: Path, steps: EngineRecipe) -> dict[str, dict[str, Any]]:
    """The rows of the shards, by id; a clip without any caption is left out of them."""
    summary = caption(str(manifest), out, steps)
    assert not summary.failed, summary
    shards = [pq.read_table(path).to_pylist() for path in sorted((out / "shards").glob("*.parquet"))]
    return {row["id"]: row for shard in shards for row in shard}


def final(made: dict[str, Any]) -> str:
    return (made["synthetic"]["audio"] or [""])[0]


def add(table: Table, title: str, rows: list[Row], texts: dict[str, str]) -> None:
    table.add_row(title, *figures(rows, [texts.get(row.id, "") for row in rows]))


if __name__ == "__main__":
    main()
