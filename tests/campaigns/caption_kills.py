"""`peav caption`, its driver or its workers killed at random moments: the shards are those of a run left in peace.

./run long caption_kills [MOMENTS] [local|ray]      moments of each kind, 10 by default; both where Ray is installed

A driver is killed by KILL, TERM and INT, again and again in one job; a worker by KILL in each of its stages. Models are
stubs that say the same of the same clip. After the job has come to its end, its shards have the bytes of a run that
nobody killed; what was asked again is at most what was in hand; nothing is left over, neither files nor processes; and
one more run asks and decodes nothing.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from peav.engine import work
from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.engine.stage import OUTSIDE, Stage

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STAGES = ("segment", "filter", "captioner", "score", "rewrite", "write")
ASKED = STAGES[1:-1]
ROWS, WORKERS, BATCH = 4, 2, 4
SEED = 7
DECODES = "PEAV_KILLS_DECODES"  # the file in which each decoded one is noted
HOOK = {"PEAV_WORKER_HOOK": "caption_kills:decoding", "PYTHONPATH": os.pathsep.join(sys.path)}
HERE = Path(__file__).resolve()
DRIVER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may have inherited to ignore it
from peav.cli.main import app
app()
"""


# What runs in the workers.


@dataclass
class Stub(Stage):
    """Notes each clip that it is asked about, takes its time, and says something that is a function of the clip."""

    log: str = field(default="", metadata=OUTSIDE)
    seconds: float = field(default=0.02, metadata=OUTSIDE)
    batch_size: ClassVar[int] = BATCH

    def __post_init__(self) -> None:
        global noted_in
        noted_in = self.log

    def request(self, clip: Clip) -> Any:
        return {"id": clip.id}

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        for place, sample in enumerate(batch):
            note(self.name, sample.clip.id)
            time.sleep(self.seconds)
            yield place, Answer(self.said(sample))

    def said(self, sample: Sample) -> Any:
        return f"{self.name} of {sample.clip.id}"


class Filter(Stub):
    """Leaves out every seventh clip."""

    def apply(self, clip: Clip, value: Any) -> None:
        clip.filtered = "a seventh" if int(clip.id) % 7 == 3 else None


class Captioner(Stub):
    """Hears the clip."""

    needs: ClassVar[frozenset[str]] = frozenset({"audio"})

    def said(self, sample: Sample) -> Any:
        assert sample.media is not None
        assert sample.media.waveform is not None
        return f"a sound of {float(np.abs(sample.media.waveform).sum()):.3f} in {sample.clip.id}"

    def apply(self, clip: Clip, value: Any) -> None:
        clip.weak[self.name] = WeakCaption(value, "audio", "stub 1")


class Score(Stub):
    """Scores each weak caption, so that there are confidences."""

    def said(self, sample: Sample) -> Any:
        return int(sample.clip.id) / 1000

    def apply(self, clip: Clip, value: Any) -> None:
        clip.weak = {name: replace(weak, score=value) for name, weak in clip.weak.items()}


class Rewrite(Stub):
    """Its question depends on what the run as a whole has decided."""

    def request(self, clip: Clip) -> Any:
        return [[weak.text, weak.confidence] for weak in clip.weak.values()]

    def said(self, sample: Sample) -> Any:
        return json.dumps(self.request(sample.clip))

    def apply(self, clip: Clip, value: Any) -> None:
        clip.captions["audio"] = value


noted_in = ""


