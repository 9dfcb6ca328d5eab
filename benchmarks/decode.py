"""CPU seconds per minute of media, against the plain loop that decodes all of it.

python benchmarks/decode.py [FILES...]   Without files, a minute of 1280x720 H.264 with AAC sound is made first.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from peav.media import MediaInfo, iter_audio, load_audio, load_frames, probe, resize_frames

FRAMES, SIZE = 16, 336


def make(path: Path, seconds: int = 60, fps: int = 25) -> Path:
    """A moving pattern with noise, and a stereo tone."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (720, 1280, 3), np.uint8)
    picture = np.repeat(np.repeat(picture[::8, ::8], 8, 0), 8, 1)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "g": "100"})
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="stereo")
        for index in range(seconds * fps):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * index, 1), format="rgb24")
            container.mux(video.encode(frame))
        for index in range(seconds * 44100 // 1024):
            phase = (np.arange(1024) + index * 1024) * 2 * np.pi / 44100
            sound = np.stack([np.sin(440 * phase), np.sin(660 * phase)]).astype(np.float32) / 4
            block = av.AudioFrame.from_ndarray(sound, format="fltp", layout="stereo")
            block.sample_rate, block.pts = 44100, index * 1024
            container.mux(audio.encode(block))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    return path


def naive_audio(path: Path) -> np.ndarray:
    """All of it through one resampler, without windows, checks or a timeline."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=48000)
    with av.open(str(path)) as container:
        parts = [part.to_ndarray() for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate(parts, axis=1)


def naive_frames(path: Path) -> np.ndarray:
    """Every frame decoded and turned to pixels, sixteen kept."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    picked = [frames[i * (len(frames) - 1) // (FRAMES - 1)] for i in range(FRAMES)]
    return resize_frames(np.stack(picked), SIZE)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of all threads: what matters where many files are decoded at once."""
    start = time.process_time()
    work()
    return time.process_time() - start


Job = tuple[str, Callable[[], object], Callable[[], object]]


def jobs(path: Path, info: MediaInfo) -> Iterator[Job]:
    """(what is done, the plain way, our way)."""
    middle = info.duration / 2
    if info.has_audio:
        plain = partial(naive_audio, path)
        yield "audio, whole", plain, partial(load_audio, path)
        yield "audio, in 30 s windows", plain, lambda: list(iter_audio(path))
        yield "audio, 1 s of the middle", plain, partial(load_audio, path, start=middle, end=middle + 1)
    if info.has_video:
        plain = partial(naive_frames, path)
        yield f"{FRAMES} frames", plain, partial(load_frames, path, num_frames=FRAMES, size=SIZE)
        some = partial(load_frames, path, num_frames=FRAMES, size=SIZE, start=middle, end=middle + 2)
        yield f"{FRAMES} frames of 2 s of the middle", plain, some


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(name) for name in sys.argv[1:]] or [make(Path(folder) / "minute_720p.mp4")]
        table = Table("file", "work", "plain loop", "peav", "times less", title="CPU seconds per minute of media")
        for path in paths:
            info = probe(path)
            for name, plain, ours in jobs(path, info):
                before, after = (cpu_seconds(work) * 60 / info.duration for work in (plain, ours))
                table.add_row(path.name, name, f"{before:.3f}", f"{after:.3f}", f"{before / after:.1f}")
        Console().print(table)


if __name__ == "__main__":
    main()
