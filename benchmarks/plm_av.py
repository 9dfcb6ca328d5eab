"""Whether captioners (PLM-AV) name the right sound, on clips that neither they nor `tiny` were trained on.

    peav train plm_av_tiny                                  docs/captioning.md says what it needs
    python benchmarks/plm_av.py runs/plm_av_tiny/model ...  ESC-10 fold 3, and the test clips of runs/world-smoke

Three tables: ESC-10 fold 3, the sound of the world's test clips, and what is not there: silence and noise. Beside each
captioner: `tiny` zero-shot through the tagger and the template, on the world over the world's own labels, and the
captioner's own answers to another clip's sound (`shuffled`). Right: the caption names the clip's sound, one of the
world's if there are several. Another: it names one that is not there. Silent: it is empty. In brackets, 95 % of
bootstrap samples. The words for a sound are those of esc_synonyms.yaml and of the world's list, fixed before anything
was measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml
from captioners import SYNONYMS, names, share
from rich.console import Console
from rich.table import Table

from peav.captioner import Captioner
from peav.data.manifest import Row, read_manifest
from peav.data.recordings import read_recordings
from peav.engine.captioners.tagger import Tagger
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.words import stems
from peav.features.decode import Decoded
from peav.lab.weak import PERSON, things
from peav.media import load_audio
from peav.synth.world.kinds import KINDS

RATE = 48_000
TOKENS = 24
Named = Callable[[str], set[str]]  # the sounds that a text names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/esc10"))
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--world", type=Path, default=Path("runs/world-smoke"))
    parser.add_argument("--clips", type=int, default=100, help="of the world")
    parser.add_argument("--prompt", default="caption")
    parser.add_argument("--texts", action="store_true", help="print every caption")
    asked = parser.parse_args()
    captioners = [Captioner.load(model) for model in asked.model]

    def say(title: str, sounds: Sequence[np.ndarray], there: Sequence[set[str]], tagger: Tagger, named: Named) -> None:
        table = Table("captions", "right", "another", "silent", "words", title=f"{title}: {len(sounds)} clips")
        table.add_row("tiny, zero-shot by the template", *row_of(there, tagged(tagger, sounds), named))
        half = len(sounds) // 2  # the clips stand by class: half of them away is another one
        for captioner in captioners:
            texts = captioner.caption(sounds, asked.prompt, sampling_rate=RATE, max_new_tokens=TOKENS)
            table.add_row(captioner.name, *row_of(there, texts, named))
            if any(there):
                table.add_row(f"{captioner.name}, shuffled", *row_of(there, [*texts[half:], *texts[:half]], named))
            if asked.texts:
                console.print(*(f"{sorted(own)}: {text}" for own, text in zip(there, texts, strict=True)), sep="\n")
        console.print(table)

    console = Console(width=120, markup=False)
    rows = [row for row in read_recordings(asked.data) if row.extra["fold"] == asked.fold]
    own = {row.extra["label"] for row in rows}
    esc: dict[str, str] = yaml.safe_load(SYNONYMS.read_text(encoding="utf-8"))
    tiny = Tagger(name="tiny", kind="audio", model="tiny")
    say(f"ESC-10 fold {asked.fold}", heard(rows), [{row.extra["label"]} for row in rows], tiny, by_regex(esc, own))
    sounding = [row for row in read_manifest(asked.world / "manifest.jsonl", "test") if sounds_of(row)]
    tests = sorted(sounding[: asked.clips], key=lambda row: row.events[0].label)
    labels = Tagger(name="tiny", kind="audio", model="tiny", labels=[kind.label for kind in KINDS.values()])
    say("the world", heard(tests), [sounds_of(row) for row in tests], labels, of_the_world)
    for title, sounds in nothing().items():
        say(title, sounds, [set[str]()] * len(sounds), tiny, by_regex(esc, esc))


def heard(rows: Sequence[Row]) -> list[np.ndarray]:
    """The sound of each row at RATE, up to ten seconds."""
    return [load_audio(row.audio_path)[: 10 * RATE] for row in rows if row.audio_path]


def sounds_of(row: Row) -> set[str]:
    """What sounds in a clip of the world, but for voices: who only speaks is no sound to be named."""
    return set(things(row, "audio")) - {PERSON}


def nothing() -> dict[str, list[np.ndarray]]:
    """Clips of five seconds in which nothing sounds: digital silence, all but silence, and noise of two colors."""
    draw = np.random.default_rng(0)
    white = [draw.standard_normal(5 * RATE).astype(np.float32) for _ in range(20)]
    brown = [np.cumsum(one) for one in white]
    return {
        "silence": [np.zeros(5 * RATE, np.float32), *(1e-5 * one for one in white[:9])],
        "noise": [(0.02, 0.1, 0.5)[i % 3] * one / np.abs(one).max() for i, one in enumerate(white[:10] + brown[10:])],
    }


def tagged(tagger: Tagger, sounds: Sequence[np.ndarray]) -> list[str]:
    """What a tagger says."""
    tagger.setup()
    row = Row("clip", audio_path=Path("clip.wav"))
    answers = dict(tagger([Sample(Clip(row.id, row), Decoded(sound, None)) for sound in sounds]))
    return [answer.value if isinstance(answer, Answer) else "" for _, answer in sorted(answers.items())]


def by_regex(words: dict[str, str], labels: Iterable[str]) -> Named:
    """Gives the labels that a text names."""
    return lambda text: {label for label in labels if names(words[label], text)}


def of_the_world(text: str) -> set[str]:
    """The world's sounds that a text names: by a noun, or by all words of what is heard."""
    said = stems([text])
    return {
        name
        for name, kind in KINDS.items()
        if any(stems([phrase]) <= said for phrase in (*kind.nouns, *kind.heard, kind.label))
    }


def row_of(there: Sequence[set[str]], texts: Sequence[str], named: Named) -> list[str]:
    """The columns of a table; of clips in which nothing is there, none is right."""
    pairs = list(zip(map(named, texts), there, strict=True))
    right = np.array([bool(said & own) for said, own in pairs])
    another = np.array([bool(said - own) for said, own in pairs])
    silent = np.array([not text for text in texts])
    return [share(right), share(another), share(silent), f"{np.mean([len(text.split()) for text in texts]):.1f}"]


if __name__ == "__main__":
    main()
