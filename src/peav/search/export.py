"""What was found, for other programs and people: a playlist, cut clips, a page with players."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from peav.errors import MediaError
from peav.media import Window, iter_audio, iter_frames, probe
from peav.media.write import write_media
from peav.search.query import Hit
from peav.types import TimedCaption
from peav.utils.atomic import atomic_write, on_disk
from peav.utils.page import document, resource
from peav.utils.terminal import visible
from peav.utils.text import clock, counted

FPS = 25
BLOCK = 2.0  # seconds of frames that are held at once
LONGEST = 30.0  # seconds of a window that a page holds

Captions = Mapping[str, Sequence[TimedCaption]]
Failed = Callable[[MediaError], None]
"""Told why a file can no longer be read."""


def to_m3u(hits: Sequence[Hit]) -> str:
    """An extended M3U playlist; VLC begins and ends each file where the window does."""
    lines = ["#EXTM3U"]
    for hit in hits:
        title = visible(f"{Path(hit.path).name} {hit.start:.1f} s")
        lines += [
            f"#EXTINF:{round(hit.end - hit.start)},{title}",
            f"#EXTVLCOPT:start-time={hit.start:.3f}",
            f"#EXTVLCOPT:stop-time={hit.end:.3f}",
            visible(hit.path),
        ]
    return "\n".join(lines) + "\n"


def cut_clips(hits: Sequence[Hit], folder: Path, failed: Failed) -> list[Path]:
    """Write each window as a file of its own, named by its rank: mp4 with pictures, flac (mono) of sound alone."""
    on_disk(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for rank, hit in enumerate(hits, 1):
        try:
            written.append(_cut(hit, folder / f"{rank:02d}-{Path(hit.path).stem}-{hit.start:.1f}s"))
        except MediaError as error:
            failed(error)
    return written


def _cut(hit: Hit, stem: Path) -> Path:
    source, info = Path(hit.path), probe(hit.path)
    blocks = np.arange(hit.start, hit.end, BLOCK)
    spans = [Window(float(at), float(min(at + BLOCK, hit.end))) for at in blocks]
    target = stem.with_name(stem.name + (".mp4" if info.has_video else ".flac"))
    with atomic_write(target) as temporary:
        sound = (block for _, block in iter_audio(source, spans)) if info.has_audio else None
        if info.has_video:
            write_media(temporary, "mp4", audio=sound, video=_pictures(source, spans), fps=FPS)
        else:
            assert sound is not None
            write_media(temporary, "flac", audio=map(_int16, sound))
    return target


def _pictures(source: Path, spans: Sequence[Window]) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) with even sides, as H.264 wants them."""
    for _, frames in iter_frames(source, spans, fps=FPS):
        for pixels in frames.pixels:
            yield np.ascontiguousarray(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])


def _int16(block: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(block * 32768), -32768, 32767).astype(np.int16)


def page(title: str, hits: Sequence[Hit], failed: Failed, captions: Captions | None = None) -> str:
    """One HTML file with everything in it: a card for each hit whose player holds the window that was found.

    Args:
        captions: of files, by path: a card has those of its window.
    """
    cards = "".join(_card(rank, hit, failed, (captions or {}).get(hit.path, ())) for rank, hit in enumerate(hits, 1))
    body = (
        f"<main><h1>{escape(title)}</h1>"
        f"<p>{counted(len(hits), 'window')}, best first. Each player holds the window that was found.</p>"
        f"<ol>{cards}</ol></main>"
    )
    return document(title, body, resource("peav.search", "templates", "hits.css"))


def _card(rank: int, hit: Hit, failed: Failed, captions: Sequence[TimedCaption]) -> str:
    from peav.media.preview import excerpt

    name = escape(visible(Path(hit.path).name))
    label = escape(f"{rank}: {visible(Path(hit.path).name)}, {hit.start:.1f} to {hit.end:.1f} seconds")
    try:
        address, pictures = excerpt(Path(hit.path), hit.start, min(hit.end, hit.start + LONGEST))
    except MediaError as error:
        failed(error)
        player = f"<p>{escape(visible(str(error)))}</p>"
    else:
        kind = "video" if pictures else "audio"
        player = f'<{kind} controls preload="metadata" aria-label="{label}" src="{address}"></{kind}>'
    said = [one.text for one in captions if one.start < hit.end and one.end > hit.start]
    words = f"<p>{escape('; '.join(dict.fromkeys(said)))}</p>" if said else ""
    return (
        f'<li>{player}<h2 title="{escape(visible(hit.path))}">{rank}. {name}</h2>'
        f"<p><b>{clock(hit.start)} - {clock(hit.end)}</b> in {hit.space.replace('_', '+')}"
        f"<span>{hit.score:.3f}</span></p>{words}</li>"
    )
