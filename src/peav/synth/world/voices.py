"""The speakers of `voices.toml`: what espeak-ng is told, and the figure each voice belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from peav.synth.world.tables import read_table


@dataclass(frozen=True)
class Voice:
    """One voice: espeak-ng name, words a minute, pitch and pitch range (0-99), and who is seen and heard."""

    name: str
    espeak: str
    rate: int
    pitch: int
    range: int
    figure: str
    split: str | None = None  # the only split it speaks in; None: every split


VOICES: tuple[Voice, ...] = tuple(Voice(name, **told) for name, told in read_table("voices").items())
