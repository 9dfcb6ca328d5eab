"""Soundscapes: labelled sounds placed on backgrounds, with the times at which each is heard."""

from peav.data.mix.mixer import Mixer, Mixing, MixingError, Sound, Soundscape, sounds_of
from peav.data.mix.mixtures import Mixtures, make_mixer, make_mixtures, read_rows
from peav.data.mix.remix import Remixer, mixable
from peav.data.mix.write import without_sources, write_mixes

__all__ = [
    "Mixer",
    "Mixing",
    "MixingError",
    "Mixtures",
    "Remixer",
    "Sound",
    "Soundscape",
    "make_mixer",
    "make_mixtures",
    "mixable",
    "read_rows",
    "sounds_of",
    "without_sources",
    "write_mixes",
]
