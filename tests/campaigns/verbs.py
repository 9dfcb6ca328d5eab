"""Every verb that `peav --help` lists does its job on real files: what comes out is checked, not the exit code.

    python tests/campaigns/verbs.py [FOLDER]     (three minutes of processor time; needs the `world` extra)

Each verb runs as a process of its own in FOLDER (a temporary one by default), with the Python that runs this. A verb
without a check here is an error, so that a new one gets its own.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLIPS = 10
CHECKS: dict[str, Callable[[Path], str]] = {}


def check(verb: Callable[[Path], str]) -> Callable[[Path], str]:
    """Enter the check of the verb of its name; they run in the order of this file, each on what those before made."""
    CHECKS[verb.__name__.replace("_", " ")] = verb
    return verb


def peav(folder: Path, *arguments: object, fails: bool = False) -> str:
    """What a command prints; of one that fails, what it says."""
    command = [sys.executable, "-m", "peav", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    wrong = f"peav {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert (done.returncode != 0) == fails, wrong
    assert "Traceback" not in done.stderr, wrong
    return done.stderr if fails else done.stdout


def as_json(folder: Path, *arguments: object) -> Any:
    return json.loads(peav(folder, *arguments, "--json"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def vectors(library: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(library).to_pylist()
    return rows


def write_wave(path: Path, samples: np.ndarray) -> None:
    """16-bit samples at 48 kHz."""
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", "NONE"))
        file.writeframes(np.clip(samples, -32768, 32767).astype("<i2").tobytes())


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(load_file(checkpoint / "model.safetensors"))


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@check
def doctor(folder: Path) -> str:
    report = as_json(folder, "doctor")
    assert report["healthy"], report
    assert {one["status"] for one in report["checks"]} == {"ok"}, report
    return report["checks"][-1]["detail"]


@check
def world(folder: Path) -> str:
    assert as_json(folder, "world", "clips", "--clips", CLIPS, "--seed", 5)["clips"] == CLIPS
    rows = lines(folder / "clips" / "manifest.jsonl")
    from peav.media import load_audio, load_frames

    for row in rows:
        path = folder / "clips" / row["path"]
        assert abs(len(load_audio(path)) / 48000 - row["duration"]) < 0.1, row
        assert len(load_frames(path).pixels) > 10, row
        assert np.abs(load_audio(path)).max() > 0.01, row
    assert len({row["id"] for row in rows}) == CLIPS
    # Beside them a file that has sound alone, in a folder of its own, and one that cannot be read.
    write_wave(folder / "sounds" / "tone.wav", 8000 * np.sin(2 * np.pi * 440 * np.arange(96000) / 48000))
    (folder / "clips" / "media" / "bad.mp4").write_text("no film")
    return f"{CLIPS} clips with sound and pictures"


@check
def embed(folder: Path) -> str:
    report = as_json(folder, "embed", "clips/media", "-o", "lib.parquet")
    assert (report["embedded"], report["failed"], report["library_rows"]) == (CLIPS, 1, CLIPS), report
    assert [Path(one["path"]).name for one in lines(folder / "failures.jsonl")] == ["bad.mp4"]
    assert as_json(folder, "embed", "sounds", "-o", "sounds.parquet")["embedded"] == 1
    assert as_json(folder, "embed", "clips/media", "sounds", "-o", "lib.parquet")["embedded"] == 1  # the rest is there
    import peav as package

    for row in vectors(folder / "lib.parquet"):
        spaces = {space for space in ("audio", "video", "audio_video") if row[space] is not None}
        assert spaces == ({"audio"} if row["path"].endswith(".wav") else {"audio", "video", "audio_video"}), row["path"]
        assert all(np.isfinite(row[space]).all() for space in spaces)
    first = vectors(folder / "lib.parquet")[0]
    expected = np.asarray(package.load("tiny").encode_audio_video([first["path"]]))[0]
    assert np.allclose(first["audio_video"], expected, rtol=1e-4, atol=1e-4)
    return f"{CLIPS + 1} rows, as in Python; 1 failure listed"


@check
def search(folder: Path) -> str:
    rows = lines(folder / "clips" / "manifest.jsonl")
    row = rows[0]
    itself = peav(folder, "search", "lib.parquet", "--video", f"clips/{row['path']}", "--top", 1)
    assert Path(row["path"]).stem in itself, itself
    assert "1.0" in itself, itself
    found = as_json(folder, "search", "lib.parquet", row["captions"]["audio_video"][0], "--top", 3)
    assert Path(row["path"]).name in [Path(hit["path"]).name for hit in found], found
    tone = as_json(folder, "search", "sounds.parquet", "--audio", "sounds/tone.wav")
    assert (len(tone), round(tone[0]["score"], 3)) == (1, 1.0), tone
    return f"a clip finds itself; its sentence finds it among {CLIPS + 1}"


@check
def library_info(folder: Path) -> str:
    shutil.copytree(folder / "sounds", folder / "kept")
    write_wave(folder / "kept" / "other.wav", 8000 * np.sin(2 * np.pi * 880 * np.arange(48000) / 48000))
    assert as_json(folder, "embed", "kept", "-o", "kept.parquet")["embedded"] == 2
    facts = as_json(folder, "library", "info", "kept.parquet")
    assert (facts["files"], facts["windows"], facts["state"]["there"], facts["model"]) == (2, 2, 2, "tiny"), facts
    return "2 files, 2 windows"


@check
def library_list(folder: Path) -> str:
    found = as_json(folder, "library", "list", "kept.parquet")
    assert sorted(Path(one["path"]).name for one in found) == ["other.wav", "tone.wav"], found
    return "2 files"


@check
def library_sync(folder: Path) -> str:
    before = {Path(row["path"]).name: row["audio"] for row in vectors(folder / "kept.parquet")}
    (folder / "kept" / "tone.wav").rename(folder / "kept" / "moved.wav")
    assert as_json(folder, "library", "sync", "kept.parquet", "kept") == {"moved": 1, "removed": 0, "kept": 1}
    after = {Path(row["path"]).name: row["audio"] for row in vectors(folder / "kept.parquet")}
    assert after == {"moved.wav": before["tone.wav"], "other.wav": before["other.wav"]}
    return "a file that moved keeps its embedding"


@check
def library_remove(folder: Path) -> str:
    assert as_json(folder, "library", "remove", "kept.parquet", "kept/other.wav") == {"removed": 1}
    assert [Path(row["path"]).name for row in vectors(folder / "kept.parquet")] == ["moved.wav"]
    return "1 of 2 files"


@check
def classify(folder: Path) -> str:
    rows = lines(folder / "clips" / "manifest.jsonl")[:4]
    captions = {row["path"]: row["captions"]["audio_video"][0].replace(",", "") for row in rows}
    names = [f"clips/{path}" for path in captions]
    results = as_json(folder, "classify", *names, "--labels", ",".join(captions.values()), "--top", 4)
    right = 0
    for result, caption in zip(results, captions.values(), strict=True):
        scores = [entry["probability"] for entry in result["labels"]]
        assert len(scores) == 4, result
        assert abs(sum(scores) - 1) < 1e-4, result
        right += result["labels"][0]["label"] == caption
    assert right >= 3, results
    return f"{right} of 4 clips get their own sentence"


@check
def describe(folder: Path) -> str:
    asked = [sys.executable, "-c", "from transformers import LlamaForCausalLM"]  # by a process such as the verb's own
    if subprocess.run(asked, capture_output=True, check=False).returncode:  # not there, or not beside this torchvision
        (folder / "told").mkdir()
        parts = {"encoder": {"name": "tiny", "id": ""}, "language_model": {"name": "none", "id": ""}}
        config = {"format": "peav", "version": 1, "model": "plm_av", "config": {}, **parts}
        (folder / "told" / "config.json").write_text(json.dumps(config))
        said = peav(folder, "describe", "sounds", "--model", "told", fails=True)
        assert "transformers" in said, said
        return "says that it needs transformers"
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from random_captioner import save_captioner

    model = save_captioner(folder / "told")
    (told,) = as_json(folder, "describe", "sounds", "--model", model)
    assert [len(told["windows"]), bool(told["windows"][0]["text"])] == [1, True], told
    return "words, of random weights"


@check
def detect(folder: Path) -> str:
    labels = sorted({event["label"] for row in lines(folder / "clips" / "manifest.jsonl") for event in row["events"]})
    asked = ",".join(label.replace(",", " ") for label in labels)
    options = ("--labels", asked, "--threshold", "0.1", "-o", "found", "--scores")
    report = as_json(folder, "detect", "clips/media", *options)
    assert (report["detected"], report["failed"]) == (CLIPS, 1), report
    found = lines(folder / "found" / "detections.jsonl")
    events = [(event, one["duration"]) for one in found for event in one["events"]]
    assert len(events) == report["events"] > 0, report
    for event, duration in events:
        assert 0 <= event["onset"] < event["offset"] <= duration + 0.05, event
        assert 0.1 <= event["score"] <= 1, event
    assert len(list((folder / "found" / "scores").glob("*.tsv"))) == CLIPS
    return f"{len(events)} events of {len(labels)} labels"


@check
def detect_eval(folder: Path) -> str:
    detection, psds = as_json(folder, "detect", "eval", "found", "clips/manifest.jsonl")["results"]
    auroc = next(row["auroc"] for row in detection["rows"] if row["label"] == "mean of labels")
    assert 0.5 < auroc <= 1, detection
    assert all(0 <= psds["rows"][0][name] <= 1 for name in ("psds1", "psds2")), psds
    return f"AUROC {auroc:.2f}"


@check
def detect_calibrate(folder: Path) -> str:
    as_json(folder, "detect", "calibrate", "found", "clips/manifest.jsonl", "-o", "thresholds.json", "--min-events", 1)
    thresholds = json.loads((folder / "thresholds.json").read_text())
    assert thresholds, thresholds
    return f"thresholds of {len(thresholds)} labels"


@check
def prepare(folder: Path) -> str:
    first = as_json(folder, "prepare", "clips/manifest.jsonl", "-o", "cache")
    again = as_json(folder, "prepare", "clips/manifest.jsonl", "-o", "cache")
    assert (first["clips"], first["failed"]) == (CLIPS, 0), first
    assert (again["clips"], again["computed"]) == (CLIPS, 0), again
    return f"{CLIPS} clips in {sum(path.stat().st_size for path in (folder / 'cache').rglob('*')) / 2**20:.1f} MiB"


@check
def train(folder: Path) -> str:
    changes = ("optim.steps=2", "optim.batch_size=4", "evaluation.every=2", "checkpoint_every=2", "output=run")
    options = [part for change in changes for part in ("--set", change)]
    result = as_json(folder, "train", "finetune", "--init", "tiny", "--data", "clips/manifest.jsonl", *options)
    figures = [value for split in ("validation", "test") for value in result[split].values()]
    assert figures, result
    assert all(0 <= value <= 1 for value in figures), result
    made = folder / "run" / "model"
    assert not same(weights(made), weights(_tiny())), "nothing was learnt"
    import peav as package

    assert np.isfinite(package.load(str(made)).encode_text("a dog barks", space="audio")).all()
    return "2 steps of fine-tuning change the model, which loads"


@check
def ablate(folder: Path) -> str:
    base = (
        "{name: base, output: unused, model: tiny, tune: {rank: 2}, frames: {frozen: true}, "
        "data: {cache: runs/cache, sources: [{manifest: clips/manifest.jsonl}]}, objective: {loss: infonce}, "
        "optim: {steps: 1, batch_size: 4}, evaluation: {every: 1}}"
    )
    (folder / "base.yaml").write_text(base)
    (folder / "variants.yaml").write_text(
        "{name: two, base: base.yaml, output: ablated, seeds: [0], figures: [t2av],"
        " groups: {loss: {infonce: {}, sigmoid: {objective.loss: sigmoid}}}}"
    )
    result = as_json(folder, "ablate", "variants.yaml")
    rows = result["results"]["rows"]
    assert result["runs"] == 2, result
    assert [row["variant"] for row in rows] == ["infonce", "sigmoid"], result
    assert all(re.match(r"\d", row["t2av"]) for row in rows), result
    assert (folder / "ablated" / "ablations.svg").read_text().startswith("<svg")
    return "2 variants, a table and a chart"


@check
def eval(folder: Path) -> str:
    options = ("--manifest", "clips/manifest.jsonl", "--split", "train")
    tables = as_json(folder, "eval", "tiny", *options)["results"]
    figures = [row for table in tables for row in table["rows"]]
    recall, chance = ([row[name] for row in figures if "direction" in row] for name in ("recall@1", "chance@1"))
    assert recall, tables
    assert all(0 <= value <= 1 for value in recall), tables
    assert np.mean(recall) > 2 * np.mean(chance), tables
    return f"mean R@1 {np.mean(recall):.2f}, chance {np.mean(chance):.2f}"


@check
def mix(folder: Path) -> str:
    # The world's sounds overlap, and only a sound that stands alone can be placed: noises of our own.
    noise = np.random.default_rng(0).normal(size=(2, 48000)) * 3000
    for label, samples in zip(("hiss", "rumble"), (np.diff(noise[0]), np.cumsum(noise[1]) / 30), strict=True):
        write_wave(folder / "noises" / f"{label}.wav", samples)
    told = "".join(
        json.dumps({"id": label, "path": f"{label}.wav", "label": label}) + "\n" for label in ("hiss", "rumble")
    )
    (folder / "noises" / "manifest.jsonl").write_text(told)
    as_json(folder, "mix", "mixed", "--sounds", "noises/manifest.jsonl", "--clips", 3, "--duration", 6)
    rows = lines(folder / "mixed" / "manifest.jsonl")
    from peav.media import load_audio

    for row in rows:
        samples = load_audio(folder / "mixed" / row["path"])
        assert abs(len(samples) - 6 * 48000) < 2, row
        assert all(0 <= event["onset"] < event["offset"] <= 6 for event in row["events"]), row
        event = row["events"][0]
        assert np.abs(samples[int(event["onset"] * 48000) : int(event["offset"] * 48000)]).max() > 0, row
    return f"{len(rows)} soundscapes, {sum(len(row['events']) for row in rows)} events"


@check
def caption(folder: Path) -> str:
    summary = as_json(folder, "caption", "clips", "-o", "captioned", "--limit", 4)
    assert (summary["done"], summary["failed"]) == (4, 0), summary
    found = vectors(folder / "captioned" / "shards" / "00000.parquet")
    texts = [row["synthetic"][kind] for row in found for kind in ("audio", "video", "audio_video")]
    assert len(texts) == 12, "a kind of caption is missing"
    assert all(text and text[0] for text in texts), "a caption is missing"
    assert sum(as_json(folder, "caption", "clips", "-o", "captioned", "--limit", 4)["asked"].values()) == 0
    return f"4 clips, such as: {texts[2][0]!r}"


@check
def caption_retry(folder: Path) -> str:
    before = (folder / "captioned" / "shards" / "00000.parquet").read_bytes()
    assert as_json(folder, "caption", "retry", "captioned")["done"] == 4
    assert (folder / "captioned" / "shards" / "00000.parquet").read_bytes() == before
    return "nothing had failed, nothing is asked"


@check
def caption_report(folder: Path) -> str:
    report = as_json(folder, "caption", "report", "captioned", "--clips", 2)
    page = Path(folder / report["page"]).read_text(encoding="utf-8")
    assert (report["done"], report["failed"], len(report["sample"])) == (4, 0, 2), report
    assert page.count("<video") == page.count('src="data:video/mp4;base64,') == page.count("<article") > 0
    assert all(sum(counts.values()) == 4 for counts in report["words_per_caption"].values()), report
    assert sum(cost["seconds"] for cost in report["costs"].values()) > 0, report
    return f"{report['done']} clips, a page of {len(page) / 2**20:.1f} MiB"


@check
def bench(folder: Path) -> str:
    small = ("--seconds", 0.4, "--frames", 2, "--clips", 2, "--repeats", 1, "--files", 4)
    report = as_json(folder, "bench", *small, "-o", "bench.json")
    assert report == json.loads((folder / "bench.json").read_text())
    assert (folder / "bench.svg").read_text().count("<rect") == 1 + len(report["parts"])
    ours = {row["part"]: row for row in report["parts"] if row["by"] == "peav"}
    assert set(ours) == {"codec", "audio encoder", "frame encoder", "text encoder", "training step"}, set(ours)
    assert all(row["seconds_a_unit"] > 0 and row["gflop_a_unit"] > 0 for row in ours.values()), ours
    others = {row["by"] for row in report["parts"]} - {"peav"}
    assert bool(others) == (not report["left_out"]), report["left_out"]
    assert set(report["files"]) == {"decode", "embed, one core", "embed, all cores"}
    return f"{report['peak_gflops']:.0f} GFLOP a second at most" + "".join(f"; beside {name}" for name in others)


@check
def average(folder: Path) -> str:
    as_json(folder, "average", "tiny", _tiny(), "-o", "averaged")
    assert same(weights(folder / "averaged"), weights(_tiny())), "a model averaged with itself is another"
    return "of two equal models, that model"


@check
def convert(folder: Path) -> str:
    as_json(folder, "convert", "tiny", "there", "--to", "perception_models")
    as_json(folder, "convert", "there", "back", "--to", "peav")
    assert weights(folder / "there").keys() != weights(folder / "back").keys()
    assert same(weights(folder / "back"), weights(_tiny())), "there and back is another model"
    return "there and back, the same weights"


@check
def demo(folder: Path) -> str:
    report = as_json(folder, "demo", "--out", "page", "--clips", 6, "--no-open")
    page = Path(report["page"]).read_text(encoding="utf-8")
    assert report["clips"] == page.count('"data:video/mp4;base64,') == 6, report["clips"]
    assert len(report["searches"]) >= 4, report
    return f"{len(report['searches'])} searches, a page of {len(page) / 2**20:.1f} MiB"


def _tiny() -> Path:
    from peav.checkpoint import resolve

    return resolve("tiny")


def listed(folder: Path) -> list[str]:
    """The verbs that `peav --help` lists, whatever it draws around them."""
    from peav.cli.main import VERBS

    text = peav(folder, "--help")
    missing = [verb for verb in VERBS if not re.search(rf"(?m)^\W*{verb}\s", text)]
    assert not missing, f"`peav --help` does not list {missing}:\n{text}"
    return list(VERBS)


def main(folder: Path) -> bool:
    """Whether every verb passed; prints a line for each."""
    verbs = listed(folder)
    assert set(verbs) == set(CHECKS), f"no check for {set(verbs) - set(CHECKS)}, or no verb {set(CHECKS) - set(verbs)}"
    good = True
    for verb, job in CHECKS.items():
        began = time.monotonic()
        try:
            detail = job(folder)
        except Exception as error:
            good, detail = False, f"FAILED {type(error).__name__}: {error}"
        print(f"{verb:<17}{math.ceil(time.monotonic() - began):>4} s  {detail}", flush=True)
    return good


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(not main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(not main(Path(temporary)))
