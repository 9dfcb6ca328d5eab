"""Speech synthesis: espeak-ng through ctypes, with word timings."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from peav.errors import MissingSpeechError, WorldError
from peav.synth.world.sounds import RATE, Signal, resample
from peav.synth.world.voices import Voice
from peav.types import Word

_SYNCHRONOUS, _CHARACTERS, _UTF8 = 2, 1, 1
_SPEAKING_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_END_OF_LIST, _WORD = 0, 1
_MOST_EVENTS = 10_000

if sys.platform == "win32":
    from _ctypes import FreeLibrary as _unload
else:
    from _ctypes import dlclose as _unload


@dataclass(frozen=True)
class Utterance:
    """A spoken sentence: float32 waveform (S,) at 48 kHz and its words."""

    waveform: Signal
    words: tuple[Word, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.waveform) / RATE


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_void_p),  # a union as large as a pointer
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Tape:
    """What espeak-ng's callback delivers: samples, and a mark (text position, length, sample) for each word."""

    def __init__(self) -> None:
        self.chunks: list[NDArray[np.int16]] = []
        self.marks: list[tuple[int, int, int]] = []

    def receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for position in range(_MOST_EVENTS):
            event = events[position]
            if event.type == _END_OF_LIST:
                break
            if event.type == _WORD:
                self.marks.append((event.text_position - 1, event.length, event.sample))
        return 0


def say(text: str, voice: Voice) -> Utterance:
    """Speak `text`; silence at both ends is cut off. The same text and voice give the same samples, always.

    Raises MissingSpeechError without the `world` extra, WorldError where espeak-ng does not know the voice.
    """
    library_path, data_path = _installation()
    # espeak-ng keeps phases and counters from one sentence to the next, and only loading it anew clears them.
    library = ctypes.CDLL(library_path)
    try:
        tape = _Tape()
        callback = _Callback(tape.receive)
        source_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data_path, 0)
        if source_rate <= 0:
            raise WorldError("espeak-ng did not start; reinstall with: pip install --force-reinstall espeakng-loader")
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.espeak.encode()) != 0:
            raise WorldError(f"espeak-ng has no voice {voice.espeak!r}; pip install -U espeakng-loader")
        for parameter, value in ((_SPEAKING_RATE, voice.rate), (_PITCH, voice.pitch), (_PITCH_RANGE, voice.range)):
            library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, _CHARACTERS, 0, _UTF8, None, None)
        library.espeak_Terminate()
    finally:
        _unload(library._handle)
    return _utterance(text, np.concatenate(tape.chunks), source_rate, tape.marks)


def can_speak() -> bool:
    """Whether espeak-ng is installed, the `world` extra."""
    try:
        _installation()
    except MissingSpeechError:
        return False
    return True


@cache
def _installation() -> tuple[str, bytes]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingSpeechError from error
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path().encode()


def _utterance(text: str, pcm: NDArray[np.int16], source_rate: int, marks: list[tuple[int, int, int]]) -> Utterance:
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 200)
    first, last = int(loud[0]), int(loud[-1]) + 1
    waveform = resample(pcm[first:last].astype(np.float32) / np.float32(32768), source_rate, RATE)
    starts = [max(0.0, (sample - first) / source_rate) for _, _, sample in marks]
    ends = [*starts[1:], (last - first) / source_rate]
    words = tuple(
        Word(text[position : position + length], round(start, 3), round(end, 3))
        for (position, length, _), start, end in zip(marks, starts, ends, strict=True)
    )
    return Utterance(waveform, words)
