"""What docs/extending.md shows: classes of one's own, each in a file that a recipe or a command names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from media.make import tone, write_audio
from training_runs import losses
from typer.testing import CliRunner

from peav.cli.main import app

OWN = '''
from dataclasses import dataclass, replace

import torch

from peav.data.manifest import read_manifest
from peav.data.places import Place
from peav.data.transforms import SourceTransform
from peav.eval.benchmarks import Benchmark
from peav.events.writers import EventFormat
from peav.eval.tables import Column, Table
from peav.objectives.auxiliary import AuxiliaryLoss
from peav.train.initialize import Initializer


class Quiet(AuxiliaryLoss):
    """Short embeddings: the mean squared length of the audio tower's output."""

    def __init__(self, context, power: int = 2):
        super().__init__(context)
        self.power = power

    def on_audio(self, states):
        return states.sequence.abs().pow(self.power).mean()


class Spread(AuxiliaryLoss):
    """Embeddings of different clips point apart."""

    def on_embeddings(self, embeddings, present):
        rows = [torch.nn.functional.normalize(rows.float(), dim=-1) for rows in embeddings.values()]
        return torch.stack([(each @ each.T).mean() for each in rows]).mean()


@dataclass(frozen=True)
class Half(Place):
    """Every other clip of a manifest."""

    manifest: str

    def rows(self, context):
        return read_manifest(self.manifest)[::2]


@dataclass
class Shout(SourceTransform):
    """A clip that is drawn is told in capitals."""

    copies: int = 1

    def start(self, rows, context):
        self.cache = context.cache
        return rows

    def draw(self, row, rng, load):
        loud = {kind: [text.upper() for text in texts] for kind, texts in row.captions.items()}
        return replace(row, captions=loud), self.cache.load(row) if load else None


@dataclass
class Zero(Initializer):
    """The audio tower starts with a bias of its own."""

    bias: float

    def run(self, model, context):
        with torch.no_grad():
            model.audio.tower.data_proj.bias.fill_(self.bias)


class Count(EventFormat):
    """How many events there are."""

    suffix = ".count"
    holds_many = True

    def text(self, files):
        return "".join(f"{name} {len(file.events)}\\n" for name, file in files.items())


@dataclass
class Words(Benchmark):
    """How long the embeddings of captions are."""

    def run(self, embedder):
        rows = read_manifest(self.path)
        texts = embedder.texts([row.captions["audio"][0] for row in rows if row.captions.get("audio")], "audio")
        length = float((texts**2).sum(1).mean())
        return [Table("lengths", [Column("length", "length", "decimal")], [{"length": length}])]
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def recipe(folder: Path, world: Path, own: Path, **options: object) -> Path:
    values = {
        "name": "own",
        "output": str(folder / "run"),
        "data": {
            "cache": str(world / "cache"),
            "sources": [
                {
                    "place": {"class": f"{own}:Half", "manifest": str(world / "manifest.jsonl")},
                    "transforms": [{"class": f"{own}:Shout", "copies": 2}],
                }
            ],
        },
        "initializers": [{"class": f"{own}:Zero", "bias": 0.25}],
        "codec": {"checkpoint": "tiny"},
        "frames": {"checkpoint": "tiny", "num_frames": 24, "frozen": True},
        "objective": {"auxiliary": {f"{own}:Quiet": {"weight": 0.1, "power": 2}, f"{own}:Spread": {"weight": 0.1}}},
        "optim": {"steps": 1, "batch_size": 2, "warmup": 1, "bf16": False},
        "evaluation": {"candidates": 4, "final_candidates": 4},
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(values | options))
    return path


@pytest.mark.slow
def test_classes_of_ones_own_train_by_the_command_line(world: Path, own: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(recipe(tmp_path, world, own)), "--json"])
    assert result.exit_code == 0, result.output
    (found,) = losses(tmp_path / "run")
    assert {"Quiet", "Spread"} < found.keys()
    assert found["Quiet"] > 0
    log = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    pairs = [value for name, value in found.items() if name not in ("Quiet", "Spread")]
    mean = sum(pairs) / len(pairs)
    assert log["loss"] == pytest.approx(mean + 0.1 * found["Quiet"] + 0.1 * found["Spread"], rel=1e-5)


@pytest.mark.slow
def test_an_own_benchmark_runs_by_the_command_line(world: Path, own: Path) -> None:
    option = f"{own}:Words={world / 'manifest.jsonl'}"
    result = CliRunner().invoke(app, ["eval", "tiny", "--bench", option, "--json"])
    assert result.exit_code == 0, result.output
    (table,) = json.loads(result.stdout)["results"]
    assert table["title"] == "lengths"
    assert table["rows"][0]["length"] > 0


@pytest.mark.slow
def test_an_own_format_is_written_by_the_command_line(own: Path, tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "a.wav", tone(1.0))
    command = ["detect", str(sound), "--labels", "dog,rain", "--format", f"{own}:Count"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"a\.wav \d+\n", result.stdout)
    assert CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out")]).exit_code == 0
    assert (tmp_path / "out" / "a.count").read_text() == result.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initializers": ["nothing"]}, "initializers: 'nothing' is not built in"),
        ({"initializers": [{"class": "OWN:Zero"}]}, "initializers: OWN:Zero: bias: is missing"),
        ({"initializers": [{"class": "OWN:Zero", "bias": "much"}]}, "bias: should be a valid number, found 'much'"),
        ({"initializers": [{"class": "OWN:Zero", "bias": 1, "size": 2}]}, "size: no such option; here are bias"),
        (
            {"initializers": [{"class": "OWN:Words"}]},
            "no class Words derived from peav.train.initialize.Initializer",
        ),
        ({"initializers": [{"class": "absent.py:Zero"}]}, "FileNotFoundError: no such file"),
        ({"initializers": [{"bias": 1}]}, "names no class"),
    ],
)
def test_a_class_that_cannot_be_used_is_named(
    changes: dict, message: str, world: Path, own: Path, tmp_path: Path
) -> None:
    text = json.dumps(changes).replace("OWN", str(own))
    result = CliRunner().invoke(app, ["train", str(recipe(tmp_path, world, own, **json.loads(text)))])
    assert result.exit_code != 0
    assert "".join(message.replace("OWN", str(own)).split()) in "".join(result.output.split())


@pytest.mark.slow
def test_training_needs_nothing_of_the_lab_or_of_the_generators(world: Path, tmp_path: Path) -> None:
    values = {
        "name": "plain",
        "output": str(tmp_path / "run"),
        "data": {"cache": str(world / "cache"), "sources": [{"place": str(world / "manifest.jsonl")}]},
        "codec": {"checkpoint": "tiny"},
        "frames": {"checkpoint": "tiny", "num_frames": 24, "frozen": True},
        "objective": {"auxiliary": {"best_rq": {"weight": 0.1}}},
        "optim": {"steps": 1, "batch_size": 2, "warmup": 1, "bf16": False},
        "evaluation": {"candidates": 4, "final_candidates": 4},
    }
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(values))
    program = """
        import sys
        sys.modules["peav.lab"] = sys.modules["peav.synth"] = None  # importing them fails
        from peav.cli.main import app
        app(["train", sys.argv[1]])
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
