"""Writes clips as mp4 and wav with their manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peav.data.manifest import write_manifest
from peav.errors import WorldError
from peav.jobs import GOES_ON, claim, make_all
from peav.media.write import write_media
from peav.synth.world.captions import captions
from peav.synth.world.render import frames, waveform
from peav.synth.world.scene import Mix, Scene, compose
from peav.synth.world.sounds import Signal
from peav.synth.world.splits import SPLITS
from peav.utils.atomic import atomic_write
from peav.utils.jsonl import read_lines

LICENSE = "CC0-1.0"
_MP4: dict[str, Any] = {
    "fps": Fraction(25, 2),
    "audio_options": {"b": "96000", "aac_coder": "fast"},
    "video_options": {"preset": "ultrafast", "crf": "26"},
}
_WORTH_A_PROCESS = 64  # clips: starting a process costs as much as making so many
_VERSION = 4  # raised when the same seed no longer makes the same clips
Row = dict[str, Any]


@dataclass(frozen=True)
class RenderedClip:
    """A clip in memory: float32 (S,) at 48 kHz, uint8 (N, 160, 160, 3) at 12.5 a second, and its manifest row."""

    waveform: Signal | None
    frames: NDArray[np.uint8] | None
    row: Row


def render(scene: Scene, seed: int) -> RenderedClip:
    """Sound, picture and row of a scene; a missing stream is None."""
    sound = waveform(scene) if scene.has_audio else None
    return RenderedClip(sound, frames(scene) if scene.has_video else None, manifest_row(scene, seed))


def manifest_row(scene: Scene, seed: int) -> Row:
    """The clip's manifest row, with the extra columns kinds, voice, words and duration."""
    speaker = scene.speaker if scene.has_audio else None
    words = [asdict(word) for word in speaker.utterance.words] if speaker else []
    for word in words:
        for edge in ("start", "end"):
            word[edge] = round(word[edge] + speaker.start, 3) if speaker else word[edge]
    return {
        "id": scene.id,
        "path": media_path(scene),
        "captions": captions(scene),
        "transcript": speaker.transcript if speaker else None,
        "events": events(scene),
        "split": scene.split,
        "source": f"peav world seed {seed}",
        "license": LICENSE,
        "kinds": [thing.kind.name for thing in scene.things],
        "voice": scene.speaker.voice.name if scene.speaker else None,
        "words": words,
        "duration": scene.duration,
    }


def media_path(scene: Scene) -> str:
    """Where the clip lies, relative to its manifest."""
    return f"media/{scene.id}.{'mp4' if scene.has_video else 'wav'}"


def events(scene: Scene) -> list[Row]:
    """What is heard when, in order: {onset, offset, label, visible}; none in a clip without sound."""
    if not scene.has_audio:
        return []
    found = [(*span, thing.kind.label, thing.visible) for thing in scene.things for span in thing.events]
    if scene.speaker is not None:
        speaker = scene.speaker
        found.append((speaker.start, round(speaker.end, 3), f"{speaker.figure.who} speaking", scene.has_video))
    keys = ("onset", "offset", "label", "visible")
    return [dict(zip(keys, event, strict=True)) for event in sorted(found)]


def generate(
    out: Path,
    clips: int,
    seed: int,
    *,
    splits: Sequence[str] = SPLITS,
    mix: Mix | None = None,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Path:
    """Make `clips` clips under `out` and return the manifest's path.

    One split gets them all; all three share them 80 : 10 : 10. Clips that are there already are kept, rows of other
    clips of the same world too. The same (seed, mix) gives the same rows whatever the number of `jobs`. `progress` is
    told how many are there.
    Raises WorldError where `out` holds another world, MissingSpeechError without the `world` extra.
    """
    mix = mix or Mix()
    _claim(out, seed, mix)
    manifest = out / "manifest.jsonl"
    todo = [(split, index) for split, count in _shares(clips, splits).items() for index in range(count)]
    made: list[Row] = make_all(
        partial(_make, out, seed, mix),
        todo,
        f"clips are kept; {GOES_ON}",
        progress,
        min(jobs, 1 + len(todo) // _WORTH_A_PROCESS),
    )
    rows = {row["id"]: row for row in [*read_lines(manifest), *made]}
    write_manifest(manifest, sorted(rows.values(), key=lambda row: (SPLITS.index(row["split"]), row["id"])))
    return manifest


def _make(out: Path, seed: int, mix: Mix, place: tuple[str, int]) -> Row:
    scene = compose(seed, *place, mix)
    target = out / media_path(scene)
    if target.exists():
        return manifest_row(scene, seed)
    clip = render(scene, seed)
    with atomic_write(target) as temporary:
        if clip.frames is None:
            assert clip.waveform is not None
            write_wav(temporary, clip.waveform)
        else:
            sound = None if clip.waveform is None else [clip.waveform]
            write_media(temporary, "mp4", audio=sound, video=clip.frames, **_MP4)
    return clip.row


def write_wav(path: Path, sound: Signal) -> None:
    """16-bit mono at 48 kHz."""
    write_media(path, "wav", audio=[(sound * 32767).astype(np.int16)])


def _shares(clips: int, splits: Sequence[str]) -> dict[str, int]:
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise WorldError(f"unknown split {', '.join(unknown) or '(none)'}; choose from {', '.join(SPLITS)} or all")
    if clips < 1:
        raise WorldError(f"{clips} clips cannot be made; ask for at least 1")
    weights = {split: 8 if split == "train" else 1 for split in splits}
    counts = {split: clips * weight // sum(weights.values()) for split, weight in weights.items()}
    counts[splits[0]] += clips - sum(counts.values())
    return counts


def _claim(out: Path, seed: int, mix: Mix) -> None:
    """Note in `out` which world it holds, so that a resumed run cannot mix two."""
    wanted = {"version": _VERSION, "seed": seed, "mix": asdict(mix)}
    if (held := claim(out / "world.json", wanted)) != wanted:
        raise WorldError(f"{out} holds the world {held}, not {wanted}; choose an empty folder or the same settings")
