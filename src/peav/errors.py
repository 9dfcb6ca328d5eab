"""Every error that peav raises of what it was given: a file, a checkpoint, a manifest, a recipe. All are `PeavError`s.

A message says what is wrong and what to do about it. A call that makes no sense (a batch size of 0) is a plain
ValueError or TypeError, as everywhere in Python; `except ValueError` catches both kinds.

The module imports nothing, so that any other can import it.
"""

from __future__ import annotations


class PeavError(ValueError):
    """Something that peav was given cannot be used. The root of all errors of the package."""


# Media files


class MediaError(PeavError):
    """Base of every media error: catch this one to go on past a bad file."""


class MissingFileError(MediaError, FileNotFoundError):
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


# Models, and what they are asked


class CheckpointError(PeavError):
    """A checkpoint is missing, unreachable, incomplete or of an unknown layout."""


class LabelError(PeavError):
    """Labels that cannot be looked for: none, an empty one, one twice, or something that is no string."""


class LibraryError(PeavError):
    """A library that is missing, is no library, was made in another way, or is being written by another process."""


# Files of text, tables, and what jobs write


class TextError(PeavError):
    """A file is not text in UTF-8."""


class StorageError(PeavError):
    """Storage cannot be used: it cannot be reached, denies access, fails on, or holds another file by now.

    No `MediaError`, since it says nothing of the files there: it ends a job over many files, which goes on when the
    same command is run again.
    """


class StorageWarning(UserWarning):
    """Storage fails at the moment; what it was asked for is tried again."""


class ManifestError(PeavError):
    """A manifest cannot be read; the message names the file, the line and what to change."""


class EventsError(PeavError):
    """A file of events or scores cannot be read or written; of one that is read, the message names the line."""


class CaptionsError(PeavError):
    """Captions of files cannot be read, or another process is writing them."""


class PreparedError(PeavError):
    """A folder of precomputed features is missing, unfinished or made by something else."""


# Training and evaluation


class RecipeError(PeavError):
    """A recipe asks for something that does not exist; the message names the key and what it may be."""


class TrainingError(PeavError, RuntimeError):
    """Training cannot go on; the message says what happened and what to change."""


class StateError(PeavError):
    """A training checkpoint that cannot be trusted; the message says which and why."""


class EvaluationError(PeavError):
    """Rows, scores or queries that cannot be measured; the message says what they lack."""


# The captioning data engine


class ChatError(PeavError):
    """A language model's endpoint gave no answer that can be used; the message says what it did."""


class CutError(ChatError):
    """An answer of a language model was cut at `max_tokens`."""


class CommandError(PeavError, RuntimeError):
    """A program that captions clips died, hung, or answered with an error or in another way than it should."""


# Generators


class WorldError(PeavError):
    """The procedural world cannot be made as asked."""


class MissingSpeechError(WorldError):
    """The speech synthesizer is not installed."""

    def __init__(self) -> None:
        super().__init__("the world's speakers need espeak-ng: pip install 'peav[world]'")


class MixingError(PeavError):
    """Soundscapes cannot be made of this; the message says what to change."""
