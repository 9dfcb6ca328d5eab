"""Make media files of all sorts for tests: good, odd, cut off and bad. Import as `from media.make import ...`."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from peav.media import (
    LimitError,
    MissingFileError,
    NonFiniteError,
    NotMediaError,
    UndecodableError,
    UnreadableFileError,
    ZeroLengthError,
)

SAME_BYTES = {"fflags": "+bitexact"}  # no random serial numbers
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def tone(seconds: float, rate: int = 48000, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """(C, S) sweeps with a little noise: no two places are alike, so that a shift of one sample shows."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal((channels, len(time)))
    base = 220.0 * (1 + np.arange(channels))[:, None]
    return (0.3 * np.sin(2 * np.pi * base * time * (1 + time / 20)) + 0.02 * noise).astype(np.float32)


def pictures(count: int, height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """(N, H, W, 3) frames: a bright corner at the top left, and a level that tells them apart."""
    frames = np.empty((count, height, width, 3), np.uint8)
    levels = np.random.default_rng(seed).permutation(count) * 150 // max(1, count - 1) + 20
    frames[:] = levels[:, None, None, None]
    frames[:, : height // 4, : width // 4] = (250, 40, 40)
    return frames


def write_audio(
    path: Path, samples: NDArray[np.float32], rate: int = 48000, codec: str = "pcm_s16le", **options: str
) -> Path:
    """Encode (C, S) samples; the container follows the suffix."""
    with av.open(str(path), "w", options=SAME_BYTES) as container:
        _mux_audio(container, samples, rate, codec, options)
    return path


def _mux_audio(
    container: av.container.OutputContainer,
    samples: NDArray[np.float32],
    rate: int,
    codec: str,
    options: dict[str, str],
    delay: float = 0.0,
) -> None:
    layout = LAYOUTS[len(samples)]
    stream = container.add_stream(codec, rate=rate, layout=layout, options=options)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate = rate
    stream.codec_context.open()
    size = stream.codec_context.frame_size or 1024
    shape = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate, frame_size=size)
    at = round(delay * rate)
    for part in [*shape.resample(frame), *shape.resample(None)]:
        part.pts, part.time_base = at, Fraction(1, rate)
        at += part.samples
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    fps: float = 25.0,
    *,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    sound: NDArray[np.float32] | None = None,
    sound_codec: str = "aac",
    sound_delay: float = 0.0,
    rotation: int = 0,
    mirror: bool = False,
    pixel_format: str = "yuv420p",
    index_first: bool = False,
    **options: str,
) -> Path:
    """Encode frames, at `times` seconds where given; `rotation` is in degrees clockwise."""
    with av.open(str(path), "w", options=SAME_BYTES | ({"movflags": "faststart"} if index_first else {})) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        if rotation or mirror:
            stream.set_display_rotation(-rotation, hflip=mirror)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound is not None:
            _mux_audio(container, sound, 48000, sound_codec, {}, sound_delay)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[index] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_float_wav(path: Path, samples: NDArray[np.float32], rate: int = 48000) -> Path:
    """A mono float32 WAV written by hand, so that it can hold NaN; `samples` is (S,)."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, 4 * rate, 4, 32)
    path.write_bytes(
        struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + form + b"data" + struct.pack("<I", len(data)) + data
    )
    return path


def write_many_channels(path: Path, channels: int, rate: int = 48000) -> Path:
    """A 16-bit WAV of any number of channels and any rate, as only its header says."""
    data = bytes(2 * channels * 4800)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, 2 * channels * rate & 0xFFFFFFFF, 2 * channels, 16)
    path.write_bytes(
        struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + form + b"data" + struct.pack("<I", len(data)) + data
    )
    return path


def png(size: int = 16) -> bytes:
    """A small picture, as cover art is."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.height = stream.width = size
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures(1, size, size)[0], format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def add_cover_mp3(path: Path) -> Path:
    """Put an ID3 tag with cover art before an MP3."""
    picture = b"\0image/png\0\3\0" + png()
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + size + frame + path.read_bytes())
    return path


