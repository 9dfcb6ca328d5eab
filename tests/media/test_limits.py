"""A small file that asks for gigabytes or years is a typed error at once; what real files ask for is given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from media.giants import giants, sparse
from media.make import pictures, tone, write_audio, write_video

from peav.media import DamagedMediaWarning, LimitError, Limits, load_audio, load_frames, probe

# Memory is the peak of a process of its own. VmHWM, as ru_maxrss counts what the parent held when it forked.
USE = """
import json, sys, time, warnings
from peav.media import MediaError, iter_audio, iter_frames, probe
warnings.simplefilter("ignore")
windows, error, began = 0, None, time.process_time()
try:
    info = probe(sys.argv[1])
    windows += info.has_audio and sum(1 for _ in iter_audio(sys.argv[1]))
    windows += info.has_video and sum(1 for _ in iter_frames(sys.argv[1], num_frames=16))
except MediaError as caught:
    error = type(caught).__name__
held = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"error": error, "windows": windows, "mb": held, "seconds": time.process_time() - began}))
"""


def use(path: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", USE, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("name", ["flac1hz_64k.flac", "tb_video.mkv", "gif16k.gif"])
def test_the_reported_files_are_refused_at_once(name: str, shared: Path) -> None:
    result = use(shared / "cases" / name)
    assert result["error"] == "LimitError"
    assert result["mb"] < 200
    assert result["seconds"] < 1


@pytest.mark.slow
def test_every_giant_is_refused_at_once(tmp_path: Path) -> None:
    results = {name: use(path) for name, path in giants(tmp_path).items()}
    assert {name for name, result in results.items() if result["error"] is None} == set()
    assert {name: result for name, result in results.items() if result["mb"] > 200 or result["seconds"] > 2} == {}
    stated = {name for name, result in results.items() if result["error"] == "LimitError"}
    # The others FFmpeg itself takes for damaged: what they hold is too little for what they say.
    assert {name for name in results if name.startswith(("rate_1", "rate_2", "weeks", "header"))} <= stated
    assert {"screen.gif", "still.webp"} <= stated


@pytest.mark.slow
def test_what_real_files_ask_for_is_given(tmp_path: Path) -> None:
    slides = write_video(tmp_path / "slides.mp4", pictures(5), times=[0.0, 1.0, 700.0, 1800.0, 3000.0])
    assert probe(slides).duration > 3000
    assert len(load_frames(slides)) == 5
    pauses = sparse(tmp_path / "sparse.mka", [0.0, 1500.0, 3000.0])
    with pytest.warns(DamagedMediaWarning, match="are missing at"):
        assert len(load_audio(pauses)) == pytest.approx(3000 * 48000, rel=1e-3)
    lowest = write_audio(tmp_path / "lowest.wav", tone(2.0, 100), 100)
    assert len(load_audio(lowest)) == 2 * 48000


def test_a_limit_is_set_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", pictures(3, 48, 64), sound=tone(0.2))
    picture = tmp_path / "a.gif"
    write_video(picture, pictures(3, 48, 64), codec="gif", pixel_format="rgb8")
    monkeypatch.setenv("PEAV_MEDIA_PIXELS", "3071")
    with pytest.raises(LimitError, match=r"a\.mp4: frames of 64x48 are more than 3,071 pixels.*set PEAV_MEDIA_PIXELS"):
        load_frames(path)
    with pytest.raises(LimitError, match=r"a\.gif: its frames are more than 3,071 pixels.*set PEAV_MEDIA_PIXELS"):
        load_frames(picture)
    assert len(load_audio(path)) > 0
    monkeypatch.setenv("PEAV_MEDIA_PIXELS", "3072")
    assert len(load_frames(path)) == len(load_frames(picture)) == 3
    monkeypatch.setenv("PEAV_MEDIA_LOWEST_RATE", "50000")
    with pytest.raises(LimitError, match="48000 Hz"):
        load_audio(path)
    assert Limits.from_environment() == Limits(pixels=3072, lowest_rate=50000)


@pytest.mark.parametrize("wrong", ["", "many", "0", "-1", "nan", "1e3"])
def test_a_senseless_limit_is_an_error_that_names_it(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAV_MEDIA_PIXELS", wrong)
    with pytest.raises(ValueError, match=r"PEAV_MEDIA_PIXELS=.*give a positive int"):
        Limits.from_environment()
