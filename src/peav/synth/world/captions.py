"""Captions from a grammar: what is heard, what is seen, and both. Frames marked `_NOVEL` are used in test only."""

from __future__ import annotations

import numpy as np

from peav.synth.world.scene import Scene, Speaker, Thing

PARAPHRASES = 3

AUDIO_FRAMES = (
    "{body}",
    "{body}",
    "the sound of {body}",
    "{body} can be heard",
    "you can hear {body}",
    "one can hear {body}",
    "a recording of {body}",
    "sounds of {body}",
    "{body} in the recording",
    "this is {body}",
    "we hear {body}",
)
AUDIO_FRAMES_NOVEL = ("in this recording you hear {body}", "this recording is the sound of {body}")
VIDEO_FRAMES = (
    "{body} {place}",
    "{body} {place}",
    "{place}, {body}",
    "a video of {body} {place}",
    "we see {body} {place}",
    "the picture shows {body} {place}",
    "{place} there is {body}",
    "this video shows {body} {place}",
    "{body} can be seen {place}",
)
VIDEO_FRAMES_NOVEL = ("{place} the picture is of {body}", "{place} you can see {body}")
BOTH_FRAMES = (
    "{body} {place}",
    "{body} {place}",
    "{place}, {body}",
    "a clip of {body} {place}",
    "this clip shows {body} {place}",
    "{place} there is {body}",
    "we see and hear {body} {place}",
    "a video with sound of {body} {place}",
)
BOTH_FRAMES_NOVEL = ("{place} this is a video of {body}", "the clip: {place} we see {body}")
TOGETHER = (" and ", " with ", " together with ", " along with ", ", and at the same time ")
TOGETHER_NOVEL = (" at the same time with ",)
AFTER = (", then ", " followed by ", " and then ", ", after that ")
AFTER_NOVEL = (" and after that ",)
COUNTS = {1: ("once",), 2: ("twice", "two times"), 3: ("three times",)}
SIDE_WORDS = {
    "left": ("on the left", "at the left", "on the left side"),
    "centre": ("in the middle", "in the centre", "at the centre"),
    "right": ("on the right", "at the right", "on the right side"),
}
STILL = ("standing still", "that does not move", "at rest", "without motion")
MUTE = ("silent", "quiet", "soundless")
OFF_SCREEN = ("off screen", "out of view", "outside the picture", "from somewhere unseen")
CAMERA_WORDS = {
    "still": ("the camera is still", "the camera stays still"),
    "left": ("the camera pans left", "the view moves to the left"),
    "right": ("the camera pans right", "the view moves to the right"),
    "in": ("the camera slowly zooms in", "the view gets closer"),
    "out": ("the camera slowly zooms out", "the view gets wider"),
    "shake": ("the camera shakes", "the camera is shaky"),
}
VOICES = {
    "woman": ("a woman speaking", "a woman talking", "a female voice", "the voice of a woman"),
    "man": ("a man speaking", "a man talking", "a male voice", "the voice of a man"),
    "child": ("a child speaking", "a child talking", "a high child voice", "the voice of a child"),
    "robot": ("a robot speaking", "a robot talking", "a robotic voice", "the voice of a robot"),
    "old man": ("an old man speaking", "an old man talking", "the voice of an old man"),
    "old woman": ("an old woman speaking", "an old woman talking", "the voice of an old woman"),
    "hooded person": ("someone whispering", "a person whispering", "a whispered voice"),
}
TALKING = ("talking", "moving the lips", "with a moving mouth")
SPEAKING = ("speaking", "talking")


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
            parts.append((speaker.start, speaker.end, self._one(VOICES[speaker.figure.who])))
        if self._scene.ambience is not None and self._rng.random() < 0.6:
            parts.append((0.0, self._scene.duration, self._one(self._scene.backdrop.hums)))
            parts = [*sorted(parts[:-1]), parts[-1]]
        else:
            parts.sort()
        body, ends = parts[0][2], parts[0][1]
        for start, end, words in parts[1:]:
            common, novel = (AFTER, AFTER_NOVEL) if start >= ends - 0.05 else (TOGETHER, TOGETHER_NOVEL)
            body, ends = body + self._one(common, novel) + words, max(ends, end)
        return self._one(AUDIO_FRAMES, AUDIO_FRAMES_NOVEL).format(body=body)

    def video(self) -> str:
        """Only what is seen."""
        parts = [self._seen(thing) for thing in self._scene.things if thing.visible]
        if self._scene.speaker is not None:
            speaker = self._scene.speaker
            parts.append(f"{self._person(speaker)} {self._one(TALKING)} {self._one(SIDE_WORDS[speaker.place.side])}")
        return self._staged(VIDEO_FRAMES, VIDEO_FRAMES_NOVEL, parts, camera=0.6)

    def audio_video(self) -> str:
        """What is seen and heard; says what is silent and what is out of sight."""
        parts = [self._acting(thing) for thing in self._scene.things if thing.visible]
        if self._scene.speaker is not None:
            parts.append(self._saying(self._scene.speaker))
        hidden = [thing for thing in self._scene.things if not thing.visible]
        caption = self._staged(BOTH_FRAMES, BOTH_FRAMES_NOVEL, parts, camera=0.3)
        joint = self._one((", with ", " with ", ", and "))
        return caption + "".join(f"{joint}{self._heard(thing)} {self._one(OFF_SCREEN)}" for thing in hidden)

    def brief(self, kind: str) -> str:
        """What a search box would be given: the things alone, without color, side, backdrop or camera."""
        things, speaker = self._scene.things, self._scene.speaker
        parts = [self._brief(thing, heard=kind == "audio_video") for thing in things if thing.visible]
        if speaker is not None:
            who = "person" if speaker.figure.who == "hooded person" else speaker.figure.who
            parts.append(f"{article(who)} {self._one(SPEAKING if kind == 'audio_video' else TALKING)}")
        if kind == "audio_video":
            parts += [self._one(thing.kind.heard) for thing in things if not thing.visible]
        return " and ".join(parts[int(position)] for position in self._rng.permutation(len(parts)))

    def _brief(self, thing: Thing, heard: bool) -> str:
        noun = article(self._one(thing.kind.nouns))
        return f"{noun} {self._one(thing.kind.acts)}" if heard and thing.sounds else noun

    def _staged(self, common: tuple[str, ...], novel: tuple[str, ...], parts: list[str], camera: float) -> str:
        order = [parts[int(position)] for position in self._rng.permutation(len(parts))]
        body = order[0] if len(order) == 1 else f"{', '.join(order[:-1])} and {order[-1]}"
        caption = self._one(common, novel).format(body=body, place=self._one(self._scene.backdrop.places))
        shown = camera if self._scene.camera != "still" else camera / 3
        if self._rng.random() < shown:
            caption += self._one((", ", " while ", " as ")) + self._one(CAMERA_WORDS[self._scene.camera])
        return caption

    def _heard(self, thing: Thing) -> str:
        words = self._one(thing.kind.heard)
        if len(thing.pulses) in COUNTS and words.endswith("ing") and self._rng.random() < 0.5 and _countable(thing):
            words += " " + self._one(COUNTS[len(thing.pulses)])
        return words

    def _seen(self, thing: Thing) -> str:
        move = self._one(thing.kind.moves) if thing.sounds else self._one(STILL)
        return f"{article(self._noun(thing))} {move} {self._side(thing)}"

    def _acting(self, thing: Thing) -> str:
        side = self._side(thing)
        if not thing.sounds:
            return f"{article(self._one(MUTE) + ' ' + self._noun(thing))} {side}"
        return f"{article(self._noun(thing))} {self._one(thing.kind.acts)} {side}"

    def _side(self, thing: Thing) -> str:
        assert thing.place is not None, "only what is in sight has a side"
        return self._one(SIDE_WORDS[thing.place.side])

    def _noun(self, thing: Thing) -> str:
        noun = self._one(thing.kind.nouns)
        return f"{thing.colour} {noun}" if thing.kind.tinted else noun

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
        side = self._one(SIDE_WORDS[speaker.place.side])
        if self._rng.random() < 0.3:
            return f'{self._person(speaker)} {side} saying "{speaker.transcript}"'
        spoken = "whispering" if speaker.figure.who == "hooded person" else self._one(SPEAKING)
        return f"{self._person(speaker)} {spoken} {side}"

    def _one(self, common: tuple[str, ...], novel: tuple[str, ...] = ()) -> str:
        pool = novel if novel and self._novel else common
        return pool[int(self._rng.integers(len(pool)))]


def captions(scene: Scene) -> dict[str, list[str]]:
    """Three paraphrases of each kind {audio, video, audio_video}; a kind whose stream is missing has none.

    The first paraphrase of a test clip uses frames that training never does. In training, what is seen has a fourth
    caption that only names the things: long ones tell clips apart by color and backdrop, and a model that learns
    from them alone need not know what it sees.
    """
    kinds = {
        "audio": scene.has_audio,
        "video": scene.has_video,
        "audio_video": scene.has_audio and scene.has_video,
    }
    written: dict[str, list[str]] = {}
    for stream, (kind, present) in enumerate(kinds.items()):
        rng = np.random.default_rng([scene.seed, 4, stream])
        novel = [scene.split == "test" and number == 0 for number in range(PARAPHRASES)] if present else []
        written[kind] = [getattr(Narrator(scene, rng, each), kind)() for each in novel]
        if present and kind != "audio" and scene.split == "train":
            written[kind].append(Narrator(scene, rng, novel=False).brief(kind))
    return written


def _countable(thing: Thing) -> bool:
    longest = max(end - start for start, end in thing.pulses)
    return thing.kind.name != "vase" and longest < 1.3


def article(words: str) -> str:
    """The words behind "a" or "an"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"
