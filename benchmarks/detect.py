"""Memory and time of detection against the length of a recording, and how far scores depend on where windows lie.

    python benchmarks/detect.py                                  frame-tiny's size: 1, 10 and 60 minutes, 20 labels
    python benchmarks/detect.py --preset frame-small --minutes 1 --beside-transformers
    python benchmarks/detect.py --model DIRECTORY --shift FILES  trained weights, recordings put one after the other

Weights are random unless --model gives some. Memory is the largest resident set above what the process held once the
model had heard a second of silence. transformers' model gets windows of 10 s and the weights and labels that ours gets.
--shift scores the recordings for fifteen common sounds, with and without their first seconds, and compares the frames
of both, those near an end left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import peav
from peav.bench.measure import Watch
from peav.checkpoint import convert, load_tokenizer, save_pretrained
from peav.detector import Detector
from peav.inference.streaming import LIVE, RECORDED, StreamingWindow
from peav.media import load_audio
from peav.model import PEAFrame, PEAFrameConfig, preset

RATE = 48000
SOUNDS = (
    *("dog", "cat", "crow", "rooster", "siren", "car horn", "chainsaw", "church bells", "rain", "footsteps"),
    *("clapping", "laughing", "sneezing", "glass breaking", "keyboard typing"),
)
SHIFT = 7.4  # seconds: no multiple of a step
ENDS = 30 * 25  # frames at both ends that see fewer or other windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="frame-tiny")
    parser.add_argument("--model", help="a checkpoint, instead of random weights")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--beside-transformers", action="store_true")
    parser.add_argument("--shift", type=Path, nargs="+", default=[])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    labels = [f"sound number {i}" for i in range(options.labels)]
    if options.child:
        kind, model, sound = options.child
        print(json.dumps((ours if kind == "peav" else theirs)(model, Path(sound), labels)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(random_model(options.preset, Path(folder)))
        if options.shift:
            Console().print(shift_table(model, options.shift))
        else:
            Console().print(length_table(model, Path(folder), options))


def random_model(name: str, folder: Path) -> Path:
    """A checkpoint of random weights with the shipped tokenizer."""
    config = preset(name)
    assert isinstance(config, PEAFrameConfig)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(Path(peav.__file__).parent / "weights" / "tiny")
    return save_pretrained(PEAFrame(config), folder / "model", tokenizer)


def length_table(model: str, folder: Path, options: argparse.Namespace) -> Table:
    """Every length in a process of its own, so that peaks do not mix."""
    name = options.model or options.preset
    table = Table("", "minutes", "extra memory", "CPU seconds a minute", title=f"{name}, {options.labels} labels")
    runs = [("peav", model)]
    if options.beside_transformers:
        convert(model, folder / "transformers", "transformers")
        runs.append(("transformers", str(folder / "transformers")))
    for minutes in options.minutes:
        sound = noise(folder / "noise.wav", minutes)
        for kind, directory in runs:
            child = ["--labels", str(options.labels), "--child", kind, directory, str(sound)]
            run = subprocess.run([sys.executable, __file__, *child], capture_output=True, text=True, check=True)
            peak, seconds = json.loads(run.stdout.splitlines()[-1])
            table.add_row(kind, f"{minutes:g}", f"{peak / 1e9:.3f} GB", f"{seconds / minutes:.2f}")
    return table


def noise(path: Path, minutes: float) -> Path:
    """A mono WAV of noise bursts."""
    generator = np.random.default_rng(0)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        for _ in range(round(minutes * 60)):
            file.writeframes((generator.standard_normal(RATE) * generator.uniform(0, 6000)).astype("<i2").tobytes())
    return path


def ours(model: str, sound: Path, labels: list[str]) -> tuple[int, float]:
    """Peak bytes and CPU seconds of a detector on a file."""
    detector = Detector.load(model, device="cpu")
    detector.scores(np.zeros(RATE), labels, sampling_rate=RATE)  # weights come from the disk when they are first used
    with Watch() as watch:
        detector.scores(sound, labels)
    return watch.peak, watch.seconds


def theirs(model: str, sound: Path, labels: list[str]) -> tuple[int, float]:
    """The same for transformers' frame-level model in windows of 10 s."""
    from transformers import PeAudioFrameLevelModel

    detector = PeAudioFrameLevelModel.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(model)
    assert tokenizer is not None
    tokenizer.enable_padding(pad_id=detector.config.text_config.pad_token_id)
    encodings = tokenizer.encode_batch(labels)
    ids, mask = (torch.tensor([getattr(e, key) for e in encodings]) for key in ("ids", "attention_mask"))
    with torch.inference_mode():
        detector(input_ids=ids, attention_mask=mask, input_values=torch.zeros(1, 1, RATE))
    with Watch() as watch, torch.inference_mode():
        waveform = torch.from_numpy(load_audio(sound))
        for window in waveform.split(10 * RATE):
            detector(input_ids=ids, attention_mask=mask, input_values=window[None, None])
    return watch.peak, watch.seconds


def shift_table(model: str, files: list[Path]) -> Table:
    """How far scores move when the recording begins a little later."""
    detector = Detector.load(model, device="cpu")
    read = detector.encode_labels(SOUNDS)
    sound = np.concatenate([load_audio(path) for path in files])
    skipped = round(SHIFT * 25)
    table = Table(
        "left context, hop, lookahead", "mean", "99 %", "other side of 0.3", "CPU seconds", title="difference of scores"
    )
    for windowing in (StreamingWindow(0, 30, 0), StreamingWindow(5, 20, 5), RECORDED, StreamingWindow(12, 6, 6), LIVE):
        with Watch() as watch:
            whole, later = (
                detector.scores(part, read, sampling_rate=RATE, windowing=windowing).probabilities
                for part in (sound, sound[skipped * 1920 :])
            )
        whole, later = whole[:, skipped + ENDS : -ENDS], later[:, ENDS:-ENDS]
        apart = np.abs(whole - later)
        flips = ((whole > 0.3) != (later > 0.3)).mean()
        name = f"{windowing.left_context:g}, {windowing.hop:g}, {windowing.lookahead:g}"
        figures = f"{apart.mean():.4f}", f"{np.quantile(apart, 0.99):.4f}", f"{flips:.2%}", f"{watch.seconds:.1f}"
        table.add_row(name, *figures)
    return table


if __name__ == "__main__":
    main()
