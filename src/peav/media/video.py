"""Exactly the frames asked for, and no more decoding than they need.

A first pass reads the packets' timestamps without decoding: they tell how many frames there really are and when each
is shown, where headers may be silent or wrong. The second pass decodes only from the key frame before each wanted
frame, and turns only wanted frames into pixels. Files whose packets do not tell are decoded for the first pass too.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from numpy.typing import NDArray

from peav.errors import UndecodableError, UnsupportedInputError, WindowError
from peav.media.resize import resize_frames
from peav.media.schedule import JoinedSchedule, MissingFrameError, Schedule, decode, schedule
from peav.media.source import Source, name_of
from peav.media.windows import Window, check_length, check_window
from peav.media.windows import windows as cut

EPSILON = 1e-3  # seconds: Matroska rounds timestamps to it, and a frame at 0.067 s is on screen at 2/30 s


@dataclass(frozen=True)
class Frames:
    """Pictures with their times."""

    pixels: NDArray[np.uint8]
    """(N, H, W, 3) RGB, upright."""
    times: NDArray[np.float64]
    """(N,) seconds on the file's timeline at which each is first shown."""

    def __len__(self) -> int:
        return len(self.times)


def load_frames(
    source: Source,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    size: int | None = None,
) -> Frames:
    """Decode frames shown in `[start, end)` seconds, turned upright as the file's rotation says.

    `num_frames`: that many, evenly by index, `int(i * (n - 1) / (num_frames - 1))` over the n frames that the span
    really has (repeated where n is smaller). `fps`: the frame on screen at `start`, `start + 1 / fps`, ...
    Neither: every frame. A span in which no frame starts gives the one that stays on screen. `size` squashes each
    frame to (size, size) by `resize_frames` as it is decoded, so that large frames never pile up.

    Raises a `MediaError` that names the file; warns with a `MediaWarning` where it is truncated or damaged.
    """
    window = check_window(start, end)
    for _, frames in iter_frames(source, [window], num_frames=num_frames, fps=fps, size=size):
        return frames
    raise WindowError(f"{name_of(source)}: start={start} is past the end of its video; give an earlier start")


def iter_frames(
    source: Source,
    windows: float | Sequence[Window] = 30.0,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    size: int | None = None,
) -> Iterator[tuple[Window, Frames]]:
    """Yield `(window, frames)` for windows of a file in one pass; memory holds one window, not the file.

    `windows` is a length in seconds, to cut the whole file, or a list sorted by start. A yielded window ends where
    the video ends; windows past its end are left out. The rest as `load_frames`.
    """
    if num_frames is not None and fps is not None:
        raise UnsupportedInputError("num_frames and fps are both given: choose one")
    for name, value in (("num_frames", num_frames), ("fps", fps), ("size", size)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UnsupportedInputError(f"{name}={value} must be positive")
    if not isinstance(windows, Sequence):
        check_length(windows)
    elif not windows:
        return
    done = 0
    try:
        for item in _iter_frames(source, windows, num_frames, fps, size, exact=True):
            yield item
            done += 1
        return
    except MissingFrameError:  # the packets promised frames that the decoder does not give: count what it gives
        pass  # and go on from outside, where the error no longer keeps what its frames hold
    yield from _iter_frames(source, windows, num_frames, fps, size, exact=False, skip=done)


def _iter_frames(
    source: Source,
    windows: float | Sequence[Window],
    num_frames: int | None,
    fps: float | None,
    size: int | None,
    *,
    exact: bool,
    skip: int = 0,
) -> Iterator[tuple[Window, Frames]]:
    span = Window(windows[0].start, max(w.end for w in windows)) if isinstance(windows, Sequence) else None
    plan = schedule(source, span or Window(0.0, math.inf), by_decoding=not exact)
    spans = windows if isinstance(windows, Sequence) else cut(plan.end, windows)
    picks = [_pick(plan, window, num_frames, fps) for window in spans]
    jobs = [(window, pick) for window, pick in zip(spans, picks, strict=True) if pick][skip:]
    decoded = decode(source, plan, sorted({index for _, pick in jobs for index in pick}))
    held: dict[int, NDArray[np.uint8]] = {}
    for window, pick in jobs:
        # Windows come sorted by start: nobody asks again for what lies before this one's first frame.
        held = {index: pixels for index, pixels in held.items() if index >= pick[0]}
        wanted = set(pick) - held.keys()
        while wanted:
            index, frame = next(decoded)
            held[index] = _pixels(frame, size, source)
            wanted.discard(index)
        stop = min(window.end, plan.end)
        yield Window(window.start, stop), Frames(_stack([held[index] for index in pick], source), plan.times[pick])
    # Closes the file and warns of damage now, not when the garbage collector comes.
    decoded.close()


def _pick(plan: Schedule | JoinedSchedule, window: Window, num_frames: int | None, fps: float | None) -> list[int]:
    """Which of the plan's frames a window gives, in order."""
    if window.start >= plan.end:
        return []
    times: Any = plan.times
    first, stop = bisect_left(times, window.start), bisect_left(times, window.end)
    if fps is not None:
        ticks = math.ceil((min(window.end, plan.end) - window.start) * fps - fps * EPSILON)
        shown = [bisect_right(times, window.start + i / fps + EPSILON) - 1 for i in range(max(1, ticks))]
        return [max(0, min(index, stop - 1)) for index in shown]
    if first == stop:
        return [max(0, first - 1)] * (num_frames or 1)
    if num_frames is None:
        return list(range(first, stop))
    return [first + i * (stop - first - 1) // max(1, num_frames - 1) for i in range(num_frames)]


def _stack(pictures: list[NDArray[np.uint8]], source: Source) -> NDArray[np.uint8]:
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) > 1:
        sizes = ", ".join(f"{width}x{height}" for height, width, _ in shapes)
        raise UnsupportedInputError(f"{name_of(source)}: its frames change size ({sizes}); give size=")
    return np.stack(pictures)


def _pixels(frame: Any, size: int | None, source: Source) -> NDArray[np.uint8]:
    """(H, W, 3) RGB uint8, upright, squashed to `size` where given."""
    try:
        rgb = frame.reformat(format="rgb24", threads=1).to_ndarray()
    except (av.FFmpegError, ValueError) as error:
        what = f"a frame ({frame.width}x{frame.height}, {frame.format.name})"
        raise UndecodableError(f"{name_of(source)}: {what} cannot be turned into RGB; convert it first") from error
    pixels: NDArray[np.uint8] = upright(rgb, frame)
    return pixels if size is None else resize_frames(pixels[None], size)[0]


def upright(pixels: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """Apply the frame's display matrix: quarter turns and mirroring; other angles do not occur in practice."""
    matrix = display_matrix(frame)
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if abs(b) > abs(a):  # x and y change places
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of (x, y) -> (a x + c y, b x + d y), which maps stored pixels to shown ones; None: none set."""
    try:
        # frame.side_data would keep the frame alive until the garbage collector comes: it refers to the frame, and the
        # frame to it. Large frames would pile up.
        data = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg, unused-ignore]
    except ValueError:  # PyAV 18 raises where a frame also carries a kind that it does not know, as Exif
        return {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), -180: (-1, 0, 0, -1), -90: (0, 1, -1, 0)}.get(frame.rotation)
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return a, b, c, d
