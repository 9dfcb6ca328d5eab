"""`peav embed`, `detect` and `prepare`, killed again and again: nothing is lost, nothing is there twice.

./run long kills [KILLS]      kills of each, 50 by default: KILL, TERM and INT in turn, spread evenly over the work

A kill counts if the job was at work. Before and after each one, what is on the disk is compared; what was finished and
had to be done again must have been finished at most five seconds before the kill.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ALLOWED = 5.0  # seconds of finished work that may be repeated
SEED = 7

# Runs a verb, and notes when each piece of work is finished.
DRIVER = """
import os, signal, sys, time
from peav.cli.main import app  # before torch, whose threads wait as the command line says
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may have inherited to ignore it
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def noted(owner, name, key):
    original = getattr(owner, name)
    def wrapped(self, *args, **options):
        os.write(log, f"{time.time():.3f} {key(self, *args)}\\n".encode())
        return original(self, *args, **options)
    setattr(owner, name, wrapped)
verb = sys.argv[1]
if verb == "embed":
    from peav.search.library import LibraryWriter
    noted(LibraryWriter, "add", lambda self, row: f"{row.path}@{row.start}")
elif verb == "detect":
    from peav.jobs import Ledger
    noted(Ledger, "add", lambda self, version, fields: version[0])
else:
    from peav.features.prepare import Pending
    noted(Pending, "add", lambda self, clip, data: clip.key)
app()
"""


@dataclass
class Result:
    """Of one verb."""

    verb: str
    kills: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    oldest: float = 0.0  # seconds before a kill at which repeated work had been finished

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.verb}: {self.kills.total()} kills ({kinds}); nothing lost, nothing twice; {self.repeated} "
            f"pieces of work done again, the oldest finished {self.oldest:.1f} s before its kill"
        )


def embedded(out: Path) -> list[str]:
    """Windows on the disk."""
    library = out / "lib.parquet"
    parts = sorted(library.with_name("lib.parquet.parts").glob("*.parquet"))
    # Read at once: a part that the job replaces between two reads of it would be half an old and half a new one.
    whole = [io.BytesIO(path.read_bytes()) for path in ([library] if library.exists() else parts)]
    tables = [pq.read_table(one, columns=["path", "start"]) for one in whole]
    return [f"{row['path']}@{row['start']}" for table in tables for row in table.to_pylist()]


def detected(out: Path) -> list[str]:
    """Files whose events are on the disk."""
    return [line["path"] for line in _lines(out / "detections.jsonl")]


def prepared(out: Path) -> list[str]:
    """Clips whose features are on the disk."""
    keys = [line["name"] for path in sorted(out.glob("shard-*.jsonl")) for line in _lines(path)]
    for path in sorted(out.glob("pending-*.tar")):
        with tarfile.open(path) as tar:
            keys += [key for name in tar.getnames() if (key := name.partition("|")[0]) not in keys]
    return keys


def _lines(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


VERBS: dict[str, Callable[[Path], list[str]]] = {"embed": embedded, "detect": detected, "prepare": prepared}


def make_media(folder: Path, files: int) -> None:
    """Noise of up to a second, with a manifest; one file of many windows."""
    import wave

    folder.mkdir()
    rng = np.random.default_rng(SEED)
    lines = []
    for place in range(files):
        seconds = 40 if place == files // 2 else (1 + place % 4) / 4
        path = folder / f"{place:04d}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((rng.standard_normal(round(16000 * seconds)) * 3000).astype("<i2").tobytes())
        lines.append(json.dumps({"id": path.stem, "audio_path": path.name}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")


def arguments(verb: str, media: Path, out: Path) -> list[str]:
    """The command."""
    if verb == "embed":
        return [verb, str(media), "-o", str(out / "lib.parquet"), "--window", "2"]
    if verb == "detect":
        return [verb, str(media), "--labels", "dog,siren", "-o", str(out)]
    return [verb, str(media / "manifest.jsonl"), "-o", str(out)]


def campaign(verb: str, kills: int, work: Path, per_kill: int = 15) -> Result:
    """Kill one job again and again. Raises AssertionError where something was lost or doubled."""
    result = Result(verb)
    media, out, log = work / "media", work / verb, work / f"{verb}.log"
    if not media.exists():
        make_media(media, per_kill * (kills + 2))
    out.mkdir()

    def kept(out: Path) -> list[str]:
        while True:
            with suppress(FileNotFoundError):  # the job has just put another file in the place of one that was listed
                return VERBS[verb](out)

    command = [sys.executable, "-c", DRIVER, str(log), *arguments(verb, media, out)]
    total = len(list(media.glob("*.wav")))
    last_kill, rng = 0.0, random.Random(SEED)
    for kill in range(kills):
        target = (kill + 0.5) / (kills + 2) * total  # the last ones too have work after them
        before = kept(out)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
            while _files(seen := kept(out)) < max(target, _files(before)) or seen == before:
                if running.poll() is not None:
                    break
                time.sleep(0.2)
            with suppress(subprocess.TimeoutExpired):  # anywhere between two moments at which work is made to last
                running.wait(rng.uniform(0.0, 3.0))
            if running.poll() is not None:  # nothing was in hand: it does not count, and nothing is left to kill
                assert running.returncode == 0, running.communicate()[1]
                break
            signum = SIGNALS[kill % len(SIGNALS)]
            killed = time.time()
            running.send_signal(signum)
            said = running.communicate()[1]
        assert running.returncode in (-signum, 128 + signum), said
        after = kept(out)
        assert len(after) == len(set(after)), f"twice after kill {kill}"
        assert set(seen) <= set(after), f"lost by kill {kill}: {sorted(set(seen) - set(after))}"
        _count_repeats(log, last_kill, killed, result)
        result.kills[signum.name] += 1
        last_kill = killed
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _count_repeats(log, last_kill, time.time(), result)
    final = kept(out)
    assert len(final) == len(set(final))
    assert _files(final) == total, f"{_files(final)} of {total} files at the end"
    return result


def _files(keys: list[str]) -> int:
    return len({key.partition("@")[0] for key in keys})


def _count_repeats(log: Path, kill: float, until: float, result: Result) -> None:
    """Work noted between the last kill and now that had been noted before that kill."""
    noted = [line.split(" ", 1) for line in log.read_text().splitlines()]
    earlier = {key: float(at) for at, key in noted if float(at) <= kill}
    for at, key in noted:
        if kill < float(at) <= until and key in earlier:
            result.repeated += 1
            result.oldest = max(result.oldest, kill - earlier[key])


def main() -> None:
    """Fifty kills of each verb, or as many as are asked for."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    verbs = sys.argv[2:] or list(VERBS)
    work = Path(tempfile.mkdtemp(prefix="peav-kills-"))
    print(f"seed {SEED}, {os.cpu_count()} processors")
    try:
        for verb in verbs:
            result = campaign(verb, kills, work, per_kill=60)
            print(result, flush=True)
            # Here alone: on a machine that stands still for seconds a test of it would fail for nothing.
            assert result.oldest <= ALLOWED, "more was repeated than may be"
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
