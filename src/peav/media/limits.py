"""What a file may ask for. A few bytes can promise gigabytes of pixels or years of sound; these bounds refuse them."""

from __future__ import annotations

from dataclasses import dataclass

from peav.errors import LimitError
from peav.utils.environment import from_environment, variable

PREFIX = "PEAV_MEDIA"
ALWAYS = 3600.0  # seconds that any file may last, however little it holds


@dataclass(frozen=True)
class Limits:
    """Bounds that a file must keep, else reading it is a `LimitError`.

    Each has an environment variable, as PEAV_MEDIA_PIXELS=200000000, which worker processes inherit. How long and how
    much memory the decoding of a file may take is bounded by the workers: see `peav.utils.workers`.

    Attributes:
        pixels: of a frame. 8192 x 8192 is more than any camera's video; a frame takes 15 to 18 bytes a pixel in memory.
        lowest_rate: hertz. Sound of a lower sampling rate grows out of all bounds when it is resampled.
        highest_rate: hertz.
        seconds: that a file may last; a header that says more is damaged.
        seconds_per_packet: that a file longer than an hour may last for each packet that it holds.
        seconds_per_byte: the same for each byte. Slides and silence take few, but some.
    """

    pixels: int = 1 << 26
    lowest_rate: int = 100
    highest_rate: int = 10_000_000
    seconds: float = 30 * 86400.0
    seconds_per_packet: float = 600.0
    seconds_per_byte: float = 10.0

    @classmethod
    def from_environment(cls) -> Limits:
        """The defaults, or what the environment says. Raises ValueError for a variable that is no positive number."""
        return from_environment(cls, PREFIX)


def check_pixels(width: int, height: int, name: str) -> None:
    """Raise `LimitError` where frames of `width` x `height` are too large to decode."""
    most = Limits.from_environment().pixels
    if width * height > most:
        raise LimitError(f"{name}: frames of {width}x{height} are more than {most:,} pixels; {_to_allow('pixels')}")


def unknown_size(name: str) -> LimitError:
    """The error for frames whose size only their decoder knows, and which it refused."""
    most = Limits.from_environment().pixels
    return LimitError(f"{name}: its frames are more than {most:,} pixels, or damaged; {_to_allow('pixels')}")


def check_rate(hertz: int, name: str) -> None:
    """Raise `LimitError` where `hertz` is no sampling rate of sound."""
    limits = Limits.from_environment()
    if not limits.lowest_rate <= hertz <= limits.highest_rate:
        bound = "highest_rate" if hertz > limits.highest_rate else "lowest_rate"
        raise LimitError(f"{name}: {hertz} Hz is no sampling rate of sound; {_to_allow(bound)}")


def check_duration(seconds: float, name: str, *, packets: int | None = None, size: int | None = None) -> float:
    """`seconds`, or a `LimitError` where so few `packets`, or a file of `size` bytes, cannot last so long."""
    limits = Limits.from_environment()
    if not seconds <= limits.seconds:
        raise LimitError(f"{name}: its timestamps make it {seconds:.3g} s long: damaged; {_to_allow('seconds')}")
    if packets is not None and seconds > max(ALWAYS, packets * limits.seconds_per_packet):
        raise LimitError(f"{name}: {seconds:.0f} s in {packets} packets: damaged; {_to_allow('seconds_per_packet')}")
    if size is not None and seconds > max(ALWAYS, size * limits.seconds_per_byte):
        raise LimitError(f"{name}: {seconds:.0f} s in {size} bytes: damaged; {_to_allow('seconds_per_byte')}")
    return seconds


def _to_allow(field: str) -> str:
    return f"copy or convert it again, or set {variable(PREFIX, field)} to read it as it is"
