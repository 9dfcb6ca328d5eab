"""Probe and decode audio and video files: exact windows, exact frames, bounded memory, typed errors."""

from peav.errors import (
    DamagedMediaWarning,
    DecoderCrashError,
    DecodingMemoryError,
    DecodingTimeoutError,
    LimitError,
    MediaError,
    MediaWarning,
    MissingFileError,
    NoAudioStreamError,
    NonFiniteError,
    NotMediaError,
    NoVideoStreamError,
    SampleRangeWarning,
    StreamWarning,
    TruncatedMediaWarning,
    UndecodableError,
    UnreadableFileError,
    UnsupportedInputError,
    WindowError,
    ZeroLengthError,
)
from peav.media.audio import iter_audio, load_audio, pad_to_hop
from peav.media.find import find_media
from peav.media.limits import Limits
from peav.media.probe import MediaInfo, probe
from peav.media.resample import Resampler, Waveform, as_waveform
from peav.media.resize import resize_frames
from peav.media.source import Source
from peav.media.video import Frames, iter_frames, load_frames
from peav.media.windows import Window, windows

__all__ = [
    "DamagedMediaWarning",
    "DecoderCrashError",
    "DecodingMemoryError",
    "DecodingTimeoutError",
    "Frames",
    "LimitError",
    "Limits",
    "MediaError",
    "MediaInfo",
    "MediaWarning",
    "MissingFileError",
    "NoAudioStreamError",
    "NoVideoStreamError",
    "NonFiniteError",
    "NotMediaError",
    "Resampler",
    "SampleRangeWarning",
    "Source",
    "StreamWarning",
    "TruncatedMediaWarning",
    "UndecodableError",
    "UnreadableFileError",
    "UnsupportedInputError",
    "Waveform",
    "Window",
    "WindowError",
    "ZeroLengthError",
    "as_waveform",
    "find_media",
    "iter_audio",
    "iter_frames",
    "load_audio",
    "load_frames",
    "pad_to_hop",
    "probe",
    "resize_frames",
    "windows",
]
