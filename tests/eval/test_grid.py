"""Sentences of GRID: every clip against the whole grammar, and sound against picture without the sentence's timing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise_clip import write_clip
from typer.testing import CliRunner

from peav.cli.main import app
from peav.data.manifest import Row
from peav.data.recordings import read_recordings
from peav.encoder import Encoder
from peav.errors import EvaluationError
from peav.eval import grid
from peav.types import Word, modalities

SAID = (
    "bin blue at f five again",
    "set white with z zero soon",
    "lay red in a one now",
    "place green by q nine please",
)


class Listener:
    """An embedder that is told which sentence each clip seems to say, and counts the words that texts share with it."""

    def __init__(self, heard: Mapping[str, str]) -> None:
        self.heard, self.asked = heard, list[Row]()

    def streams(self, rows: Sequence[Row]) -> list[frozenset[str]]:
        return [frozenset(modalities(row.audio_path is not None, row.video_path is not None)) for row in rows]

    def media(self, rows: Sequence[Row], spaces: Collection[str]) -> dict[str, np.ndarray]:
        self.asked += rows
        return {space: self.texts([self.heard[row.transcript or ""] for row in rows], space) for space in spaces}

    def texts(self, texts: Sequence[str], space: str) -> np.ndarray:
        slots = [
            words.index(word) for text in texts for words, word in zip(grid.GRAMMAR.values(), text.split(), strict=True)
        ]
        vectors = [np.eye(25)[slots[i : i + 6]].ravel() for i in range(0, len(slots), 6)]
        return np.array(vectors, dtype=np.float32)


def recordings(folder: Path, transcripts: Sequence[str]) -> Path:
    words = [{"word": word, "start": 0.5 + 0.3 * i, "end": 0.8 + 0.3 * i} for i, word in enumerate("abcdef")]
    records = [
        {"path": f"{i}.mp4", "kind": "video+speech", "transcript": said, "words": words, "duration": 3.0}
        for i, said in enumerate(transcripts)
    ]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder


def test_the_grammar_has_64000_sentences_and_every_transcript_is_one(shared: Path) -> None:
    everything = set(grid.sentences())
    assert len(everything) == 64_000
    assert {row.transcript for row in read_recordings(shared / "data" / "grid_av")} <= everything


@pytest.mark.slow
def test_a_sentence_counts_only_with_all_its_words_and_each_word_by_itself(tmp_path: Path) -> None:
    heard = dict(zip(SAID, SAID, strict=True))
    heard[SAID[1]] = "set blue with z zero soon"  # one of six words is wrong
    table = grid.sentence_table(Listener(heard), recordings(tmp_path, SAID), None)
    speech, video, chance = table.rows
    assert speech | {"direction": ""} == video | {"direction": ""}
    assert speech["recall@1"] == 3 / 4
    assert [speech[slot] for slot in grid.GRAMMAR] == [1, 3 / 4, 1, 1, 1, 1]
    # Behind the one that was heard, 3 + 3 + 3 + 24 + 9 + 3 sentences share five words with it; ties count against.
    assert speech["recall@10"] == 3 / 4
    assert chance["letter"] == 1 / 4  # four clips, four letters
    assert chance["recall@1"] == 1 / 64_000


@pytest.mark.slow
def test_what_scores_every_sentence_alike_is_never_right(tmp_path: Path) -> None:
    listener = Listener({})
    listener.media = lambda rows, spaces: {space: np.zeros((len(rows), 150), np.float32) for space in spaces}
    speech = grid.sentence_table(listener, recordings(tmp_path, SAID), None).rows[0]
    assert [speech[column] for column in ("recall@10", *grid.GRAMMAR)] == [0] * 7


def test_a_transcript_outside_the_grammar_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"'bin black at f five again' is not a sentence of GRID's grammar"):
        grid.sentence_table(Listener({}), recordings(tmp_path, [SAID[0], "bin black at f five again"]), None)


def clip(number: int, first: float, lasts: float) -> Row:
    words = (Word("bin", first, first + lasts / 2), Word("soon", first + lasts / 2, first + lasts))
    return Row(str(number), Path("a"), Path("a"), transcript=SAID[number % 4], words=words)


@given(first=st.floats(0, 2), lasts=st.floats(0.1, 2), seed=st.integers(0, 99))
def test_without_its_timing_a_clip_still_has_its_whole_sentence(first: float, lasts: float, seed: int) -> None:
    listener = Listener(dict(zip(SAID, SAID, strict=True)))
    results = grid.untimed(listener, [clip(i, first, lasts) for i in range(4)], seed)
    assert [result.recall[1] for result in results] == [1, 1]
    heard, seen = listener.asked[:4], listener.asked[4:]
    assert all(0 <= row.start <= first and row.end >= first + lasts for row in listener.asked)
    assert all(row.video_path is None and row.audio_path for row in heard)
    assert all(row.audio_path is None and row.video_path for row in seen)
    assert all(one.end != other.end for one, other in zip(heard, seen, strict=True))


def test_how_much_silence_is_left_says_nothing_of_when_a_sentence_began() -> None:
    listener = Listener(dict(zip(SAID, SAID, strict=True)))
    firsts = np.random.default_rng(0).uniform(0.3, 2, 400)
    grid.untimed(listener, [clip(i, first, 1.0) for i, first in enumerate(firsts)])
    left = np.array([row.words[0].start - row.start for row in listener.asked])
    assert abs(np.corrcoef(left[:400], left[400:])[0, 1]) < 0.15
    assert abs(np.corrcoef(left[:400], firsts)[0, 1]) < 0.15


def test_untimed_clips_are_searched_among_those_that_last_as_long() -> None:
    class Timer(Listener):
        """Knows nothing but how long the sentence lasts, to the tenth of a second."""

        def media(self, rows: Sequence[Row], spaces: Collection[str]) -> dict[str, np.ndarray]:
            lasts = [round(10 * (row.words[-1].end - row.words[0].start)) for row in rows]
            return {space: np.eye(40, dtype=np.float32)[lasts] for space in spaces}

    rows = [clip(i, 0.5, 1.0 + 0.1 * (i % 8)) for i in range(32)]
    for result in grid.untimed(Timer({}), rows, like=4):
        assert result.targets == 4
        assert result.recall[1] == 0  # all four last as long; ties count against


@pytest.mark.slow
def test_the_command_holds_clips_against_all_sentences(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slot, words in (("letter", ("f", "q")), ("digit", ("one", "five"))):
        monkeypatch.setitem(grid.GRAMMAR, slot, words)  # 64 000 take a minute
    encoder.save_pretrained(tmp_path / "model")
    transcripts = [sentence for sentence in grid.sentences() if "bin" in sentence][:12]
    folder = recordings(tmp_path, transcripts)
    for i in range(len(transcripts)):
        write_clip(folder / f"{i}.mp4", 3.0, i)
    command = ["eval", str(tmp_path / "model"), "--grid", str(folder), "--sentences", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    retrieval, sentences = json.loads(result.stdout)["results"]
    names = ["speech2transcript", "transcript2speech", "video2transcript", "a2v", "v2a"]
    assert [row["direction"] for row in retrieval["rows"]] == [*names, "a2v, untimed", "v2a, untimed"]
    assert [row["direction"] for row in sentences["rows"]] == ["speech2sentence", "video2sentence", "chance"]
    assert "all 1024 sentences" in sentences["title"]


def test_sentences_are_of_grid_alone() -> None:
    result = CliRunner().invoke(app, ["eval", "tiny", "--sentences"])
    assert result.exit_code == 2
    assert "--grid FOLDER" in result.stderr
