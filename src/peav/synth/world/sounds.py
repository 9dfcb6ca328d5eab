"""Sound synthesis primitives: every function returns float32 samples (S,) at 48 kHz, vectorized."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 48_000

Signal = NDArray[np.float32]
_BANK = 1 << 20


@cache
def _white() -> Signal:
    return np.random.default_rng(20).standard_normal(_BANK, dtype=np.float32)


def seconds(n: int) -> Signal:
    """Time axis of n samples."""
    return np.arange(n, dtype=np.float32) / np.float32(RATE)


def white(n: int, rng: np.random.Generator) -> Signal:
    """White noise of unit variance: a slice of one long recording, which is quicker than drawing it."""
    start = int(rng.integers(0, _BANK - n))
    return _white()[start : start + n].copy()


def noise(n: int, rng: np.random.Generator, low: float, high: float, tilt: float = 0.0) -> Signal:
    """Noise between `low` and `high` Hz falling `tilt` dB an octave, unit RMS."""
    padded = _fast_length(n)
    spectrum = np.fft.rfft(white(padded, rng))
    frequency = np.fft.rfftfreq(padded, 1 / RATE)
    band = 1 / (1 + (low / np.maximum(frequency, 1)) ** 6) / (1 + (frequency / high) ** 6)
    if tilt:
        band = band * np.maximum(frequency, low) ** (-tilt / 6.02)
    shaped = np.fft.irfft(spectrum * band, padded)[:n]
    return (shaped / (np.sqrt(np.mean(shaped**2)) + 1e-12)).astype(np.float32)


def _fast_length(n: int) -> int:
    step = 1 << max(0, n.bit_length() - 4)
    return -(-n // step) * step


def glide(n: int, points: Sequence[tuple[float, float]]) -> Signal:
    """A curve through (position in 0..1, value) points, n samples."""
    xs, ys = zip(*points, strict=True)
    return np.interp(np.linspace(0, 1, n), xs, ys).astype(np.float32)


def phase(frequency: Signal | float, n: int) -> NDArray[np.floating[Any]]:
    """Running phase in radians of a (possibly moving) frequency in Hz."""
    if isinstance(frequency, (int, float)):
        return np.arange(n) * (2 * np.pi * frequency / RATE)
    return np.cumsum(frequency, dtype=np.float64) * (2 * np.pi / RATE)


def tone(n: int, frequency: Signal | float, harmonics: Sequence[float] = (1.0,)) -> Signal:
    """A sum of harmonics with the given amplitudes."""
    angle = np.mod(phase(frequency, n), 2 * np.pi).astype(np.float32)
    twice_cos = 2 * np.cos(angle)
    before, now = np.zeros(n, np.float32), np.sin(angle)
    total = np.zeros(n, np.float32)
    for amplitude in harmonics:
        if amplitude:
            total += np.float32(amplitude) * now
        before, now = now, twice_cos * now - before  # sin((k+1)a) = 2 cos(a) sin(ka) - sin((k-1)a)
    return total


def voiced(n: int, pitch: Signal, formants: Sequence[tuple[float, float, float]], breath: float = 0.0) -> Signal:
    """A throat: harmonics of `pitch` weighted by resonances (Hz, width in Hz, gain), as animals have."""
    center = float(np.mean(pitch))
    count = int(min(40, 9000 / center))
    weights = [_resonance(center * k, formants) / k**0.5 for k in range(1, count + 1)]
    sound = tone(n, pitch, weights)
    if breath:
        rng = np.random.default_rng(n)
        sound = sound + breath * noise(n, rng, formants[0][0] * 0.7, formants[-1][0] * 1.4) * np.std(sound)
    return sound.astype(np.float32)


def _resonance(frequency: float, formants: Sequence[tuple[float, float, float]]) -> float:
    return sum(gain / (1 + ((frequency - center) / width) ** 2) for center, width, gain in formants)


def ring(n: int, partials: Sequence[tuple[float, float, float]]) -> Signal:
    """Struck resonator: a sum of (Hz, decay time in s, amplitude) decaying sines."""
    time = seconds(n)
    total = np.zeros(n, np.float32)
    for frequency, decay, amplitude in partials:
        span = min(n, int(decay * 7 * RATE) + 1)
        total[:span] += amplitude * np.exp(-time[:span] / decay) * np.sin(2 * np.pi * frequency * time[:span])
    return total


def decay(n: int, time_constant: float) -> Signal:
    """exp(-t / time_constant)."""
    return np.exp(-seconds(n) / np.float32(time_constant))


def edges(n: int, attack: float = 0.01, release: float = 0.03) -> Signal:
    """An envelope of 1 with raised-cosine ends (seconds)."""
    envelope = np.ones(n, np.float32)
    for length, part in ((attack, slice(None)), (release, slice(None, None, -1))):
        count = min(int(length * RATE), n // 2)
        envelope[part][:count] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / max(count, 1))
    return envelope


def pulse(n: int, rate: float, sharpness: float = 3.0) -> Signal:
    """A repeating bump in 0..1, `rate` a second, starting at its top."""
    return (0.5 + 0.5 * np.cos(2 * np.pi * rate * seconds(n))) ** sharpness


def grains(n: int, rng: np.random.Generator, rate: float, length: float, low: float, high: float) -> Signal:
    """`rate` short decaying clicks of band noise a second at random times: crackle, drops, crunch."""
    count = rng.poisson(rate * n / RATE)
    impulses = np.zeros(n, np.float32)
    impulses[rng.integers(0, n, count)] = rng.exponential(1.0, count).astype(np.float32)
    kernel_length = max(8, int(length * RATE))
    kernel = noise(kernel_length, rng, low, high) * decay(kernel_length, length / 4)
    return convolve(impulses, kernel)


def convolve(signal: Signal, kernel: Signal) -> Signal:
    """Causal convolution cut to the signal's length."""
    padded = _fast_length(len(signal) + len(kernel))
    product = np.fft.rfft(signal, padded) * np.fft.rfft(kernel, padded)
    return np.fft.irfft(product, padded)[: len(signal)].astype(np.float32)


def loudness(signal: Signal) -> float:
    """The loudest 40 ms RMS, which ranks a click and a drone alike."""
    block = RATE // 25
    padded = np.zeros(-(-len(signal) // block) * block, np.float32)
    padded[: len(signal)] = signal
    return float(np.sqrt(np.mean(padded.reshape(-1, block) ** 2, axis=1).max()))


def at_level(signal: Signal, decibels: float) -> Signal:
    """Scaled so that its loudest 40 ms have this RMS in dBFS."""
    return (signal * (10 ** (decibels / 20) / (loudness(signal) + 1e-9))).astype(np.float32)


def resample(signal: Signal, source_rate: int, rate: int) -> Signal:
    """Band-limited resampling (S,) -> (ceil(S rate / source_rate),) by cutting or zero-filling the spectrum."""
    block = source_rate // int(np.gcd(source_rate, rate))
    padded = -(-(len(signal) + source_rate // 50) // (block * 8)) * block * 8
    target = padded * rate // source_rate
    spectrum = np.fft.rfft(signal, padded)[: target // 2 + 1]
    wide = np.zeros(target // 2 + 1, spectrum.dtype)
    wide[: len(spectrum)] = spectrum
    length = -(-len(signal) * rate // source_rate)
    return (np.fft.irfft(wide, target)[:length] * (target / padded)).astype(np.float32)
