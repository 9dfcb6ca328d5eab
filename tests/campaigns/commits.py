"""Two commits on one machine: the shipped models and a short training give the same numbers, to the last bit.

./run long commits OLD [NEW]      NEW: the commit that is checked out, by default

Embeddings of `tiny` (sound, pictures, texts in every space), frame scores of `frame-tiny`, and every loss of three
steps of training by a recipe with the older keys, which both read; in fp32, on one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Run by either commit, so it asks for nothing by a name that only one of them has.
PROBE = """
import hashlib, json, sys, warnings
from pathlib import Path
import numpy as np, torch, yaml
warnings.simplefilter("ignore")
torch.set_num_threads(1)
out, found = Path(sys.argv[1]), {}

def note(name, array):
    array = np.ascontiguousarray(array)
    found[name] = f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"

import peav
from peav.detector import Detector
rng = np.random.default_rng(0)
sounds = [(rng.standard_normal(seconds * 48000) * 0.1).astype(np.float32) for seconds in (1, 3, 7)]
pictures = [rng.integers(0, 256, (frames, 180, 240, 3), dtype=np.uint8) for frames in (1, 5, 30)]
texts = ["a dog barks", "rain on a roof while people talk", ""]
encoder = peav.load("tiny", device="cpu")
note("sound", encoder.encode_audio(sounds, sampling_rate=48000))
note("sound at 16 kHz", encoder.encode_audio([sound[::3] for sound in sounds], sampling_rate=16000))
note("pictures", encoder.encode_video(pictures))
for space in ("audio", "video", "audio_video"):
    note(f"texts, {space}", encoder.encode_text(texts, space=space))
detector = Detector.load("frame-tiny", device="cpu")
for at, sound in enumerate(sounds):
    note(f"frame scores {at}", detector.scores(sound, ["dog", "siren"], sampling_rate=48000).probabilities)

try:
    from peav.synth.world import generate
except ImportError:
    from peav.data.world import generate
from peav.train import read_recipe, train

class Silent:
    def stage(self, name, total): pass
    def advance(self, done, note=""): pass
    def step(self, record): pass

generate(out / "world", 16, seed=5)
place = str(out / "world" / "manifest.jsonl")
recipe = {
    "name": "probe", "output": str(out / "probe"), "checkpoint_every": 10,
    "data": {"cache": str(out / "cache"), "sources": [{"manifest": place}]},
    "codec": {"checkpoint": "tiny"}, "frames": {"checkpoint": "tiny", "frozen": True},
    "objective": {"best_rq_weight": 0.1, "words_weight": 0.5, "pairs": "finetune"},
    "optim": {"steps": 3, "batch_size": 4, "warmup": 2, "bf16": False},
    "evaluation": {"every": 100, "candidates": 4, "final_candidates": 4},
}
(out / "probe.yaml").write_text(yaml.safe_dump(recipe))
train(read_recipe(out / "probe.yaml"), Silent())
for line in (out / "probe" / "log.jsonl").read_text().splitlines():
    record = json.loads(line)
    found[f"losses of step {record['step']}"] = repr(sorted(record["losses"].items()))
print(json.dumps(found))
"""


def measured(source: Path, folder: Path) -> dict[str, str]:
    """What the code of a clone gives: name -> shape and digest, or losses in full."""
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", PROBE, str(folder)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{source}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def clone(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", "--detach", commit], check=True)
    return folder


def main() -> None:
    """Compare; ends with status 1 where a number differs."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: ./run long commits OLD [NEW]")
    names = [
        subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", name], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in (sys.argv[1], *(sys.argv[2:] or ["HEAD"]))
    ]
    with tempfile.TemporaryDirectory(prefix="peav-commits-") as folder:
        work = Path(folder)
        before, after = (
            measured(clone(name, work / side), work / f"{side}-out")
            for side, name in zip(("old", "new"), names, strict=True)
        )
    assert before.keys() == after.keys()
    for name, value in before.items():
        print(f"{'the same' if value == after[name] else 'DIFFERS '}  {name}: {value[:60]}")
    print(f"{names[0][:7]} and {names[1][:7]}: {sum(before[n] == after[n] for n in before)} of {len(before)} the same")
    sys.exit(before != after)


if __name__ == "__main__":
    main()
