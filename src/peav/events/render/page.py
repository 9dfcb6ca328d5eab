"""A timeline as one HTML file with the sound in it: a player whose cursor moves over a band for every label."""

from __future__ import annotations

import base64
import io
from html import escape
from importlib.resources import files

import numpy as np

from peav.events.render.timeline import COLORS, Timeline, tick_label, tick_step
from peav.media import Source, iter_audio
from peav.media.write import write_media
from peav.types import Event

BIT_RATE = "64000"  # half a megabyte a minute
LONGEST_ZOOM = 40.0


def page(timeline: Timeline, sound: bytes) -> str:
    """The page as one string; nothing is fetched. `sound` is what `encoded` gives."""
    scores = timeline.scores
    names = "".join(f"<div>{escape(label)}</div>" for label in scores.labels)
    bands = "".join(_band(timeline, row, label) for row, label in enumerate(scores.labels))
    closest = max(2.0, min(LONGEST_ZOOM, scores.duration / 10))
    title = escape(timeline.title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{_template('timeline.css')}</style></head><body><h1>{title}</h1>"
        f'<div class="bar"><audio controls preload="auto" aria-label="{title}" src="{_address(sound)}"></audio>'
        f'<label>zoom <input id="zoom" type="range" min="1" max="{closest:.1f}" step="0.1" value="1"></label></div>'
        f'<div class="board"><div class="names"><div class="wave"></div>{names}</div><div class="scroll">'
        f'<div class="track" role="group" tabindex="0" aria-label="timeline" data-duration="{scores.duration:.3f}">'
        f'<div class="wave">{_wave(timeline.wave)}</div>{bands}{_axis(scores.duration)}<div class="cursor"></div>'
        f"</div></div></div>{_table(timeline)}<script>{_template('timeline.js')}</script></body></html>\n"
    )


def encoded(source: Source) -> bytes:
    """A file's sound as mono AAC in MP4, which every browser plays."""
    buffer = io.BytesIO()
    blocks = (block for _, block in iter_audio(source, 30.0))
    write_media(buffer, "mp4", audio=blocks, audio_options={"b": BIT_RATE})
    return buffer.getvalue()


def _band(timeline: Timeline, row: int, label: str) -> str:
    duration = max(timeline.scores.duration, 1e-9)
    spans = "".join(
        f'<i style="left:{100 * e.onset / duration:.3f}%;width:{100 * (e.offset - e.onset) / duration:.3f}%" '
        f'title="{escape(label)} {e.onset:.2f}-{e.offset:.2f} s, {e.score:.2f}"></i>'
        for e in timeline.of(label)
    )
    return f'<div class="band" style="--color:{_color(row)}">{spans}{_area(timeline.curve(label))}</div>'


def _area(curve: np.ndarray) -> str:
    points = " ".join(f"{x},{100 - 100 * p:.0f}" for x, p in enumerate(curve))
    return _svg(len(curve), f'<polygon fill="currentColor" points="0,100 {points} {len(curve)},100"/>')


def _wave(wave: np.ndarray) -> str:
    upper = " ".join(f"{x},{50 - 46 * peak - 0.5:.1f}" for x, peak in enumerate(wave))
    lower = " ".join(f"{x},{50 + 46 * wave[x] + 0.5:.1f}" for x in range(len(wave) - 1, -1, -1))
    return _svg(len(wave), f'<polygon fill="currentColor" points="{upper} {lower}"/>')


def _svg(width: int, shape: str) -> str:
    return f'<svg viewBox="0 0 {width} 100" preserveAspectRatio="none" aria-hidden="true">{shape}</svg>'


def _axis(duration: float) -> str:
    step = tick_step(duration, 10)
    places = [tick * step for tick in range(int(duration / step + 1e-6) + 1)]
    marks = ""
    for seconds in places:
        share = 100 * seconds / max(duration, 1e-9)
        side = ' class="end"' if share > 98 else ""
        marks += f'<span{side} style="left:{share:.3f}%">{tick_label(seconds, step)}</span>'
    return f'<div class="axis">{marks}</div>'


def _table(timeline: Timeline) -> str:
    if not timeline.events:
        return '<p class="none">None of these was heard.</p>'
    rows = "".join(_row(timeline, event) for event in timeline.events)
    head = "<th>label</th><th>from</th><th>to</th><th>score</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(timeline: Timeline, event: Event) -> str:
    color = _color(timeline.scores.labels.index(event.label))
    return (
        f'<tr data-onset="{event.onset:.3f}" data-offset="{event.offset:.3f}">'
        f'<td><b style="--color:{color}"></b><button>{escape(event.label)}</button></td>'
        f"<td>{tick_label(event.onset, 0.1)}</td><td>{tick_label(event.offset, 0.1)}</td>"
        f"<td>{event.score:.2f}</td></tr>"
    )


def _color(row: int) -> str:
    return COLORS[row % len(COLORS)]


def _address(sound: bytes) -> str:
    return f"data:audio/mp4;base64,{base64.b64encode(sound).decode()}"


def _template(name: str) -> str:
    return files("peav.events.render").joinpath("templates", name).read_text(encoding="utf-8")
