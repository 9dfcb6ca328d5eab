"""A small form of the campaign of kills, tests/campaigns/caption_kills.py, and rows that kill, raise and hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from runs import line, recipe
from stub import Stub

from peav.engine.clip import Answer, Sample
from peav.engine.run import caption

sys.path.insert(0, str(Path(__file__).parents[1] / "campaigns"))
import caption_kills as kills

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kills.Campaign]:
    work = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(kills.DECODES, str(work / "decodes"))
        yield kills.Campaign(work, 10)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_is_killed_changes_no_byte_of_the_shards(campaign: kills.Campaign, signum: signal.Signals):
    assert campaign.kill_drivers(signum, 1).kills == 1


@pytest.mark.parametrize("stage", kills.STAGES)
def test_a_worker_that_is_killed_changes_no_byte_of_the_shards(campaign: kills.Campaign, stage: str):
    assert campaign.kill_workers(stage, 1).kills == 1


@dataclass
class DiesOnce(Stub):
    """As a process that the system kills for the memory that another one took."""

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        died = Path(self.log).with_name("died")
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


def test_a_clip_alone_in_hand_does_not_fail_for_a_death_that_was_not_its_own(tmp_path: Path):
    (tmp_path / "clips.jsonl").write_text(json.dumps(line(0)) + "\n")
    wanted = recipe(tmp_path / "log", second={"class": f"{__file__}:DiesOnce"})
    summary = caption(str(tmp_path / "clips.jsonl"), tmp_path / "out", wanted, workers=1)
    assert (summary.done, summary.failed) == (1, 0)
    assert (tmp_path / "died").exists()
    assert (tmp_path / "log").read_text().splitlines() == ["first c00", "second c00", "final c00"]


@pytest.mark.parametrize("where", ["local", "ray"])
def test_a_row_that_kills_raises_or_hangs_is_one_line_of_the_failures(where: str, tmp_path: Path):
    if where == "ray":
        pytest.importorskip("ray", reason="pip install 'peav[ray]'")
    media = tmp_path / "media"
    kills.make_media(media, 7)
    lines = [json.loads(line) for line in (media / "manifest.jsonl").read_text().splitlines()]
    for number, name in ((2, "hang"), (4, "crash")):  # see hostile_decoder.py
        lines[number]["audio_path"] = f"{name}.wav"
        (media / f"{number:03d}.wav").rename(media / f"{name}.wav")
    (media / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stubs = Path(__file__).with_name("stub.py")
    hears = {"class": f"{stubs}:Listens", "name": "hears"}
    says = {"class": f"{stubs}:Stub", "name": "says", "die_on": ["001"], "raise_on": ["005"]}
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"name": "poison", "rows": 4, "captioners": [hears, says]}))
    command = ["caption", str(media / "manifest.jsonl"), "-o", str(tmp_path / "out"), "--recipe", str(recipe), "--json"]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    hostile = {"PEAV_WORKER_HOOK": "hostile_decoder:decode", "PEAV_DECODE_IDLE_SECONDS": "6", "PYTHONPATH": paths}
    command += ["--workers", "2", *(["--ray", "local", "--cpus", "0.5"] if where == "ray" else [])]
    command = [sys.executable, "-m", "peav", *command]
    done = subprocess.run(command, env=os.environ | hostile, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert {key: json.loads(done.stdout)[key] for key in ("done", "filtered", "failed")} == {
        "done": 3, "filtered": 0, "failed": 4}  # fmt: skip
    failed = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [(one["id"], one["stage"], one["error"]) for one in failed] == [
        ("001", "says", "WorkerDiedError"),
        ("002", "decode", "DecodingTimeoutError"),
        ("004", "decode", "DecoderCrashError"),
        ("005", "says", "RuntimeError"),
    ]
    assert not list((tmp_path / "out").rglob("*.hand"))