def note(stage: str, what: str) -> None:
    """Add a line to the log: process, stage, clip."""
    file = os.open(noted_in, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{os.getpid()} {stage} {what}\n".encode())
    os.close(file)


def decoding(label: str) -> None:
    """Note a file that is decoded; called in each worker for each of its tasks."""
    if "/" in label:
        with open(os.environ[DECODES], "a") as file:
            file.write(f"{os.getpid()} decode {label}\n")


def _noted(stage: str, name: str, partition: int) -> None:
    original = getattr(work, name)

    def wrapped(*args: Any) -> Any:
        note(stage, args[partition].name)
        time.sleep(0.02)
        return original(*args)

    setattr(work, name, wrapped)


if __name__.startswith("peav_plugin"):  # a recipe's file: this is a worker, or the driver
    _noted("segment", "clips_of", 0)
    _noted("write", "write_shard", 1)


# What watches and kills.


@dataclass
class Result:
    """Of one kind of kill."""

    kind: str
    where: str
    kills: int = 0
    repeated: int = 0
    allowed: int = 0

    def __str__(self) -> str:
        return f"| {self.kind} | {self.where} | {self.kills} | {self.repeated} (at most {self.allowed}) | equal | 0 |"


HEAD = "| killed | where | kills | calls repeated | shards | calls of one more run |\n|---|---|---|---|---|---|"


class Campaign:
    """A manifest, and the run of it that nobody kills.

    Args:
        work: a folder.
        clips: how many.
        ray: the address of a cluster, None: processes of this machine.
    """

    def __init__(self, work: Path, clips: int, ray: str | None = None) -> None:
        self.work, self.ray, self.rng = work, ray, random.Random(SEED)
        self.decodes = Path(os.environ.setdefault(DECODES, str(work / "decodes")))
        self.manifest = work / "media" / "manifest.jsonl"
        if not self.manifest.exists():
            make_media(work / "media", clips)
        self.peace = work / f"{self.where}-peace"
        self.run(self.peace.name)
        self.reference = _lines(self.log(self.peace.name))

    @property
    def where(self) -> str:
        return "locally" if self.ray is None else "Ray"

    def start(self, name: str) -> subprocess.Popen[str]:
        """The command, at work."""
        log = str(self.log(name))
        steps = {one: {"class": f"{HERE}:{one.title()}", "name": one, "log": log} for one in ASKED}
        recipe = self.work / f"{name}.yaml"
        recipe.write_text(yaml.safe_dump({
            "name": "kills", "rows": ROWS, "segment": {"silences": True}, "filters": [steps["filter"]],
            "captioners": [steps["captioner"]], "score": steps["score"], "rewrite": steps["rewrite"]}))  # fmt: skip
        where = ["--workers", str(WORKERS)] + ([] if self.ray is None else ["--ray", self.ray, "--cpus", "0.5"])
        command = ["caption", str(self.manifest), "-o", str(self.work / name), "--recipe", str(recipe), "--json"]
        paths = os.pathsep.join([str(HERE.parent), *sys.path])
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, *command, *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | HOOK | {"PYTHONPATH": paths},
        )  # fmt: skip

    def run(self, name: str) -> tuple[dict[str, Any], list[str]]:
        """The command to its end; what it says, and what was noted meanwhile."""
        places = (self.log(name), self.decodes)
        before = [len(_lines(place)) for place in places]
        with self.start(name) as running:
            said, wrong = running.communicate()
        assert running.returncode == 0, wrong
        return json.loads(said), [line for place, at in zip(places, before, strict=True) for line in _lines(place)[at:]]

    def log(self, name: str) -> Path:
        """Of a job."""
        return self.work / f"{name}.log"

    def kill_drivers(self, signum: signal.Signals, moments: int) -> Result:
        """Kill the driver of one job again and again."""
        name = f"{self.where}-{signum.name}"
        result = Result(f"driver, {signum.name}", self.where, allowed=moments * WORKERS * BATCH)
        log = self.log(name)
        for target in sorted(self.rng.sample(range(len(self.reference) - 1), moments)):
            before = len(_lines(log))
            with self.start(name) as running:
                while len(_lines(log)) <= max(target, before) and running.poll() is None:
                    time.sleep(0.01)
                with suppress(subprocess.TimeoutExpired):
                    running.wait(self.rng.uniform(0, 0.1))
                if running.poll() is not None:
                    assert running.returncode == 0, running.communicate()[1]
                    break
                running.send_signal(signum)
                said = running.communicate()
            assert running.returncode in (-signum, 128 + signum), said
            result.kills += 1
            self.nobody_left(name)
        self.run(name)
        return self.check(name, result)

    def kill_workers(self, stage: str, moments: int) -> Result:
        """Kill workers of one job, each in the midst of a stage."""
        name = f"{self.where}-{stage}"
        result = Result(f"worker, {stage}", self.where, allowed=moments * BATCH)
        own = sum(line.split()[1] == stage for line in self.reference)
        wide = own / moments
        targets = [int((number + self.rng.random() / 2) * wide) for number in range(moments)]
        died: set[str] = set()
        with self.start(name) as running:
            while targets and running.poll() is None:
                found = [line for line in _lines(self.log(name)) if line.split()[1] == stage]
                if len(found) > targets[0]:
                    time.sleep(self.rng.uniform(0, 0.02))
                    if self._kill(name, int(found[-1].split()[0]), died):
                        result.kills += 1
                        targets.pop(0)
                time.sleep(0.002)
            _, wrong = running.communicate()
        assert running.returncode == 0, wrong
        return self.check(name, result)

    def _kill(self, name: str, worker: int, died: set[str]) -> bool:
        """Kill a worker, but not while a clip is in hand that was there when another died (`died`, added to): a clip
        that is there twice when a process dies is to blame, and fails.
        """
        hand = set()
        for path in (self.work / name / "journal").glob("*.hand"):
            with suppress(OSError, ValueError):  # gone, or half written
                hand |= {clip for clip, _ in json.loads(path.read_text())["clips"]}
        if hand & died:
            return False
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            died |= hand
            return True
        return False

    def check(self, name: str, result: Result) -> Result:
        """Raise AssertionError where something of the job is not as in the one that nobody killed."""
        out = self.work / name
        assert shards(out) == shards(self.peace), f"{result.kind}: other shards"
        assert names(out) == names(self.peace), f"{result.kind}: left over: {names(out) ^ names(self.peace)}"
        asked = Counter(line.partition(" ")[2] for line in _lines(self.log(name)) if line.split()[1] in ASKED)
        result.repeated = asked.total() - len(asked)
        assert result.repeated <= result.allowed, f"{result.kind}: {asked.most_common(5)}"
        self.nobody_left(name)
        for again in range(2):
            said, noted = self.run(name)
            asking = [line for line in noted if line.split()[1] in (*ASKED, "decode")]
            assert not asking, asking
            assert said["asked"] == {}
            assert shards(out) == shards(self.peace)
            if not again:
                shutil.rmtree(out / "partitions")  # then the shards are written once more, from the journals alone
        return result

    def nobody_left(self, name: str) -> None:
        """Wait for the end of all that worked for a driver that is gone. Raises AssertionError: one does not end."""
        workers = {int(line.split()[0]) for line in _lines(self.log(name)) + _lines(self.decodes)}
        deadline = time.monotonic() + 30
        while alive := sorted(pid for pid in workers if _works(pid)):
            assert time.monotonic() < deadline, f"processes {alive} outlive their driver"
            time.sleep(0.05)


