"""The mixtures that a recipe asks for: made once, from recordings on either side of their split."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from peav.data.manifest import Row, by_fold, read_manifest
from peav.data.places import Place, PlaceContext
from peav.data.recordings import read_recordings
from peav.errors import MixingError
from peav.jobs import claim, failure, write_failures
from peav.synth.mix.mixer import Mixer, Mixing, audible, sounds_of
from peav.synth.mix.write import without_sources, write_mixes
from peav.utils.atomic import on_disk
from peav.utils.text import readable


@dataclass(frozen=True)
class Mixtures(Place):
    """So many soundscapes of labeled sounds under `folder`, made where they are not there yet.

    Attributes:
        sounds: manifests, or folders of recordings. Rows of split `train`, and those without a split, make the training
            clips, all others the validation clips; with `validation` 0 all make training clips.
        backgrounds: labels whose sounds are backgrounds, never events; a side without any has pink noise.
        test_fold: the fold of the sounds that makes the validation clips, where they are not told apart otherwise.
        without: a manifest of mixtures; what those were made of is left out.
        how: how they are drawn.
    """

    folder: str
    train: int
    validation: int
    sounds: tuple[str, ...]
    backgrounds: tuple[str, ...] = ()
    test_fold: int | None = None
    without: str | None = None
    seed: int = 0
    how: Mixing = field(default_factory=Mixing)

    def __post_init__(self) -> None:
        if self.train < 1 or self.validation < 0 or not self.sounds:
            raise MixingError("mixtures need `sounds` and a number of `train` clips above 0")

    def rows(self, context: PlaceContext) -> list[Row]:
        """See `make_mixtures`."""
        context.stage("mixtures", self.train + self.validation)
        return make_mixtures(self, context.workers, context.advance)


def make_mixtures(wanted: Mixtures, jobs: int = 1, progress: Callable[[int], None] = lambda done: None) -> list[Row]:
    """The rows of both splits, `train` and `validation`. Raises MixingError where the folder holds other mixtures."""
    folder = on_disk(wanted.folder, "the mixtures' folder")
    _claim(folder, wanted)
    rows = [row for path in wanted.sounds for row in read_rows(Path(path), wanted.test_fold)]
    if wanted.without is not None:
        rows = without_sources(rows, wanted.without)
    made: list[Row] = []
    for split, clips in (("train", wanted.train), ("validation", wanted.validation)):
        manifest = folder / split / "manifest.jsonl"
        if clips and not manifest.exists():
            own = [row for row in rows if not wanted.validation or row.trains == (split == "train")]
            there = {sound.label for sound in sounds_of(own)}
            ground = [label for label in wanted.backgrounds if readable(label) in there]
            mixer = make_mixer(own, ground, folder / split / "failures.jsonl", wanted.how)
            before = len(made)
            write_mixes(
                folder / split,
                mixer,
                clips,
                wanted.seed,
                split=split,
                jobs=jobs,
                progress=lambda done, before=before: progress(before + done),  # type: ignore[misc]
            )
        made += read_manifest(manifest) if clips else []
        progress(len(made))
    return made


def make_mixer(rows: Sequence[Row], backgrounds: Sequence[str], failures: Path, how: Mixing | None = None) -> Mixer:
    """A mixer of the labeled sounds of rows, those of the labels in `backgrounds` as backgrounds.

    Sounds that cannot be read, or in which nothing is heard, are left out and named in the file `failures`.

    Raises:
        MixingError: no sound is left, or a label in `backgrounds` has none.
    """
    ground = {readable(label) for label in backgrounds}
    found, failed = audible(sounds_of(rows))
    if unknown := ground - {sound.label for sound in found}:
        raise MixingError(f"backgrounds: no sound has the label {', '.join(sorted(unknown))}")
    write_failures(failures, (failure(sound.path, error, id=sound.id, label=sound.label) for sound, error in failed))
    return Mixer([s for s in found if s.label not in ground], [s for s in found if s.label in ground], how)


def read_rows(path: Path, test_fold: int | None = None) -> list[Row]:
    """The rows of a manifest, or of a folder of recordings; `test_fold` holds out one fold of them."""
    rows = read_recordings(path) if path.is_dir() else read_manifest(path)
    return rows if test_fold is None else by_fold(rows, test_fold, str(path))


def _claim(folder: Path, wanted: Mixtures) -> None:
    """Note in the folder what it holds, so that a recipe cannot find another one's mixtures."""
    note, said = folder / "mixtures.json", json.loads(json.dumps(asdict(wanted)))
    older = {"test_fold": None, "how": json.loads(json.dumps(asdict(Mixing())))}  # what older notes lack
    if older | claim(note, said) != said:
        raise MixingError(f"{folder} holds other mixtures, see {note}; choose an empty folder or remove it")
