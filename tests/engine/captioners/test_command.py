"""Programs that speak JSON lines: real ones, among them some that die, hang, or answer garbage."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peav.data.manifest import Row
from peav.engine.captioners import command
from peav.engine.captioners.command import Command
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.stage import identity_of, request_key
from peav.errors import CommandError, RecipeError
from peav.features.decode import Decoded
from peav.utils.storage import FilePart

PROGRAM = """
import json, os, sys, time, wave
print("loading", file=sys.stderr)
for line in sys.stdin:
    clip = json.loads(line)
    id = clip["id"]
    if id == "die":
        print("out of memory", file=sys.stderr, flush=True)
        os._exit(3)
    if id == "hang":
        time.sleep(60)
    if id == "garbage":
        print("Using cache found in ~", flush=True)
        continue
    if id == "refuse":
        print(json.dumps({"id": id, "error": "no such sound"}), flush=True)
        continue
    told = open(clip["audio_path"]).read() if "read" in id else str(os.getpid())
    if clip.get("audio"):
        with wave.open(clip["audio"]) as file:
            told = f"{file.getframerate()} Hz {file.getnframes()}"
    print(json.dumps({"id": id, "text": 5 if id == "number" else told}), flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    return [sys.executable, str(tmp_path / "program.py")]


def started(program: list[str], **options: Any) -> Command:
    one = Command("theirs", program, "1.0", **{"timeout": 30.0, **options})
    one.setup()
    return one


def sample(id: str, path: Any = Path("/tmp/a.wav"), media: Decoded | None = None) -> Sample:
    return Sample(Clip(id, Row(id, audio_path=path)), media)


def ask(one: Command, *ids: str) -> list[Answer | Exception]:
    return [answer for _, answer in one([sample(id) for id in ids])]


def test_one_program_answers_for_all_clips_and_its_captions_carry_its_version(program: list[str]) -> None:
    one = started(program)
    answers = ask(one, "a", "b", "c")
    assert len({answer.value for answer in answers if isinstance(answer, Answer)}) == 1
    clip = Clip("a", Row("a"))
    one.apply(clip, "a dog")
    assert (clip.weak["theirs"].text, clip.weak["theirs"].model) == ("a dog", "theirs 1.0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "reason"),
    [
        ("die", r"ended with status 3; its last words:\nloading\nout of memory"),
        ("hang", "no answer within 1 s: give a longer timeout"),
        ("garbage", r"answered 'Using cache found in ~\\n': print one line of JSON a clip"),
        ("number", "answered .*: print one line of JSON a clip, its id and text or error"),
    ],
)
def test_what_goes_wrong_costs_the_clip_in_hand_and_the_next_has_a_new_program(
    program: list[str], id: str, reason: str
) -> None:
    before, wrong, after = ask(started(program, timeout=1.0 if id == "hang" else 30.0), "a", id, "b")
    assert isinstance(wrong, CommandError)
    assert re.search(reason, str(wrong))
    assert isinstance(before, Answer)
    assert isinstance(after, Answer)
    assert before.value != after.value  # the process' number
    with pytest.raises(ProcessLookupError):
        os.kill(int(before.value), 0)


def test_an_error_that_the_program_tells_of_costs_no_restart(program: list[str]) -> None:
    before, wrong, after = ask(started(program), "a", "refuse", "b")
    assert str(wrong).endswith("no such sound")
    assert before == after


def test_an_answer_to_another_clip_is_not_taken(tmp_path: Path) -> None:
    code = "import json, sys\nfor line in sys.stdin: print(json.dumps({'id': 'x', 'text': 'a dog'}), flush=True)"
    (answer,) = ask(started([sys.executable, "-c", code]), "a")
    assert "answered" in str(answer)


def test_a_program_that_died_between_two_clips_costs_none(program: list[str]) -> None:
    one = started(program)
    (first,) = ask(one, "a")
    assert isinstance(first, Answer)
    os.kill(int(first.value), signal.SIGKILL)
    one._program._process.wait()
    (second,) = ask(one, "b")
    assert isinstance(second, Answer)
    assert second.value != first.value


@pytest.mark.slow
def test_loading_has_a_time_of_its_own(tmp_path: Path) -> None:
    code = f"import time\ntime.sleep(1.5)\n{PROGRAM}"
    (tmp_path / "slow.py").write_text(code)
    slow = [sys.executable, str(tmp_path / "slow.py")]
    (waited,) = ask(started(slow, timeout=1.0, start_timeout=60.0), "a")
    (given_up,) = ask(started(slow, timeout=0.5, start_timeout=0.5), "a")
    assert isinstance(waited, Answer)
    assert isinstance(given_up, CommandError)


def test_the_clips_own_sound_is_handed_over_and_not_kept(program: list[str]) -> None:
    one = started(program, wav=True)
    assert one.needs == {"audio"}
    (_, heard), (_, soundless) = one(
        [sample("a", media=Decoded(np.zeros(12345, np.float32), None)), sample("b", media=Decoded(None, None))]
    )
    assert heard == Answer("48000 Hz 12345")
    assert soundless == Answer("")


def test_a_file_within_an_archive_is_laid_out_for_the_program(program: list[str], tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"__a dog__")
    part = FilePart(str(tmp_path / "archive"), 2, 5, "clip.txt")
    ((_, answer),) = started(program)([sample("read", part)])
    assert answer == Answer("a dog")


@pytest.mark.slow
def test_it_dies_with_its_parent(program: list[str], tmp_path: Path) -> None:
    parent = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from peav.data.manifest import Row
        from peav.engine.captioners.command import Command
        from peav.engine.clip import Clip, Sample
        one = Command("theirs", {program!r}, "1.0")
        one.setup()
        ((_, answer),) = one([Sample(Clip("a", Row("a")))])
        print(answer.value, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{done.stdout.strip()}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done.returncode == -signal.SIGKILL
    assert not Path(f"/proc/{done.stdout.strip()}").exists()


def test_the_example_of_the_docstring_runs(tmp_path: Path) -> None:
    assert command.__doc__ is not None
    example = textwrap.dedent(command.__doc__.split("`:\n", 1)[1].split("\nA program that", 1)[0])
    model = "class M:\n    def caption(self, path): return path or 1 / 0\ndef load_your_model(): return M()\n"
    (tmp_path / "example.py").write_text(model + example.replace('clip["audio"]', 'clip["audio_path"]'))
    one = started([sys.executable, str(tmp_path / "example.py")])
    (_, said), (_, wrong) = one([sample("a"), sample("b", None)])
    assert said == Answer("/tmp/a.wav")
    assert "division by zero" in str(wrong)


def test_a_file_that_changed_or_a_new_version_is_asked_about_again(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"1")
    clip = sample("a", path).clip
    one, newer = (Command("theirs", ["true"], version) for version in ("1", "2"))
    before = request_key(identity_of(one), one.request(clip), "")
    assert (
        before
        == request_key(identity_of(one), one.request(clip), "")
        != request_key(identity_of(newer), newer.request(clip), "")
    )
    path.write_bytes(b"12")
    assert request_key(identity_of(one), one.request(clip), "") != before
    json.dumps(one.request(clip))


def test_what_cannot_be_run_is_named() -> None:
    with pytest.raises(RecipeError, match="no program no-such-program: install it, or give its path"):
        Command("theirs", ["no-such-program"], "1").setup()
    with pytest.raises(RecipeError, match=r"command 'python x\.py': give a list, the program first"):
        Command("theirs", "python x.py", "1")
