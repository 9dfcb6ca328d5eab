"""Soundscapes: labeled sounds placed on backgrounds, with the times at which each is heard."""

from peav.errors import MixingError
from peav.synth.mix.mixer import Mixer, Mixing, Sound, Soundscape, said, sounds_of
from peav.synth.mix.mixtures import Mixtures, make_mixer, make_mixtures, read_rows
from peav.synth.mix.write import without_sources, write_mixes

__all__ = [
    "Mixer",
    "Mixing",
    "MixingError",
    "Mixtures",
    "Sound",
    "Soundscape",
    "make_mixer",
    "make_mixtures",
    "read_rows",
    "said",
    "sounds_of",
    "without_sources",
    "write_mixes",
]
