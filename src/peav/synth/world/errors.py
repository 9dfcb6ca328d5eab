"""What can go wrong while the world is made, each with its fix in the message."""

from __future__ import annotations


class WorldError(ValueError):
    """The world cannot be made as asked."""


class MissingSpeechError(WorldError):
    """The speech synthesizer is not installed."""

    def __init__(self) -> None:
        super().__init__("the world's speakers need espeak-ng: pip install 'peav[world]'")
