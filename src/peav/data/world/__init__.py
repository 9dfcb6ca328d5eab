"""The procedural audio-video world: `generate` writes clips and their manifest, `compose` and `render` make one."""

from __future__ import annotations

from peav.data.world.errors import MissingSpeechError, WorldError
from peav.data.world.scene import Mix, Scene, compose
from peav.data.world.speech import can_speak
from peav.data.world.write import RenderedClip, generate, render

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
