"""New sentences from the words of old ones, cut at the times of the words.

Two sentences of equally many words are crossed: the new one takes each word from either, sound and text together
(aligned data augmentation, Lam et al. 2021, arXiv 2104.01393). In one batch with the sentence that it came from it is
a near miss: a negative that only hearing every word tells apart, as random sentences of a batch are not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from peav.data.manifest import Row
from peav.data.transforms import SourceContext, SourceTransform
from peav.features.extract import ClipFeatures
from peav.types import Word


@dataclass
class WordSwap(SourceTransform):
    """Beside each clip stand `copies` hard negatives that have about a `share` of their words from another clip.

    Only clips with timed words train. A word comes from the other clip with a chance of `share`; at least one does, one
    that differs where any does. Which one goes by how many words are said at its place: a place of many is the harder
    one to hear. `pictures`: the video is spliced along, for clips that look alike: each moment shows what was seen at
    that moment of its own clip.
    """

    share: float
    pictures: bool = False
    copies: int = 1

    fits = "each word of its transcript at its time"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"word_swap: share is a share of words, above 0 and at most 1, not {self.share}")
        if self.copies < 1:
            raise ValueError(f"word_swap: copies must be at least 1, not {self.copies}")

    def train_rows(self, rows: list[Row], max_seconds: float) -> list[Row]:
        """The rows that can be crossed with another: whose sound has each word of the transcript at its time, one after
        the other and within `max_seconds`, and that are not alone with their number of words.
        """
        whole = [row for row in rows if row.audio_path is not None and _timed(row, max_seconds)]
        common = Counter(len(row.words) for row in whole)
        return [row for row in whole if common[len(row.words)] > 1]

    def start(self, rows: list[Row], context: SourceContext) -> list[Row]:
        """Remember the sentences by their number of words."""
        codec = context.cache.extract.model.config.audio.codec
        self._cache, self._hop, self._rate = context.cache, codec.hop_length, codec.sampling_rate / codec.hop_length
        self._by_length: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            self._by_length[len(row.words)].append(row)
        self._heard = {length: _heard_at(sentences) for length, sentences in self._by_length.items()}
        return rows

    def draw(self, row: Row, rng: np.random.Generator, load: bool) -> tuple[Row, ClipFeatures | None]:
        """A sentence made of this one and of another as long, `bare`."""
        if not load:
            return bare(row), None
        others = self._by_length[len(row.words)]
        # One of all but the last, which stands in for the row itself: every other sentence is equally likely.
        other = others[rng.integers(max(1, len(others) - 1))]
        if other.id == row.id:
            other = others[-1]
        taken = rng.random(len(row.words)) < self.share
        places = _differing(_spelled(row), _spelled(other))
        chances = self._heard[len(row.words)][places]
        taken[rng.choice(places, p=chances / chances.sum())] = True
        clip, donor = self._cache.load(row), self._cache.load(other)
        base, theirs = self._steps(clip), self._steps(donor)
        spliced, words = cross(base, row.words, theirs, other.words, taken, self._rate)
        kept = ClipFeatures(latents=spliced) if clip.waveform is None else ClipFeatures(waveform=spliced.reshape(-1))
        if self.pictures and clip.frames is not None and donor.frames is not None:
            steps, _ = cross(_numbered(base, 0), row.words, _numbered(theirs, 1), other.words, taken, self._rate)
            kept = replace(kept, frames=_shown(steps, (clip.frames, donor.frames), (len(base), len(theirs))))
        texts = zip(_spelled(row), _spelled(other), taken, strict=True)
        said = " ".join(new if take else own for own, new, take in texts)
        told = replace(bare(row), transcript=said, words=words)
        return replace(told, video_path=row.video_path) if kept.frames is not None else told, kept

    def _steps(self, clip: ClipFeatures) -> np.ndarray:
        """A clip's sound, a row for each latent."""
        if clip.latents is not None:
            return clip.latents
        assert clip.waveform is not None
        return clip.waveform.reshape(-1, self._hop)


def _numbered(steps: np.ndarray, clip: int) -> np.ndarray:
    """(T, 2): for each step of a clip, which clip it is of and its number in it."""
    return np.stack([np.full(len(steps), clip), np.arange(len(steps))], axis=1)


def _shown(steps: np.ndarray, frames: Sequence[np.ndarray], lengths: Sequence[int]) -> np.ndarray:
    """As many frames as the first clip has, evenly over the `steps` of a spliced one, each the nearest of its clip.

    Args:
        steps: (T, 2) as `_numbered` gives them. frames: of each clip, (N, ...), from its first step to its last.
        lengths: how many steps each clip has.
    """
    count = len(frames[0])
    chosen = steps[np.linspace(0, len(steps) - 1, count).round().astype(int)]
    nearest = [round(step / max(lengths[clip] - 1, 1) * (len(frames[clip]) - 1)) for clip, step in chosen.tolist()]
    return np.stack([frames[clip][frame] for clip, frame in zip(chosen[:, 0].tolist(), nearest, strict=True)])


def bare(row: Row) -> Row:
    """A clip's sound and speech alone: video, captions and events would not be true of a spliced one."""
    return replace(row, captions={}, events=(), video_path=None)


def cross(
    base: np.ndarray,
    base_words: Sequence[Word],
    donor: np.ndarray,
    donor_words: Sequence[Word],
    taken: Sequence[bool] | np.ndarray,
    rate: float,
) -> tuple[np.ndarray, tuple[Word, ...]]:
    """`base` with the words at the places `taken` out of `donor`; what lies between words stays.

    Args:
        base, donor: (T, ...) at `rate` steps a second.
        base_words, donor_words: equally many, in the order of their times.

    Returns:
        The new array and its words with their new times.
    """
    pieces, words, at, length = [], [], 0, 0
    for old, new, take in zip(base_words, donor_words, taken, strict=True):
        start, end = _span(old, len(base), rate)
        start, end = max(start, at), max(end, at)
        source, (first, last) = (donor, _span(new, len(donor), rate)) if take else (base, (start, end))
        pieces += [base[at:start], source[first:last]]
        begin = length + start - at
        length = begin + last - first
        words.append(Word((new if take else old).word, begin / rate, length / rate))
        at = end
    return np.concatenate([*pieces, base[at:]]), tuple(words)


def _span(word: Word, length: int, rate: float) -> tuple[int, int]:
    first, last = (min(length, max(0, round(time * rate))) for time in (word.start, word.end))
    return first, last


def _timed(row: Row, seconds: float) -> bool:
    said = [_letters(word) for word in _spelled(row)]
    times = [0.0, *(time for word in row.words for time in (word.start, word.end)), seconds]
    return bool(said) and said == [_letters(word.word) for word in row.words] and times == sorted(times)


def _differing(own: Sequence[str], other: Sequence[str]) -> list[int]:
    """The places of words that differ; all places where none does."""
    places = [i for i, (a, b) in enumerate(zip(own, other, strict=True)) if _letters(a) != _letters(b)]
    return places or list(range(len(own)))


def _heard_at(rows: Sequence[Row]) -> np.ndarray:
    """How many different words sentences of the same length have at each place."""
    places = zip(*(map(_letters, _spelled(row)) for row in rows), strict=True)
    return np.array([len(set(words)) for words in places])


def _letters(word: str) -> str:
    """A word without the punctuation around it: transcripts have it, timings mostly do not."""
    return "".join(letter for letter in word.lower() if letter.isalnum() or letter == "'")


def _spelled(row: Row) -> list[str]:
    return (row.transcript or "").split()
