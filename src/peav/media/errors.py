"""What can be wrong with a media file, as types. Every message names the file and says what to do about it."""

from __future__ import annotations


class MediaError(ValueError):
    """Base of every media error: catch this one to go on past a bad file."""


class MissingFileError(MediaError):
    """There is no such file."""


class UnreadableFileError(MediaError):
    """The path is there but is no readable regular file: a folder, a device, or no permission."""


class NotMediaError(MediaError):
    """The content is in no audio or video format, whatever the file's name says."""


class NoAudioStreamError(MediaError):
    """The file has no audio stream."""


class NoVideoStreamError(MediaError):
    """The file has no video stream; cover art does not count as one."""


class UndecodableError(MediaError):
    """There is a stream, but nothing in it can be decoded: unknown codec, encrypted, cut off or damaged."""


class ZeroLengthError(MediaError):
    """There is nothing in it: an empty file, stream or array."""


class LimitError(MediaError):
    """It asks for more than a stated limit: see `peav.media.limits`."""


class NonFiniteError(MediaError):
    """Samples are NaN or infinite."""


class WindowError(MediaError):
    """The asked span of time makes no sense for this file: negative, NaN, empty, or past the end."""


class UnsupportedInputError(MediaError):
    """A kind of input that is not read: URLs, text-mode files, arrays of the wrong shape or type."""


class DecoderCrashError(MediaError):
    """The decoder fell over the file: its process crashed, or it failed in a way that nobody foresaw."""


class DecodingTimeoutError(MediaError):
    """Decoding took more processor time than any good file needs, or stood still."""


class DecodingMemoryError(MediaError):
    """Decoding took more memory than any good file needs."""


class MediaWarning(UserWarning):
    """Base of the media warnings: the result holds less than the file promises."""


class TruncatedMediaWarning(MediaWarning):
    """The file ends early; what it holds was returned."""


class DamagedMediaWarning(MediaWarning):
    """Some packets could not be decoded; the rest was returned."""


class SampleRangeWarning(MediaWarning):
    """Float samples far beyond full scale, as 16-bit ones are before they are divided by 32768."""


class StreamWarning(MediaWarning):
    """One stream of the file cannot be used; the other one was."""
