"""The speakers: what espeak-ng is told, and the figure each voice belongs to."""

from __future__ import annotations

from dataclasses import dataclass


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


VOICES: tuple[Voice, ...] = (
    Voice("anna", "en-us+f2", 165, 55, 50, "woman"),
    Voice("bella", "en-gb-x-rp+f3", 160, 62, 60, "woman"),
    Voice("carla", "en-us+linda", 170, 50, 45, "woman"),
    Voice("dora", "en+f4", 155, 48, 55, "woman"),
    Voice("ed", "en-us+m3", 165, 40, 50, "man"),
    Voice("frank", "en+m1", 160, 35, 45, "man"),
    Voice("gus", "en-gb-scotland+m7", 160, 45, 60, "man"),
    Voice("hugo", "en-us+m2", 170, 22, 40, "man"),
    Voice("ian", "en-gb-x-rp+adam", 165, 45, 50, "man"),
    Voice("kit", "en-us+f5", 175, 92, 70, "child"),
    Voice("lou", "en+f1", 170, 99, 80, "child"),
    Voice("robo", "en-us+UniRobot", 160, 40, 10, "robot"),
    Voice("bolt", "en-us+robosoft", 165, 50, 0, "robot"),
    Voice("oldman", "en-us+grandpa", 150, 25, 50, "old man"),
    Voice("oldwoman", "en+grandma", 150, 60, 50, "old woman"),
    Voice("hush", "en-us+whisper", 155, 50, 50, "hooded person"),
    Voice("vera", "en+steph", 162, 58, 50, "woman", "validation"),
    Voice("will", "en-us+m5", 165, 42, 45, "man", "validation"),
    Voice("tess", "en-us+belinda", 165, 60, 55, "woman", "test"),
    Voice("theo", "en+m4", 162, 38, 50, "man", "test"),
    Voice("timo", "en-us+f4", 172, 95, 75, "child", "test"),
)
