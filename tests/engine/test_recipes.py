"""The engine's recipes that ship: each builds every step, says how it is run, and can be counted before it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from peav.cli.main import app
from peav.engine.captioners.base import Captioner
from peav.engine.plan import Plan, plan
from peav.engine.recipe import read_recipe, weak_stages
from peav.recipes import SHIPPED

# Those of the world are the lab's, see tests/lab/test_weak.py.
RECIPES = sorted(path.stem for path in (SHIPPED / "engine").glob("*.yaml") if not path.stem.startswith("world_"))


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # where engine/offline looks for its models, which are known by the hash of their files
    for name in ("yamnet.tflite", "yamnet_class_map.csv", "whisper/model.bin"):
        (tmp_path / "models" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / name).write_bytes(b"never opened")
    path = tmp_path / "clips.jsonl"
    rows = [
        {"id": f"c{i}", "audio_path": f"{i}.mp4", "video_path": f"{i}.mp4", "duration": seconds}
        for i, seconds in enumerate((10.0, 12.5, 45.0))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def counted(name: str, manifest: Path) -> Plan:
    return plan(str(manifest), manifest.with_name("out"), read_recipe(f"engine/{name}"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_headed_by_its_command(name: str) -> None:
    first, *rest = (SHIPPED / "engine" / f"{name}.yaml").read_text().splitlines()
    wanted = "peav caption MANIFEST -o OUT" + ("" if name == "stage1" else f" --recipe engine/{name}")
    assert first.startswith("# ")
    assert first.endswith(wanted)
    assert rest[0].startswith("# ")
    assert read_recipe(f"engine/{name}").name == name


@pytest.mark.parametrize("name", RECIPES)
def test_a_dry_run_counts_every_step_of_a_recipe_without_opening_models_or_asking_servers(
    name: str, manifest: Path
) -> None:
    found = counted(name, manifest)
    assert (found.rows, found.clips) == (3, 4)
    calls = {step.name: step.calls for step in found.steps}
    assert [one for one in calls if "again" not in one] == [
        stage for stage in expected(name) if stage not in ("check", "fallback")
    ]
    assert {count for one, count in calls.items() if "again" not in one} == {4}
    assert not manifest.with_name("out").exists()


def expected(name: str) -> list[str]:
    """The journaled steps, each asked once about every clip."""
    weak = [stage.name for stage in weak_stages(read_recipe(f"engine/{name}"))]
    checked = ["llm", "agreement, check"]
    final = {"stage1": [], "offline": [], "local": checked, "stage2": checked}.get(name, ["llm"])
    return [*weak, *final]


def test_the_papers_recipe_is_two_listeners_a_viewer_clap_and_llama(manifest: Path) -> None:
    recipe = read_recipe("engine/paper_stage1")
    captioners = [stage for stage in weak_stages(recipe) if isinstance(stage, Captioner)]
    assert [(stage.name, stage.kind) for stage in captioners] == [
        ("enclap", "audio"), ("conette", "audio"), ("plm", "video")]  # fmt: skip
    found = {step.name: step for step in counted("paper_stage1", manifest).steps}
    assert {"clap", "llm"} <= found.keys()
    gpus = [step.name for step in found.values() if step.gpu_hours]
    assert gpus == ["enclap", "conette", "plm", "clap", "llm", "llm again"]
    assert found["llm"].dollars == 0
    assert 0 < found["llm"].shared_tokens < found["llm"].prompt_tokens


def test_the_command_prints_what_a_recipe_takes_for_any_number_of_clips(manifest: Path) -> None:
    command = ["caption", str(manifest), "-o", str(manifest.with_name("out")), "--recipe", "engine/paper_stage1",
               "--dry-run", "--clips", "1000000", "--devices", "8", "--gpu-price", "2.5"]  # fmt: skip
    said = CliRunner().invoke(app, [*command, "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert {step["calls"] for step in found["steps"] if "again" not in step["name"]} == {1_000_000}
    assert found["gpu_days"] == pytest.approx(found["gpu_hours"] / 8 / 24)
    assert found["gpu_dollars"] == pytest.approx(2.5 * found["gpu_hours"])
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    assert "on 8 GPUs:" in shown.stdout
    assert "conette" in shown.stdout
