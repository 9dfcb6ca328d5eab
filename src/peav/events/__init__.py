"""Sound events: frame scores to events, their file formats, and timelines to look at."""

from __future__ import annotations

from peav.events.postprocess import EventStream, Postprocessing, find_events
from peav.events.types import FrameScores, frame_targets
from peav.types import FRAME, Event

__all__ = ["FRAME", "Event", "EventStream", "FrameScores", "Postprocessing", "find_events", "frame_targets"]
