"""Damaged media files by the thousand: mutant `number` of a `seed` is always the same bytes.

Run as a program it decodes mutants one after another and prints a line for each: see `campaigns/fuzz.py`.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # where it runs as a program
from media.make import pictures, tone, write_audio, write_video

from peav.media import MediaError, load_audio, load_frames, probe
from peav.utils.worker import give_back

SECONDS = 5.0  # long enough for reads that seek
AUDIO = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "aac": "aac",
    "m4a": "aac",
    "ogg": "flac",
    "opus": "libopus",
    "mka": "ac3",
    "aiff": "pcm_s16be",
    "au": "pcm_mulaw",
    "caf": "alac",
    "wma": "wmav2",
    "ac3": "ac3",
    "wv": "wavpack",
    "tta": "tta",
    "mp2": "mp2",
    "w64": "adpcm_ms",
}
VIDEO = {
    "mp4": ("libx264", "aac"),
    "mov": ("mjpeg", "pcm_s16le"),
    "mkv": ("libx264", "libopus"),
    "webm": ("libvpx-vp9", "libopus"),
    "avi": ("mpeg4", "libmp3lame"),
    "flv": ("flv", "libmp3lame"),
    "ts": ("libx264", "mp2"),
    "mpg": ("mpeg1video", "mp2"),
    "vob": ("mpeg2video", "ac3"),
    "wmv": ("wmv2", "libmp3lame"),
    "gif": ("gif", None),
    "3gp": ("mpeg4", "aac"),
    "nut": ("ffv1", "flac"),
    "m2ts": ("mpeg2video", "ac3"),
}
SUFFIXES = (*AUDIO, *VIDEO)
PIXELS = {"mjpeg": "yuvj420p", "gif": "rgb8"}


def originals(folder: Path) -> dict[str, bytes]:
    """Suffix -> a good file of five seconds."""
    made: dict[str, bytes] = {}
    frames, sound = pictures(40, 48, 64), tone(SECONDS, 48000)
    for suffix, codec in AUDIO.items():
        made[suffix] = write_audio(folder / f"a.{suffix}", sound, 48000, codec, b="64000").read_bytes()
    for suffix, (codec, with_sound) in VIDEO.items():
        options: dict[str, Any] = {"sound": sound, "sound_codec": with_sound} if with_sound else {}
        fps = 25.0 if suffix in ("mpg", "vob", "m2ts") else 8.0
        many = pictures(125, 48, 64) if fps == 25.0 else frames
        path = folder / f"a.{suffix}"
        write_video(path, many, fps, codec=codec, pixel_format=PIXELS.get(codec, "yuv420p"), **options)
        made[suffix] = path.read_bytes()
    return made


def packets_of(data: bytes) -> list[tuple[int, int]]:
    """(place, size) of the packets in a good file that lie in one piece, or begin at least there."""
    import io

    with av.open(io.BytesIO(data)) as container:
        return [(packet.pos, packet.size) for packet in container.demux() if packet.size > 4 and packet.pos is not None]


class Mutants:
    """Mutants of good files: suffixes take turns, and so do damage to the container and to the packets' insides."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self.originals = originals(folder)
        self.packets = {suffix: packets_of(data) for suffix, data in self.originals.items()}

    def __call__(self, number: int) -> tuple[str, str, bytes]:
        """(suffix, "container" or "codec", content) of one mutant."""
        suffix, turn = SUFFIXES[number % len(SUFFIXES)], number // len(SUFFIXES)
        random = np.random.default_rng((self.seed, number))
        data = bytearray(self.originals[suffix])
        if turn % 2:
            for place, size in random.choice(self.packets[suffix], 2 ** random.integers(11)):
                _overwrite(data, random, int(place), int(place) + int(size))
            return suffix, "codec", bytes(data)
        for _ in range(2 ** random.integers(7)):
            if len(data) < 100:  # little is left to damage
                break
            _CONTAINER_DAMAGE[random.integers(len(_CONTAINER_DAMAGE))](data, random)
        return suffix, "container", bytes(data)


def _overwrite(data: bytearray, random: np.random.Generator, start: int, stop: int) -> None:
    """A few bytes between two places, each at random, flipped in one bit, or an extreme."""
    at = int(random.integers(start, max(start + 1, min(stop, len(data)))))
    size = int(random.integers(1, 9))
    patch = (random.bytes(size), bytes(size), b"\xff" * size, b"\x7f" + b"\xff" * (size - 1))[random.integers(4)]
    if random.integers(2):
        patch = bytes([data[min(at, len(data) - 1)] ^ 1 << int(random.integers(8))])
    data[at : at + len(patch)] = patch


def _head(data: bytearray, random: np.random.Generator) -> None:
    _overwrite(data, random, 0, 400)


def _tail(data: bytearray, random: np.random.Generator) -> None:
    _overwrite(data, random, max(0, len(data) - 2500), len(data))


def _anywhere(data: bytearray, random: np.random.Generator) -> None:
    _overwrite(data, random, 0, len(data))


def _cut(data: bytearray, random: np.random.Generator) -> None:
    del data[int(random.integers(len(data) // 4, len(data))) :]


def _remove(data: bytearray, random: np.random.Generator) -> None:
    at = int(random.integers(len(data)))
    del data[at : at + int(random.integers(1, 2000))]


def _repeat(data: bytearray, random: np.random.Generator) -> None:
    at, to = (int(place) for place in random.integers(len(data), size=2))
    data[to:to] = data[at : at + int(random.integers(1, 2000))]


_CONTAINER_DAMAGE: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    *(_head, _head, _head, _tail, _tail, _anywhere, _anywhere, _anywhere),
    *(_cut, _remove, _repeat),
)


def use(path: Path) -> tuple[str, str]:
    """("decoded" | "MediaError" | "other", what happened): all that may come out of reading is a `MediaError`."""
    decoded, reason = False, ""
    reads: tuple[Callable[[], Any], ...] = (
        lambda: probe(path),
        lambda: load_audio(path),
        lambda: load_audio(path, start=4.2, end=4.6),
        lambda: load_frames(path, num_frames=16, size=32),
        lambda: load_frames(path, start=4.2, end=4.6, size=32),
    )
    for number, read in enumerate(reads):
        try:
            result = read()
            if isinstance(result, np.ndarray):
                assert np.isfinite(result).all()
            decoded |= number > 0
        except MediaError as error:
            reason = reason or f"{type(error).__name__}: {error}"
        except BaseException:
            return "other", traceback.format_exc(limit=-6)
    return ("decoded", "") if decoded else ("MediaError", reason)


def memory(field: str) -> float:
    """`field` of this process's status, as VmHWM or RssAnon, in megabytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))


def serve(folder: Path, seed: int, numbers: range) -> None:
    """Decode mutants; a line of JSON before each and one after it, so that a crash is known by its number."""
    warnings.simplefilter("ignore")
    mutants = Mutants(folder, seed)
    before = memory("RssAnon")
    for number in numbers:
        suffix, kind, data = mutants(number)
        path = folder / f"{number}.{suffix}"
        path.write_bytes(data)
        print(json.dumps({"number": number, "suffix": suffix, "kind": kind}), flush=True)
        began = time.process_time()
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")  # VmHWM, the peak, begins anew
        outcome, what = use(path)
        seconds, peak = time.process_time() - began, memory("VmHWM") - before
        give_back()  # as worker processes do after each file
        line = {"outcome": outcome, "what": what, "seconds": seconds, "peak": peak, "held": memory("RssAnon")}
        print(json.dumps(line), flush=True)
        path.unlink()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), range(*map(int, sys.argv[3:6])))