def add_cover_flac(path: Path) -> Path:
    """Put cover art into a FLAC file, after its STREAMINFO block."""
    data, image = path.read_bytes(), png()
    block = struct.pack(">II9sI4II", 3, 9, b"image/png", 0, 16, 16, 24, 0, len(image)) + image
    cut = 4 + 4 + 34
    path.write_bytes(data[:cut] + bytes([6]) + len(block).to_bytes(3, "big") + block + data[cut:])
    return path


def patch(path: Path, old: bytes, new: bytes) -> Path:
    """Replace bytes in a file."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


def scramble(path: Path, start: float, stop: float, seed: int = 0) -> Path:
    """Overwrite a part of a file, given as fractions of its size, with noise."""
    data = bytearray(path.read_bytes())
    first, last = int(start * len(data)), int(stop * len(data))
    data[first:last] = np.random.default_rng(seed).bytes(last - first)
    path.write_bytes(data)
    return path


def cut(path: Path, keep: float) -> Path:
    """Keep the first part of a file, given as a fraction of its size."""
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    return path


def scramble_mdat(path: Path, seed: int = 0) -> Path:
    """Overwrite all media data of an MP4 with noise and leave its index whole."""
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat")
    size = struct.unpack_from(">I", data, at - 4)[0] - 8
    data[at + 4 : at + 4 + size] = np.random.default_rng(seed).bytes(size)
    path.write_bytes(data)
    return path


def bad_files(folder: Path) -> dict[str, tuple[Path, type[Exception]]]:
    """Files with media names that cannot be used at all: name -> (path, the error that decoding them raises)."""
    folder.mkdir(parents=True, exist_ok=True)
    sound, frames = tone(1.0), pictures(10)
    files: dict[str, tuple[Path, type[Exception]]] = {}

    def text(name: str, content: str | bytes, error: type[Exception] = NotMediaError) -> None:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        files[name] = path, error

    text("text.mp4", "Dear diary, today I renamed a text file.\n" * 40)
    text("page.webm", "<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 9)
    text("data.wav", '{"error": "quota exceeded"}')
    text("archive.mkv", b"PK\x03\x04" + bytes(60) + b"document.txt" * 30)
    text("zeros.mov", bytes(20000))
    text("noise.aac", np.random.default_rng(1).bytes(20000))
    text("noise.flac", np.random.default_rng(1).bytes(20000))
    text("playlist.m4a", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n")
    text("concat.mp4", "ffconcat version 1.0\nfile other.wav\n")
    text("subtitles.mp4", "1\n00:00:00,000 --> 00:00:02,000\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nthere\n")
    text("empty.wav", b"", ZeroLengthError)

    def keep(path: Path, error: type[Exception]) -> None:
        files[path.name] = path, error

    keep(write_float_wav(folder / "no_samples.wav", np.empty(0, np.float32)), ZeroLengthError)
    nan = sound[0].copy()
    nan[1000] = np.nan
    keep(write_float_wav(folder / "nan.wav", nan), NonFiniteError)
    nan[1000] = np.inf
    keep(write_float_wav(folder / "infinite.wav", nan), NonFiniteError)
    keep(write_many_channels(folder / "thirteen_channels.wav", 13), UndecodableError)
    keep(write_many_channels(folder / "gigahertz.wav", 1, 2_000_000_000), LimitError)
    keep(cut(write_video(folder / "no_index.mp4", frames, sound=sound), 0.5), NotMediaError)
    keep(cut(write_audio(folder / "no_index.m4a", sound, codec="aac"), 0.5), NotMediaError)
    keep(_header_of(write_audio(folder / "header_only.mkv", sound, codec="pcm_s16le")), UndecodableError)
    keep(cut(write_audio(folder / "header_cut.opus", sound, codec="libopus"), 0.005), NotMediaError)
    keep(scramble_mdat(write_video(folder / "scrambled.mp4", frames)), UndecodableError)
    keep(scramble_mdat(write_audio(folder / "scrambled.m4a", sound, codec="aac")), UndecodableError)
    keep(patch(write_video(folder / "unknown_codec.mp4", frames), b"avc1", b"zz9z"), UndecodableError)
    bought = scramble_mdat(write_audio(folder / "protected.m4a", sound, codec="aac"))
    keep(patch(bought, b"mp4a\0\0", b"drms\0\0"), UndecodableError)
    gone = folder / "gone.wav"
    gone.symlink_to(folder / "nowhere.wav")
    keep(gone, MissingFileError)
    circle = folder / "circle.mp4"
    circle.symlink_to(circle)
    keep(circle, UnreadableFileError)
    pipe = folder / "pipe.wav"
    os.mkfifo(pipe)
    keep(pipe, UnreadableFileError)
    return files


def _header_of(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75") + 12])  # up to the head of Matroska's first cluster
    return path


def truncated_files(folder: Path) -> dict[str, Path]:
    """Files cut in half that can still be used: decoding them gives what they hold and a `TruncatedMediaWarning`."""
    folder.mkdir(parents=True, exist_ok=True)
    sound = tone(4.0)
    made = [
        write_audio(folder / "cut.wav", sound),
        write_audio(folder / "cut.flac", sound, codec="flac"),
        write_audio(folder / "cut.mp3", sound, codec="libmp3lame"),
        write_audio(folder / "cut.opus", sound, codec="libopus"),
        write_audio(folder / "cut.mkv", sound),
        write_audio(folder / "cut.webm", sound, codec="libopus"),
        write_video(folder / "cut_video.mkv", pictures(100), sound=sound, g="10"),
        write_video(folder / "cut_video.mp4", pictures(100), sound=sound, index_first=True, g="10"),
    ]
    return {path.name: cut(path, 0.5) for path in made}


def good_files(folder: Path) -> list[Path]:
    """Odd but good files, each of which must decode without an error or a warning."""
    folder.mkdir(parents=True, exist_ok=True)
    mono, stereo = tone(1.0), tone(1.0, channels=2)
    frames = pictures(25)
    uneven = [0.0, 0.04, 0.1, 0.5, 0.52, 0.9, 1.4, 1.48]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [
            write_audio(folder / "stereo.wav", stereo),
            write_audio(folder / "surround.wav", tone(0.5, channels=6)),
            write_audio(folder / "8khz.wav", tone(1.0, 8000), 8000),
            write_audio(folder / "44khz.wav", tone(1.0, 44100), 44100),
            write_audio(folder / "192khz.wav", tone(0.2, 192000), 192000),
            write_audio(folder / "8bit.wav", mono, codec="pcm_u8"),
            write_audio(folder / "24bit.wav", mono, codec="pcm_s24le"),
            write_float_wav(folder / "float.wav", mono[0]),
            write_audio(folder / "20ms.wav", tone(0.02)),
            write_audio(folder / "music.flac", stereo, codec="flac"),
            write_audio(folder / "voice.opus", mono, codec="libopus"),
            write_audio(folder / "phone.m4a", stereo, codec="aac"),
            add_cover_mp3(write_audio(folder / "cover.mp3", mono, codec="libmp3lame")),
            add_cover_flac(write_audio(folder / "cover.flac", mono, codec="flac")),
            write_audio(folder / "naïve 名前.wav", mono),
            write_video(folder / "movie.mp4", frames, sound=stereo),
            write_video(folder / "silent.mp4", frames),
            write_video(folder / "one_frame.mp4", frames[:1]),
            write_video(folder / "uneven.mp4", frames[:8], times=uneven, sound=mono),
            write_video(folder / "turned.mp4", frames, rotation=90, sound=mono),
            write_video(folder / "late_sound.mkv", frames, sound=tone(0.5), sound_delay=0.5),
            write_video(folder / "web.webm", frames[:10], codec="libvpx-vp9", sound=mono, sound_codec="libopus"),
            write_video(folder / "old.avi", frames, codec="mpeg4", sound=mono, sound_codec="libmp3lame"),
            write_video(folder / "broadcast.ts", frames, sound=stereo, bf="2"),
            write_video(folder / "ten_bit.mkv", frames, pixel_format="yuv420p10le"),
        ]