def _works(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def names(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*")}


def make_media(folder: Path, clips: int) -> None:
    """Noise of a fifth of a second, with a manifest."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    lines = []
    for place in range(clips):
        with wave.open(str(folder / f"{place:03d}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((rng.standard_normal(3200) * 3000).astype("<i2").tobytes())
        lines.append(json.dumps({"id": f"{place:03d}", "audio_path": f"{place:03d}.wav"}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")


@contextmanager
def cluster() -> Iterator[str]:
    """A Ray of our own, that outlives the drivers."""
    import ray

    paths = os.pathsep.join([str(HERE.parent), *sys.path])
    os.environ.update(HOOK | {"PYTHONPATH": paths})
    context = ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        yield context.address_info["address"]
    finally:
        ray.shutdown()


def results(work: Path, moments: int, where: str) -> Iterable[Result]:
    """All kinds of kills, one after the other."""
    os.environ[DECODES] = str(work / "decodes")
    if where == "ray":
        with cluster() as address:
            yield from _all(Campaign(work, 6 * moments, address), moments)
    else:
        yield from _all(Campaign(work, 6 * moments), moments)


def _all(campaign: Campaign, moments: int) -> Iterable[Result]:
    for signum in SIGNALS:
        yield campaign.kill_drivers(signum, moments)
    for stage in STAGES:
        yield campaign.kill_workers(stage, moments)


def main() -> None:
    """Ten moments of each kind, or as many as are asked for."""
    from importlib.util import find_spec

    moments = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    places = sys.argv[2:] or ["local", *(["ray"] if find_spec("ray") else [])]
    work = Path(tempfile.mkdtemp(prefix="peav-caption-kills-"))
    print(f"seed {SEED}, {os.cpu_count()} processors, {6 * moments} clips\n{HEAD}")
    try:
        for where in places:
            for result in results(work, moments, where):
                print(result, flush=True)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
