"""What training on frames gives over the clip-level model that it starts from, on the same recordings.

    python benchmarks/frames.py tiny frame-tiny          (about ten minutes on one processor core)
    python benchmarks/frames.py runs/frame_tiny_clips/model runs/frame_tiny/model

A PE-AV model is read frame by frame: the audio tower's sequence through its head, against the text. AUROC is of frames,
the mean over labels: on mixtures of real recordings, and on the sound of the world's test clips, each label against all
frames. Retrieval is R@1 of an audio caption among so many of these clips, by the pooled state.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from peav.checkpoint import load_model, load_tokenizer, resolve, save_pretrained
from peav.data.manifest import Row, read_manifest
from peav.detector import Detector
from peav.eval.detection import frame_auroc, macro
from peav.eval.metrics import recall_at_k
from peav.events import Event, FrameScores
from peav.events.formats import read_events
from peav.media import NoAudioStreamError, load_audio, pad_to_hop
from peav.model import PEAFrame
from peav.utils.text import readable

RATE, HOP = 48_000, 1920


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="PE-AV or PE-A-Frame: tiny, frame-tiny, or a folder")
    parser.add_argument("--mixtures", type=Path, default=Path("../shared/data/sed_mix"))
    parser.add_argument("--world", type=Path, default=Path("runs/world"))
    parser.add_argument("--clips", type=int, default=1100)
    parser.add_argument("--candidates", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for row in read_manifest(options.world / "manifest.jsonl", "test") if row.audio_path is not None]
    table = Table("model", "AUROC, mixtures", "AUROC, world", f"R@1 of {options.candidates}", title="frames (%)")
    for name in options.models:
        detector = frame_model(name)
        figures = (mixtures(detector, options.mixtures), *world(detector, rows[: options.clips], options.candidates))
        table.add_row(name, *(f"{100 * figure:.1f}" for figure in figures))
    Console().print(table)


def frame_model(name: str) -> Detector:
    """A checkpoint as a detector; a PE-AV one by its audio and text towers."""
    directory = resolve(name)
    model = load_model(directory).float()
    if isinstance(model, PEAFrame):
        return Detector.load(name, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(PEAFrame.from_peav(model), Path(folder), load_tokenizer(directory))
        return Detector.load(folder, device="cpu")


def mixtures(detector: Detector, folder: Path) -> float:
    """Macro AUROC over the labels of a folder of mixtures."""
    truth = read_events(folder / "manifest.jsonl")
    labels = detector.encode_labels(sorted({event.label for events in truth.values() for event in events}))
    files = sorted((folder / "audio").iterdir())
    return macro(frame_auroc({f.stem: detector.scores(f, labels) for f in track(files, "mixtures")}, truth))


@torch.inference_mode()
def world(detector: Detector, rows: Sequence[Row], candidates: int) -> tuple[float, float]:
    """Macro AUROC over the labels of clips, and R@1 of captions to clips."""
    model = detector.model
    labels = detector.encode_labels(sorted({readable(event.label) for row in rows for event in row.events}))
    scores, pooled, captions = {}, [], {}
    for row in track(rows, "world"):
        try:
            waveform = pad_to_hop(load_audio(row.audio_path), HOP)
        except NoAudioStreamError:
            continue
        hidden = model.audio_hidden(model.encode_codec(torch.from_numpy(waveform)[None]))
        logits = model.score(model.heads["audio"](hidden.sequence), labels.embeddings)[0]
        scores[row.id] = FrameScores(labels.names, logits.numpy(), len(waveform) / RATE)
        told = row.captions.get("audio", [])
        if told and told[0] not in captions and len(captions) < candidates:
            captions[told[0]] = len(pooled)
            pooled.append(model.heads["audio"](hidden.pooled)[0])
    truth = {
        row.id: [Event(readable(event.label), event.onset, event.offset) for event in row.events]
        for row in rows
        if row.id in scores
    }
    texts = detector.encode_labels(dict(zip(map(str, captions.values()), captions, strict=True))).embeddings
    return macro(frame_auroc(scores, truth)), recall_at_k((texts @ torch.stack(pooled).T).numpy(), 1)


if __name__ == "__main__":
    main()
