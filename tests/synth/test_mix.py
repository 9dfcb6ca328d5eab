"""Soundscapes hold what their events say, where they say it, and nothing that was to be left out."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from peav.checkpoint import load_model
from peav.cli.main import app
from peav.data.manifest import Row, read_manifest
from peav.data.transforms import SourceContext
from peav.errors import ManifestError
from peav.features.store import FeatureCache
from peav.lab.remix import Remix
from peav.media import load_audio
from peav.synth.mix import (
    Mixer,
    Mixing,
    MixingError,
    Mixtures,
    make_mixtures,
    sounds_of,
    without_sources,
    write_mixes,
)
from peav.synth.mix.loudness import heard, level
from peav.synth.mix.mixer import Sound, audible, said
from peav.synth.mix.recent import Recent
from peav.synth.mix.write import generator
from peav.types import Event

RATE = 48_000


def tone(seconds: float, frequency: float = 1000.0, amplitude: float = 0.3) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def save(path: Path, waveform: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((waveform * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Three labels: a beep, two beeps with a pause of half a second between them, a hiss between two silences."""
    silence = np.zeros(RATE // 2, np.float32)
    hiss = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    sounds = {
        "beep": tone(0.5),
        "two_beeps": np.concatenate([tone(0.3, 2000), silence, tone(0.3, 2000)]),
        "hiss": np.concatenate([silence, hiss, silence]),
    }
    return [
        Row(f"set/1-{n}-A", audio_path=save(tmp_path / f"{label}.wav", waveform), extra={"label": label})
        for n, (label, waveform) in enumerate(sounds.items())
    ]


@pytest.fixture
def ground(tmp_path: Path) -> list[Row]:
    noise = np.random.default_rng(1).normal(0, 0.05, 3 * RATE).astype(np.float32)
    return [Row("set/1-9-A", audio_path=save(tmp_path / "rain.wav", noise), extra={"label": "rain"})]


def test_silence_at_the_ends_and_long_pauses_are_not_heard() -> None:
    waveform = np.concatenate([np.zeros(RATE // 2), tone(0.4), np.zeros(RATE // 2), tone(0.2), np.zeros(RATE)])
    assert heard(waveform.astype(np.float32), RATE) == [
        pytest.approx((0.5, 0.9), abs=0.02),
        pytest.approx((1.4, 1.6), abs=0.02),
    ]


def test_a_short_pause_does_not_split_a_sound_and_a_tail_below_the_floor_is_cut_off() -> None:
    beeps = np.concatenate([tone(0.3), np.zeros(RATE // 10, np.float32), tone(0.3)])
    assert heard(beeps, RATE) == [pytest.approx((0.0, 0.7), abs=0.02)]
    tail = np.concatenate([tone(0.3), tone(0.3, amplitude=0.02)])
    assert heard(tail, RATE) == [pytest.approx((0.0, 0.6), abs=0.02)]
    second = np.concatenate([np.zeros(RATE, np.float32), tone(1.0), np.zeros(RATE, np.float32)])
    assert heard(second, RATE) == [pytest.approx((1.0, 2.0), abs=1e-9)]
    assert heard(tail, RATE, floor=-30.0) == [pytest.approx((0.0, 0.3), abs=0.02)]
    assert heard(np.zeros(RATE, np.float32), RATE) == heard(np.zeros(0, np.float32), RATE) == []


@pytest.mark.slow
def test_events_are_where_the_sound_is(rows: list[Row], ground: list[Row]) -> None:
    """Each event alone in its soundscape rises over the background within it and nowhere else."""
    how = Mixing(duration=4.0, events=(1, 1), snr=(20.0, 20.0), repeat=0.0, cut=0.0)
    mixer = Mixer(sounds_of(rows), sounds_of(ground), how)
    seen = set()
    for seed in range(12):
        scape = mixer(np.random.default_rng(seed))
        labels = [event.label for event, _ in scape.events]
        seen.add(tuple(labels))
        inside = np.zeros(len(scape.waveform), bool)
        for event, _ in scape.events:
            inside[round(event.onset * RATE) : round(event.offset * RATE)] = True
        near = np.convolve(inside, np.ones(RATE // 25), "same") > 0.5  # 20 ms around the edges belong to neither
        assert level(scape.waveform[inside]) - level(scape.waveform[~near]) == pytest.approx(20, abs=1)
    assert seen == {("beep",), ("two beeps", "two beeps"), ("hiss",)}


def test_no_more_labels_sound_at_once_than_allowed(rows: list[Row]) -> None:
    for overlap in (1, 2):
        mixer = Mixer(sounds_of(rows), how=Mixing(duration=3.0, events=(6, 9), overlap=overlap, repeat=0.5))
        most = 0
        for seed in range(10):
            events = [event for event, _ in mixer(np.random.default_rng(seed)).events]
            for at in np.arange(0, 3, 0.005):
                active = [event.label for event in events if event.onset <= at < event.offset]
                assert len(active) == len(set(active))
                most = max(most, len(active))
        assert most == overlap


@pytest.mark.slow
def test_the_same_seed_writes_the_same_samples_however_many_processes(rows: list[Row], tmp_path: Path) -> None:
    mixer = Mixer(sounds_of(rows), how=Mixing(duration=1.0))
    one = write_mixes(tmp_path / "one", mixer, 20, 3)
    two = write_mixes(tmp_path / "two", mixer, 20, 3, jobs=2)
    assert one.read_bytes() == two.read_bytes()
    for path in sorted((tmp_path / "one" / "media").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / "media" / path.name).read_bytes()
    assert one.read_bytes() != write_mixes(tmp_path / "other", mixer, 20, 4).read_bytes()


def test_a_written_soundscape_reads_back_with_its_events(rows: list[Row], ground: list[Row], tmp_path: Path) -> None:
    mixer = Mixer(sounds_of(rows), sounds_of(ground), Mixing(duration=2.0, events=(2, 2)))
    manifest = write_mixes(tmp_path / "out", mixer, 3, 0, split="train")
    for index, row in enumerate(read_manifest(manifest, "train")):
        scape = mixer(generator(0, "train", index))
        assert row.events == tuple(event for event, _ in scape.events)
        assert np.abs(load_audio(row.audio_path) - scape.waveform).max() < 1e-4
        assert row.extra["background"] == "rain"


def test_timed_events_of_a_manifest_are_cut_out_of_their_clips(rows: list[Row]) -> None:
    clip = Row("x", audio_path=rows[0].audio_path, start=1.0, events=(Event("door_knock", 0.1, 0.4),))
    (sound,) = sounds_of([clip, Row("unlabelled", audio_path=rows[0].audio_path), Row("mute")])
    assert (sound.label, sound.start, sound.end) == ("door knock", 1.1, 1.4)


def test_what_mixtures_were_made_of_is_left_out_with_its_siblings(rows: list[Row], tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    used = [{"source": "set/audio/4-1-B-20.ogg"}, {"source": "other/audio/1-2-A.ogg"}]
    manifest.write_text(json.dumps({"background_source": "set/1-0-A", "events": used}) + "\n")
    assert [row.id for row in without_sources(rows, tmp_path)] == ["set/1-2-A"]


def test_sources_are_known_by_any_name_of_the_folder_of_their_set(tmp_path: Path) -> None:
    """A set that is linked by another name must not train what it is tested on."""
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"background_source": "esc10/audio/1-7-A.ogg"}) + "\n")
    ids = ["ESC-10/audio/1-7-A.ogg", "ESC-10/audio/3-7-B.ogg", "ESC-10/street/1-7-A.ogg", "ESC-10/audio/1-8-A.ogg"]
    assert [row.id for row in without_sources([Row(id) for id in ids], tmp_path)] == ids[2:]


@pytest.mark.parametrize(
    "record", [{"background_source": 3}, {"events": 3}, {"events": ["x"]}, {"events": [{"source": []}]}]
)
def test_a_source_of_another_type_is_named_with_its_line(tmp_path: Path, record: dict) -> None:
    (tmp_path / "manifest.jsonl").write_text("{}\n" + json.dumps(record) + "\n")
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:2: "):
        without_sources([], tmp_path)


def test_a_soundscape_keeps_the_licenses_of_its_sounds(rows: list[Row], tmp_path: Path) -> None:
    licensed = [replace(row, license=f"CC-{number}") for number, row in enumerate(rows)]
    manifest = write_mixes(tmp_path, Mixer(sounds_of(licensed), how=Mixing(duration=2.0, events=(2, 2))), 2, seed=0)
    for row, line in zip(read_manifest(manifest), manifest.read_text().splitlines(), strict=True):
        of_events = dict.fromkeys(event["license"] for event in json.loads(line)["events"])
        assert row.license == "; ".join(of_events)


def test_waveforms_are_kept_up_to_a_number_of_bytes() -> None:
    loaded = []

    def load(seconds: int) -> np.ndarray:
        loaded.append(seconds)
        return np.full(seconds * RATE, seconds, np.float32)

    recent = Recent(load, limit=5 * RATE * 4)
    for seconds in (2, 1, 2, 3, 1, 9, 2, 9):  # 3 drives out 1, which was used before 2; 1 then drives out 2
        assert len(recent(seconds)) == seconds * RATE
        assert recent.bytes <= recent.limit
    assert loaded == [2, 1, 3, 1, 9, 2, 9]


def test_sounds_that_are_silent_or_do_not_decode_are_left_out_and_named(rows: list[Row], tmp_path: Path) -> None:
    dither = np.random.default_rng(0).integers(-1, 2, RATE) / 32767
    bad = [
        Row("set/quiet", audio_path=save(tmp_path / "quiet.wav", dither), extra={"label": "dog"}),
        Row("set/gone", audio_path=tmp_path / "gone.wav", extra={"label": "dog"}),
    ]
    good, failed = audible(sounds_of([*bad, *rows]))
    assert [sound.id for sound in good] == [row.id for row in rows]
    assert [(sound.id, type(error).__name__) for sound, error in failed] == [
        ("set/quiet", "MixingError"),
        ("set/gone", "MissingFileError"),
    ]
    assert str(failed[0][1]) == f"{tmp_path / 'quiet.wav'}: nothing is heard in it"


def test_either_side_of_a_split_is_drawn_on_its_own(rows: list[Row], tmp_path: Path) -> None:
    mixer = Mixer(sounds_of(rows), how=Mixing(duration=1.0))
    one, two = (mixer(generator(0, split, 0)).waveform for split in ("train", "validation"))
    assert not np.array_equal(one, two)


def test_soundscapes_are_not_written_over_others(rows: list[Row], tmp_path: Path) -> None:
    mixer = Mixer(sounds_of(rows), how=Mixing(duration=1.0))
    write_mixes(tmp_path / "out", mixer, 1, 0)
    with pytest.raises(MixingError, match="holds soundscapes already"):
        write_mixes(tmp_path / "out", mixer, 1, 1)


def test_nothing_to_mix_is_said(tmp_path: Path) -> None:
    with pytest.raises(MixingError, match="no labeled sound stands alone"):
        Mixer([])
    with pytest.raises(MixingError, match="lowest and the highest"):
        Mixing(snr=(10.0, 0.0))
    with pytest.raises(MixingError, match="speed"):
        Mixing(speed=(1.2, 0.8))
    with pytest.raises(MixingError, match="tilt"):
        Mixing(tilt=-1.0)


def test_mixtures_of_a_recipe_are_made_once_from_either_side_of_the_split(rows: list[Row], tmp_path: Path) -> None:
    lines = [
        {"id": row.id, "path": row.audio_path.name, "label": row.extra["label"], "split": split}
        for row, split in zip(rows, ("train", "train", "test"), strict=True)
    ]
    sounds = tmp_path / "sounds.jsonl"
    sounds.write_text("".join(json.dumps(line) + "\n" for line in lines))
    wanted = Mixtures(str(tmp_path / "out"), 3, 2, (str(sounds),))
    made = make_mixtures(wanted)
    assert [row.split for row in made] == ["train"] * 3 + ["validation"] * 2
    heard = {
        split: {e.label for row in made if row.split == split for e in row.events} for split in ("train", "validation")
    }
    assert heard == {"train": {"beep", "two beeps"}, "validation": {"hiss"}}
    sounds.unlink()
    sounds.write_text("")
    assert make_mixtures(wanted) == made
    with pytest.raises(MixingError, match="holds other mixtures"):
        make_mixtures(replace(wanted, seed=1))


def test_with_no_validation_mixtures_nothing_is_held_out(rows: list[Row], tmp_path: Path) -> None:
    lines = [{"id": r.id, "path": r.audio_path.name, "label": r.extra["label"], "split": "test"} for r in rows]
    sounds = tmp_path / "sounds.jsonl"
    sounds.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = make_mixtures(Mixtures(str(tmp_path / "out"), 8, 0, (str(sounds),)))
    assert {row.split for row in made} == {"train"}
    assert {event.label for row in made for event in row.events} == {"beep", "two beeps", "hiss"}


def test_a_faster_sound_is_higher_and_shorter(rows: list[Row]) -> None:
    how = Mixing(duration=2.0, events=(1, 1), snr=(40.0, 40.0), repeat=0.0, cut=0.0, speed=(2.0, 2.0))
    scape = Mixer(sounds_of(rows[:1]), how=how)(np.random.default_rng(0))
    ((event, _),) = scape.events
    assert event.offset - event.onset == pytest.approx(0.25, abs=0.02)
    heard_ = scape.waveform[round(event.onset * RATE) : round(event.offset * RATE)]
    assert np.abs(np.fft.rfft(heard_)).argmax() * RATE / len(heard_) == pytest.approx(2000, rel=0.02)


def test_a_tilted_sound_has_so_many_decibels_an_octave_more(rows: list[Row]) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)

    def octave(waveform: np.ndarray, low: float) -> float:
        frequency = np.fft.rfftfreq(len(waveform), 1 / RATE)
        band = (frequency >= low) & (frequency < 2 * low)
        return 10 * np.log10(np.mean(np.abs(np.fft.rfft(waveform)[band]) ** 2))

    mixer = Mixer(sounds_of(rows), how=Mixing(tilt=6.0))
    slopes = []
    for seed in range(20):
        tilted = mixer._varied(noise, np.random.default_rng(seed))
        rises = [octave(tilted, low) - octave(noise, low) for low in (500, 1000, 2000, 4000)]
        assert np.diff(rises) == pytest.approx(np.diff(rises).mean(), abs=0.1)  # a straight line over the octaves
        slopes.append(np.diff(rises).mean())
    assert max(slopes) > 3
    assert min(slopes) < -3
    assert max(map(abs, slopes)) <= 6.01


def test_a_soundscape_is_told_by_one_caption_in_the_order_of_its_sounds(rows: list[Row], ground: list[Row]) -> None:
    how = Mixing(duration=6.0, events=(3, 3), snr=(20.0, 20.0), repeat=0.3)
    mixer = Mixer(sounds_of([replace(rows[0], captions={"audio": ["a beep"]}), *rows[1:]]), sounds_of(ground), how)
    for seed in range(10):
        scape = mixer(np.random.default_rng(seed))
        names = {"beep": "a beep"}
        order = list(dict.fromkeys(names.get(event.label, event.label) for event, _ in scape.events))
        places = [scape.caption.index(name) for name in order]
        assert places == sorted(places)
        assert scape.caption.endswith(" and rain in the background")
        assert scape.caption.count(",") == max(0, len(order) - 2)


def test_a_soundscape_of_nothing_has_no_caption(rows: list[Row]) -> None:
    scape = Mixer(sounds_of(rows), how=Mixing(duration=1.0, events=(0, 0)))(np.random.default_rng(0))
    assert (scape.events, scape.caption) == ((), None)


def context(folder: Path) -> SourceContext:
    return SourceContext(FeatureCache(folder / "cache", load_model("tiny")), 10.0, folder / "failures.jsonl")


@pytest.mark.slow
def test_a_remixed_clip_is_heard_among_others_and_told_as_such(rows: list[Row], tmp_path: Path) -> None:
    named = {"beep": "a high tone", "two_beeps": "two chirps", "hiss": "steam"}
    told = [replace(row, captions={"audio": [named[row.extra["label"]]]}) for row in rows]
    told[2] = replace(told[2], transcript="hello", video_path=rows[2].audio_path, synthetic={"audio": ["x"]})
    remix = Remix(Mixing(duration=4.0, events=(1, 3)))
    clips = remix.train_rows([*told, Row("unlabelled", audio_path=rows[0].audio_path)], 10.0)
    assert [clip.id for clip in clips] == [row.id for row in rows]
    assert (clips[2].transcript, clips[2].video_path, clips[2].synthetic) == (None, None, {})
    clips = remix.start(clips, context(tmp_path))
    assert [[event.label for event in clip.events] for clip in clips] == [["beep"], ["two beeps"], ["hiss"]]
    others = set()
    for seed in range(10):
        row, clip = remix.draw(clips[2], np.random.default_rng(seed), load=seed < 2)
        again, same = remix.draw(clips[2], np.random.default_rng(seed), load=seed < 2)
        assert row == again
        assert same is None if clip is None else np.array_equal(clip.latents, same.latents)
        heard_ = {event.label for event in row.events}
        assert "hiss" in heard_
        others |= heard_ - {"hiss"}
        for label, name in named.items():
            assert (name in row.captions["audio"][0]) == (label.replace("_", " ") in heard_)
    assert others == {"beep", "two beeps"}


def test_a_clip_in_which_nothing_is_heard_is_no_sound_to_mix(rows: list[Row], tmp_path: Path) -> None:
    silent = Row("silent", audio_path=save(tmp_path / "silent.wav", np.zeros(RATE, np.float32)), extra={"label": "x"})
    assert [row.id for row in Remix().start([*rows, silent], context(tmp_path))] == [row.id for row in rows]
    line = json.loads((tmp_path / "failures.jsonl").read_text())
    said = {"path": str(silent.audio_path), "error": "MixingError", "id": "silent", "label": "x"}
    assert line == said | {"reason": f"{silent.audio_path}: nothing is heard in it"}


def test_an_event_is_a_sound_where_no_other_label_sounds_and_it_lasts(rows: list[Row]) -> None:
    spans = {"alone": (0, 1), "over": (2, 4), "under": (3, 5), "again": (6, 7), "short": (8, 8)}
    events = [Event(label, *map(float, span)) for label, span in spans.items()]
    events.append(Event("again", 6.5, 8.0))
    clip = Row("x", audio_path=rows[0].audio_path, events=tuple(events))
    assert [sound.label for sound in sounds_of([clip])] == ["alone", "again", "again"]


def test_a_caption_stands_in_a_sentence() -> None:
    texts = {"A dog barks.": "a dog barks", "TV noise": "TV noise", "rain": "rain", "I hum": "I hum"}
    assert {text: said(Sound("x", "x", Path("x"), texts=(text,))) for text in texts} == texts
    assert said(Sound("x", "door knock", Path("x"))) == "door knock"


def test_the_command_mixes_a_manifest(rows: list[Row], tmp_path: Path) -> None:
    lines = [{"id": row.id, "path": row.audio_path.name, "label": row.extra["label"]} for row in rows]
    (tmp_path / "sounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["mix", str(tmp_path / "out"), "--sounds", str(tmp_path / "sounds.jsonl"), "--backgrounds", "hiss"]
    result = CliRunner().invoke(app, [*arguments, "--clips", "2", "--duration", "2", "--jobs", "1", "--json"])
    assert result.exit_code == 0, result.output
    made = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert len(made) == 2
    typo = CliRunner().invoke(app, [*arguments[:-1], "hisss", "--json"])
    assert typo.exit_code == 2
    assert "no sound has the label hisss" in typo.output
    assert {row.extra["background"] for row in made} == {"hiss"}
    assert "hiss" not in {event.label for row in made for event in row.events}
