"""Captions by a program of another environment, which speaks JSON lines: EnCLAP, CoNeTTE, a detector under node.

The program is started once. It is given one line on its standard input for each clip and answers with one line on its
standard output, before it is given the next; it ends when its input does. What it writes on standard error is shown in
messages. A request has

    id           of the clip; the answer gives it back
    audio_path   the file with the sound, or null
    video_path   the file with the pictures, or null
    start, end   of the clip within the files, in seconds, or null
    audio        with `wav: true`, a file with the clip's sound alone (mono, 48 kHz, 16 bits) until it is answered

and an answer `{"id": ..., "text": ...}`, empty where there is nothing to say, or `{"id": ..., "error": ...}`:

    import json, sys
    model = load_your_model()
    for line in sys.stdin:
        clip = json.loads(line)
        try:
            answer = {"text": model.caption(clip["audio"])}
        except Exception as error:
            answer = {"error": str(error)}
        print(json.dumps({"id": clip["id"], **answer}), flush=True)

A program that dies, answers something else or takes too long costs the clip in hand and is started again for the next.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

import numpy as np

from peav.engine.captioners.base import Captioner
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.stage import OUTSIDE
from peav.errors import CommandError, RecipeError
from peav.utils.checks import shown
from peav.utils.storage import FilePart

TAIL = 20  # lines of standard error in a message
GRACE = 5.0  # seconds
# The system kills the program with this process (Linux): set in between, since code of ours must not run in a fork.
_TIED = (
    "import ctypes, os, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() != int(sys.argv[1]): os._exit(1)\n"
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


@dataclass
class Command(Captioner):
    """Hands clips to a program one by one; the module's docstring is the protocol.

    Attributes:
        command: the program and its arguments.
        version: of the model behind it, which stands beside each caption; a new one asks about every clip again.
        wav: hand over each clip's sound as a file of its own, so that the program need not cut and decode.
        timeout: seconds that a clip may take.
        start_timeout: seconds that the first answer after a start may take beyond that, as for loading a model.
    """

    command: Sequence[str]
    version: str
    wav: bool = False
    timeout: float = field(default=60.0, metadata=OUTSIDE)
    start_timeout: float = field(default=600.0, metadata=OUTSIDE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.command, str) or not self.command:
            raise RecipeError(f"captioner {self.name}: command {self.command!r}: give a list, the program first")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # as in `Captioner`
        """The sound, where it is handed over; a program that is given paths decodes on its own."""
        return frozenset({"audio"} if self.wav else ())

    @property
    def model_name(self) -> str:
        """Name of the step and version."""
        return f"{self.name} {self.version}"

    def request(self, clip: Clip) -> Any:
        """Where the clip lies, and the version of its files, unless the engine tells its media apart."""
        from peav.features.keys import media_version

        return {} if self.wav else {**_places(clip), "version": media_version(clip.row)}

    def setup(self) -> None:
        """Start the program. Raises RecipeError where there is none."""
        if shutil.which(self.command[0]) is None:
            raise RecipeError(f"captioner {self.name}: no program {self.command[0]}: install it, or give its path")
        self._program = _Program(self.command)

    def caption(self, sample: Sample) -> Answer:
        """The program's answer.

        Raises CommandError where it answers with an error or not as it should, and where it dies or hangs.
        """
        with _files(sample, self.wav) as files:
            answer = self._program.ask({"id": sample.clip.id, **files}, self.timeout, self.start_timeout)
        if "error" in answer:
            raise CommandError(f"{self.command[0]}: {answer['error']}")
        return Answer(answer["text"])


class _Program:
    """A program that is started when there is something to ask, and again after it has died."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._fresh = True  # it has not answered since it was started
        self._start()

    def ask(self, request: Mapping[str, Any], timeout: float, start_timeout: float) -> Mapping[str, Any]:
        """The answer to a request. Raises CommandError; the program has then been killed, but for its own errors."""
        if self._process.poll() is not None:  # it died between two clips
            self._end()
            self._start()
        deadline = time.monotonic() + timeout + (start_timeout if self._fresh else 0)
        try:
            with suppress(BrokenPipeError):  # it is gone: its output ends as well
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            raise self._killed(f"no answer within {timeout:g} s: give a longer timeout, or see to it") from None
        if line is None:
            raise self._killed(self._ending())
        answer = _parsed(line)
        said = [answer.get(key) for key in ("text", "error") if key in answer]
        if answer.get("id") != request["id"] or len(said) != 1 or not isinstance(said[0], str):
            raise self._killed(f"answered {shown(line)}: print one line of JSON a clip, its id and text or error")
        self._fresh = False
        return answer

    def _start(self) -> None:
        tied = [sys.executable, "-SEc", _TIED, str(os.getpid()), *self._command]
        pipe = subprocess.PIPE
        # A session of its own, so that what it starts ends with it.
        how: Any = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "encoding": "utf-8", "errors": "replace"}
        self._process: Any = subprocess.Popen(tied, start_new_session=True, **how)
        self._fresh = True
        self._lines: Queue[str | None] = Queue()
        self._errors: deque[str] = deque(maxlen=TAIL)
        self._readers = [
            Thread(target=_read, args=(self._process.stdout, self._lines.put), daemon=True),
            Thread(target=_read, args=(self._process.stderr, self._errors.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._end = weakref.finalize(self, _end, self._process, self._readers)  # also when the interpreter ends

    def _ending(self) -> str:
        try:
            return f"ended with status {self._process.wait(GRACE)}"
        except subprocess.TimeoutExpired:
            return "closed its output: let it answer until its input ends"

    def _killed(self, reason: str) -> CommandError:
        self._end()
        errors = "".join(line for line in self._errors if line is not None).strip()
        return CommandError(f"{self._command[0]} {reason}" + (f"; its last words:\n{errors}" if errors else ""))


def _end(process: subprocess.Popen[str], readers: Sequence[Thread]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for reader in readers:
        reader.join(GRACE)  # a grandchild in a session of its own may hold the pipe
    with suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]


def _read(stream: IO[str], put: Any) -> None:
    with stream:
        for line in stream:
            put(line)
    put(None)


def _parsed(line: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _places(clip: Clip) -> dict[str, Any]:
    row = clip.row
    audio, video = (None if place is None else str(place) for place in (row.audio_path, row.video_path))
    return {"audio_path": audio, "video_path": video, "start": row.start, "end": row.end}


@contextmanager
def _files(sample: Sample, wav: bool) -> Iterator[dict[str, Any]]:
    """What a request says of a clip's files; those in an archive lie in a folder for as long as they are needed."""
    from peav.media.write import write_media

    places = _places(sample.clip)
    with tempfile.TemporaryDirectory(prefix="peav-") as folder:
        for name in ("audio_path", "video_path"):
            if isinstance(part := getattr(sample.clip.row, name), FilePart):
                target = Path(folder, f"{name}{Path(part.name or part.path).suffix}")
                target.write_bytes(part.read())
                places[name] = str(target)
        if wav:
            assert sample.media is not None
            assert sample.media.waveform is not None
            samples = np.clip(np.rint(sample.media.waveform * 32768), -32768, 32767).astype(np.int16)
            target = Path(folder, "audio.wav")
            write_media(target, "wav", audio=[samples])
            places["audio"] = str(target)
        yield places
