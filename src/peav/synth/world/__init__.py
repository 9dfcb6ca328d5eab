"""The procedural audio-video world: `generate` writes clips and their manifest, `compose` and `render` make one."""

from __future__ import annotations

from peav.errors import MissingSpeechError, WorldError
from peav.synth.world.scene import Mix, Scene, compose
from peav.synth.world.speech import can_speak
from peav.synth.world.write import RenderedClip, generate, render

__all__ = [
    "MissingSpeechError",
    "Mix",
    "RenderedClip",
    "Scene",
    "WorldError",
    "can_speak",
    "compose",
    "generate",
    "render",
]
