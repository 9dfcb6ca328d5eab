"""Captions from the grammar in `captions.toml`: what is heard, what is seen, and both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from peav.synth.world.scene import Place, Scene, Speaker, Thing
from peav.synth.world.tables import read_table
from peav.types import MODALITIES, modalities

PARAPHRASES = 3
GRAMMAR = read_table("captions")


class Narrator:
    """Writes one caption; draws every choice from `rng`."""

    def __init__(self, scene: Scene, rng: np.random.Generator, novel: bool) -> None:
        self._scene, self._rng, self._novel = scene, rng, novel

    def audio(self) -> str:
        """Only what is heard, in order, whether seen or not."""
        things = [thing for thing in self._scene.things if thing.sounds]
        parts = [(thing.pulses[0][0], thing.pulses[-1][1], self._heard(thing)) for thing in things]
        speaker = self._scene.speaker
        if speaker is not None:
            parts.append((speaker.start, speaker.end, self._one(GRAMMAR["voices"][speaker.figure.who])))
        parts.sort()
        if self._scene.ambience is not None and self._rng.random() < 0.6:
            parts.append((0.0, self._scene.duration, self._one(self._scene.backdrop.hums)))
        body, ends = parts[0][2], parts[0][1]
        for start, end, words in parts[1:]:
            joint = self._phrase("after" if start >= ends - 0.05 else "together")
            body, ends = body + joint + words, max(ends, end)
        return self._phrase("audio_frames").format(body=body)

    def video(self) -> str:
        """Only what is seen."""
        parts = [self._seen(thing) for thing in self._scene.things if thing.visible]
        if self._scene.speaker is not None:
            speaker = self._scene.speaker
            parts.append(f"{self._person(speaker)} {self._phrase('talking')} {self._side(speaker.place)}")
        return self._staged("video_frames", parts, camera=0.6)

    def audio_video(self) -> str:
        """What is seen and heard; says what is silent and what is out of sight."""
        parts = [self._acting(thing) for thing in self._scene.things if thing.visible]
        if self._scene.speaker is not None:
            parts.append(self._saying(self._scene.speaker))
        hidden = [thing for thing in self._scene.things if not thing.visible]
        caption = self._staged("audio_video_frames", parts, camera=0.3)
        joint = self._one((", with ", " with ", ", and "))
        return caption + "".join(f"{joint}{self._heard(thing)} {self._phrase('off_screen')}" for thing in hidden)

    def brief(self, kind: str) -> str:
        """What a search box would be given: the things alone, without color, side, backdrop or camera."""
        things, speaker = self._scene.things, self._scene.speaker
        parts = [self._brief(thing, heard=kind == "audio_video") for thing in things if thing.visible]
        if speaker is not None:
            who = "person" if speaker.figure.who == "hooded person" else speaker.figure.who
            parts.append(f"{article(who)} {self._phrase('speaking' if kind == 'audio_video' else 'talking')}")
        if kind == "audio_video":
            parts += [self._one(thing.kind.heard) for thing in things if not thing.visible]
        return " and ".join(parts[int(position)] for position in self._rng.permutation(len(parts)))

    def _brief(self, thing: Thing, heard: bool) -> str:
        noun = article(self._one(thing.kind.nouns))
        return f"{noun} {self._one(thing.kind.acts)}" if heard and thing.sounds else noun

    def _staged(self, frame: str, parts: list[str], camera: float) -> str:
        order = [parts[int(position)] for position in self._rng.permutation(len(parts))]
        body = order[0] if len(order) == 1 else f"{', '.join(order[:-1])} and {order[-1]}"
        caption = self._phrase(frame).format(body=body, place=self._one(self._scene.backdrop.places))
        shown = camera if self._scene.camera != "still" else camera / 3
        if self._rng.random() < shown:
            caption += self._one((", ", " while ", " as ")) + self._one(GRAMMAR["camera"][self._scene.camera])
        return caption

    def _heard(self, thing: Thing) -> str:
        words = self._one(thing.kind.heard)
        times = GRAMMAR["times"].get(str(len(thing.pulses)))
        if times and words.endswith("ing") and self._rng.random() < 0.5 and _countable(thing):
            words += " " + self._one(times)
        return words

    def _seen(self, thing: Thing) -> str:
        move = self._one(thing.kind.moves) if thing.sounds else self._phrase("still")
        return f"{article(self._noun(thing))} {move} {self._side(thing.place)}"

    def _acting(self, thing: Thing) -> str:
        side = self._side(thing.place)
        if not thing.sounds:
            return f"{article(self._phrase('mute') + ' ' + self._noun(thing))} {side}"
        return f"{article(self._noun(thing))} {self._one(thing.kind.acts)} {side}"

    def _side(self, place: Place | None) -> str:
        assert place is not None, "only what is in sight has a side"
        return self._one(GRAMMAR["sides"][place.side])

    def _noun(self, thing: Thing) -> str:
        noun = self._one(thing.kind.nouns)
        return f"{thing.color} {noun}" if thing.kind.tinted else noun

    def _person(self, speaker: Speaker) -> str:
        figure = speaker.figure
        if figure.who == "robot":
            return f"a robot with {article(figure.clothes)} body"
        if figure.who == "hooded person":
            return f"a person in {article(figure.clothes)} hood"
        if figure.who in ("old man", "old woman"):
            return f"an {figure.who} with glasses and {article(figure.clothes)} {self._one(('shirt', 'jacket'))}"
        return f"a {figure.who} with {figure.hair} hair and {article(figure.clothes)} {self._one(('shirt', 'jacket'))}"

    def _saying(self, speaker: Speaker) -> str:
        side = self._side(speaker.place)
        if self._rng.random() < 0.3:
            return f'{self._person(speaker)} {side} saying "{speaker.transcript}"'
        spoken = "whispering" if speaker.figure.who == "hooded person" else self._phrase("speaking")
        return f"{self._person(speaker)} {spoken} {side}"

    def _phrase(self, name: str) -> str:
        """One of the grammar's phrases; of novel ones, where they are wanted and there are some."""
        pools = GRAMMAR | GRAMMAR["novel"] if self._novel else GRAMMAR
        return self._one(pools[name])

    def _one(self, pool: Sequence[str]) -> str:
        return pool[int(self._rng.integers(len(pool)))]


def captions(scene: Scene) -> dict[str, list[str]]:
    """Three paraphrases of each kind {audio, video, audio_video}; a kind whose stream is missing has none.

    The first paraphrase of a test clip uses frames that training never does. In training, what is seen has a fourth
    caption that only names the things: long ones tell clips apart by color and backdrop, and a model that learns
    from them alone need not know what it sees.
    """
    written: dict[str, list[str]] = {kind: [] for kind in MODALITIES}
    for kind in modalities(scene.has_audio, scene.has_video):
        rng = np.random.default_rng([scene.seed, 4, MODALITIES.index(kind)])
        novel = [scene.split == "test" and number == 0 for number in range(PARAPHRASES)]
        written[kind] = [getattr(Narrator(scene, rng, each), kind)() for each in novel]
        if kind != "audio" and scene.split == "train":
            written[kind].append(Narrator(scene, rng, novel=False).brief(kind))
    return written


def _countable(thing: Thing) -> bool:
    longest = max(end - start for start, end in thing.pulses)
    return thing.kind.name != "vase" and longest < 1.3


def article(words: str) -> str:
    """The words behind "a" or "an"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"
