"""What a media file holds, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from av.container import InputContainer

from peav.errors import MediaError, NotMediaError
from peav.media.joined import sections
from peav.media.limits import check_duration
from peav.media.source import Source, fetched, name_of, size_of
from peav.media.streams import Decoder, chosen, has_picture, packets, video_stream
from peav.media.tracks import duration, open_tracks
from peav.media.video import display_matrix


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds. Fields of a stream that is not there are None."""

    duration: float
    """Seconds from the file's start to the end of its longest stream."""
    format: str
    """FFmpeg's name of the container, as "mov,mp4,m4a,3gp,3g2,mj2"."""
    has_audio: bool
    has_video: bool
    """Whether there are moving pictures; cover art does not count."""
    audio_codec: str | None = None
    """None too where no decoder knows the stream."""
    sampling_rate: int | None = None
    channels: int | None = None
    video_codec: str | None = None
    fps: float | None = None
    """Average frames per second, as the header says."""
    width: int | None = None
    height: int | None = None
    """Pixels as shown, that is after the rotation."""
    rotation: int | None = None
    """Degrees clockwise by which the stored picture is turned to be shown: 0, 90, 180 or 270."""


def probe(source: Source) -> MediaInfo:
    """Read what `source` holds from its header (and one frame, for the rotation).

    Raises a `MediaError` that names the file where it cannot be opened or holds neither audio nor video.
    """
    source = fetched(source)
    found = [_probe(section) for section in sections(source)]
    if len(found) == 1:
        return found[0]
    sound = next((info for info in found if info.has_audio), found[0])
    picture = next((info for info in found if info.has_video), found[0])
    return replace(
        picture,
        duration=check_duration(sum(info.duration for info in found), name_of(source), size=size_of(source)),
        has_audio=sound.has_audio,
        audio_codec=sound.audio_codec,
        sampling_rate=sound.sampling_rate,
        channels=sound.channels,
    )


def _probe(source: Source) -> MediaInfo:
    name = name_of(source)
    with open_tracks(source) as container:
        audio = container.streams.audio[0] if container.streams.audio else None
        picture = has_picture(container)
        if audio is None and not picture:
            raise NotMediaError(f"{name}: neither audio nor video in it; give a media file")
        about: dict[str, Any] = {}
        if audio is not None:
            about |= _audio(container)
        if picture:
            about |= _video(container, name)
        return MediaInfo(
            duration=check_duration(duration(source, container), name, size=size_of(source)),
            format=container.format.name,
            has_audio=audio is not None,
            has_video=picture,
            **about,
        )


def _audio(container: InputContainer) -> dict[str, Any]:
    stream = chosen(container, "audio")
    if stream is None:
        return {}
    context = stream.codec_context
    codec = context.codec.canonical_name
    return {"audio_codec": codec, "sampling_rate": context.sample_rate, "channels": context.channels}


def _video(container: InputContainer, name: str) -> dict[str, Any]:
    try:
        stream = video_stream(container, name)
    except MediaError:
        if chosen(container, "audio") is None:
            raise
        return {}  # the sound can be used
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    frame = next(Decoder(stream, name).all(packets(container, stream)), None)
    matrix = None if frame is None else display_matrix(frame)
    a, b, *_ = matrix or (1, 0, 0, 1)
    turned = abs(b) > abs(a)
    width, height = (context.height, context.width) if turned else (context.width, context.height)
    return {
        "video_codec": context.codec.canonical_name,
        "fps": float(rate) if rate else None,
        "width": width,
        "height": height,
        "rotation": (90 if b > 0 else 270) if turned else (180 if a < 0 else 0),
    }
