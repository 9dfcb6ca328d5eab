"""A timeline as one HTML file: a player whose cursor moves over a band for every label, to zoom into and to filter."""

from __future__ import annotations

import base64
import io
import os
import zlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from peav.events.render.timeline import COLORS, Timeline
from peav.media import Source, iter_audio
from peav.media.write import write_media
from peav.types import TimedCaption
from peav.utils.page import document, resource
from peav.utils.text import clock

BIT_RATE = "64000"  # half a megabyte a minute
LONGEST = 300.0  # seconds of sound that a page holds: an hour's would be 38 MB of text


def page(timeline: Timeline, sound: str, captions: Sequence[TimedCaption] = ()) -> str:
    """The page as one string; nothing is fetched but, of a long recording, its sound.

    Wave and scores are in it as bytes: an hour is at most 0.12 MB a label.

    Args:
        sound: the player's address, as `sound` gives it.
        captions: of the recording, listed below its events.
    """
    labels = timeline.scores.labels
    bands = "".join(_band(timeline, row, label) for row, label in enumerate(labels))
    filled = {
        "title": escape(timeline.title),
        "sound": escape(sound),
        "bands": bands,
        "captions": captions_html(captions),
    }
    body, style, script = (
        resource("peav.events.render", "templates", f"timeline.{kind}") for kind in ("html", "css", "js")
    )
    parts = body.split("%")  # %name% stands for what is filled in
    body = "".join(filled[part] if place % 2 else part for place, part in enumerate(parts))
    return document(timeline.title, body, style, script, _data(timeline))


def sound(path: Path, duration: float, folder: Path) -> str:
    """The address of a recording's sound for a page in `folder`: itself up to five minutes, as `encoded`, so that the
    page needs no other file; of a longer one, where the recording lies.
    """
    if duration <= LONGEST:
        return f"data:audio/mp4;base64,{base64.b64encode(encoded(path)).decode()}"
    try:
        return quote(Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix())
    except ValueError:  # on another drive
        return path.absolute().as_uri()


def encoded(source: Source) -> bytes:
    """A file's sound as mono AAC in MP4, which every browser plays."""
    buffer = io.BytesIO()
    blocks = (block for _, block in iter_audio(source, 30.0))
    write_media(buffer, "mp4", audio=blocks, audio_options={"b": BIT_RATE})
    return buffer.getvalue()


def _band(timeline: Timeline, row: int, label: str) -> str:
    count = len(timeline.of(label))
    about = f"above {timeline.how.threshold_of(label):.2f}, {count} event{'' if count == 1 else 's'}"
    return (
        f'<section class="band" style="--color:{COLORS[row % len(COLORS)]}">'
        f"<h2><b></b>{escape(label)} <small>{about}</small></h2><canvas></canvas></section>"
    )


def captions_html(captions: Sequence[TimedCaption]) -> str:
    """A list of captions, each with a button that goes to its time."""
    if not captions:
        return ""
    lines = "".join(
        f'<li><button data-start="{one.start:.3f}">{clock(one.start)}</button> {escape(one.text)}</li>'
        for one in captions
    )
    return f'<h2>In words</h2><ol class="captions">{lines}</ol>'


def _data(timeline: Timeline) -> dict[str, Any]:
    """What the page's script draws."""
    scores, how = timeline.scores, timeline.how
    values = np.concatenate([timeline.wave, scores.probabilities.ravel()])
    rows = {label: row for row, label in enumerate(scores.labels)}
    return {
        "duration": round(scores.duration, 3),
        "labels": list(scores.labels),
        "thresholds": [how.threshold_of(label) for label in scores.labels],
        "low": how.low,
        "events": [[rows[e.label], round(e.onset, 3), round(e.offset, 3), round(e.score, 2)] for e in timeline.events],
        "columns": len(timeline.wave),
        "frames": scores.probabilities.shape[1],
        "frame": scores.frame,
        "packed": base64.b64encode(zlib.compress(np.rint(255 * values).astype(np.uint8).tobytes())).decode(),
    }
