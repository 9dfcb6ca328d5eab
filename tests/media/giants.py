"""Small files that ask for a lot: of pixels, hertz, channels or time."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media.make import patch, pictures, tone, write_audio, write_video


def giants(folder: Path) -> dict[str, Path]:
    """Name -> file of a few kilobytes that would take gigabytes, or hours, if it were believed."""
    made: dict[str, bytes] = {
        "wide.png": _png(20000, 20000),
        "animated.apng": _png(20000, 20000, frames=2),
        "line.png": _png(1_000_000, 100),
        "screen.gif": _gif(65535, 65535),
        "still.webp": _webp(16383, 16383),
        "sheet.bmp": _bmp(20000, 20000),
        "motion.mjpeg": _jpeg(20000, 20000),
        "motion.avi": _renamed_size(_avi(folder), _jpeg(20000, 20000)),
        "rate_4e9.wav": _wav(4_000_000_000, 1),
        "rate_1.wav": _wav(1, 1),
        "rate_1.au": b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, 1, 1) + bytes(100_000),
        "rate_1.aiff": _aiff(0x3FFF, 1 << 63),
        "rate_2e9.caf": _caf(2e9),
        "rate_1.caf": _caf(1.0),
        "channels.wav": _wav(48000, 65535),
    }
    paths = {name: folder / name for name in made}
    for name, path in paths.items():
        path.write_bytes(made[name])
    paths["rate_1.mka"] = patch(
        write_audio(folder / "rate_1.mka", tone(0.3)), struct.pack(">d", 48000), struct.pack(">d", 1)
    )
    paths |= {path.name: path for path in _long(folder)}
    return paths


def sparse(path: Path, times: list[float]) -> Path:
    """20 ms of sound at each of these times, and nothing between them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        for time in times:
            frame = av.AudioFrame.from_ndarray(np.full((1, 960), 1000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, round(time * 48000), Fraction(1, 48000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _png(width: int, height: int, frames: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    data = zlib.compress(bytes(5000))
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    if frames:
        parts.append(chunk(b"acTL", struct.pack(">II", frames, 0)))
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 25, 0, 0)))
    parts.append(chunk(b"IDAT", data))
    for number in range(1, frames):
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * number - 1, width, height, 0, 0, 1, 25, 0, 0)))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def _gif(width: int, height: int) -> bytes:
    dot = b"\x21\xf9\4\0\x0a\0\0\0" + b"\x2c\0\0\0\0\1\0\1\0\0" + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + 2 * dot + b";"


def _webp(width: int, height: int) -> bytes:
    picture = b"\x10\x02\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(300)
    body = b"WEBPVP8 " + struct.pack("<I", len(picture)) + picture
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 6000, 0, 0, 54) + info + bytes(6000)


def _jpeg(width: int, height: int) -> bytes:
    with av.open("/dev/null", "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24")
        data = b"".join(bytes(packet) for packet in [*stream.encode(frame), *stream.encode(None)])
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def _avi(folder: Path) -> bytes:
    return write_video(folder / "of.avi", pictures(3), codec="mjpeg", pixel_format="yuvj420p").read_bytes()


def _renamed_size(movie: bytes, picture: bytes) -> bytes:
    """A movie whose header says 64 x 48, but whose pictures say more."""
    start = picture.index(b"\xff\xc0")
    data, at = bytearray(movie), 0
    while (at := movie.find(b"\xff\xc0", at) + 1) > 0:
        data[at + 4 : at + 8] = picture[start + 5 : start + 9]
    return bytes(data)


def _wav(rate: int, channels: int) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels & 0xFFFFFFFF, channels & 0xFFFF, 8)
    head = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 200_000)
    return b"RIFF" + struct.pack("<I", len(head) + 200_000) + head + bytes(200_000)


def _aiff(exponent: int, mantissa: int) -> bytes:
    common = b"COMM" + struct.pack(">IhIhHQ", 18, 1, 100_000, 8, exponent, mantissa)
    sound = b"SSND" + struct.pack(">III", 100_008, 0, 0) + bytes(100_000)
    return b"FORM" + struct.pack(">I", 4 + len(common) + len(sound)) + b"AIFF" + common + sound


def _caf(rate: float) -> bytes:
    form = struct.pack(">d4sIIIII", rate, b"lpcm", 0, 1, 1, 1, 8)
    data = b"data" + struct.pack(">qI", 100_004, 0) + bytes(100_000)
    return b"caff\0\1\0\0desc" + struct.pack(">q", 32) + form + data


def _long(folder: Path) -> list[Path]:
    """A few frames that are said to last for weeks."""
    weeks = [0.0, 1.0, 2_000_000.0]
    made = [
        write_video(folder / "weeks.mkv", pictures(3), times=weeks, codec="mjpeg", pixel_format="yuvj420p"),
        write_video(folder / "weeks.webm", pictures(3), times=weeks, codec="libvpx"),
        write_video(folder / "weeks.nut", pictures(3), times=weeks, codec="mpeg4"),
    ]
    made.append(sparse(folder / "weeks.mka", [0.0, *(3500.0 * i for i in range(1, 600))]))
    header = write_audio(folder / "header.mkv", tone(0.5))
    data = header.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3  # the duration, as a double
    header.write_bytes(data[:at] + struct.pack(">d", 2.5e9) + data[at + 8 :])
    return [*made, header]
