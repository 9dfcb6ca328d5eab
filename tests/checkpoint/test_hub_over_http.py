"""The hub over real HTTP: what is downloaded, and each way to fail as one line that says what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import tiny_peaframe
from local_hub import Files, LocalHub, Repo

from peav.checkpoint import load_tokenizer, resolve, save_pretrained
from peav.checkpoint.convert import read_model_id

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """Two frame models in half precision, as files."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), load_tokenizer(resolve("frame-tiny"))
    for seed, name in enumerate(("main", "v1")):
        save_pretrained(tiny_peaframe(seed).bfloat16(), folder / name, tokenizer)
    return {path.name: {file.name: file.read_bytes() for file in path.iterdir()} for path in folder.iterdir()}


@pytest.fixture(scope="module")
def hub(checkpoints: dict[str, Files]) -> Iterator[tuple[LocalHub, str]]:
    main = {"main": checkpoints["main"]}
    gated = {"X-Error-Code": "GatedRepo"}
    hub = LocalHub(
        small=Repo(dict(checkpoints)),
        gated=Repo(main, 403, gated, files_only=True),
        closed=Repo(main, 401, gated),
        private=Repo(main, 401, {"X-Error-Code": "RepoNotFound"}),
        badtoken=Repo(main, 401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
        forbidden=Repo(main, 403),
        busy=Repo(main, 429),
        broken=Repo(main, 500),
        bin=Repo({"main": {"config.json": checkpoints["main"]["config.json"], "pytorch_model.bin": b"\x80"}}),
        drops=Repo(main, halves=1),
        dies=Repo(main, halves=1, then_silent=True),
        portal=Repo(page=b"<html>Please accept our terms</html>"),
    )
    with hub.serving() as address:
        yield hub, address


def environment(address: str, home: Path, offline: bool = False) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name != "HF_TOKEN"}
    return kept | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}


def resolved(address: str, home: Path, *names: str, offline: bool = False) -> dict[str, dict[str, str]]:
    """What became of each name."""
    program = [sys.executable, str(HERE / "hub_worker.py"), str(home / "cache"), *names]
    done = subprocess.run(program, env=environment(address, home, offline), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {result["name"]: result for result in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
def test_from_scratch_pinned_resumed_and_then_offline(
    hub: tuple[LocalHub, str], checkpoints: dict[str, Files], tmp_path: Path
) -> None:
    served, address = hub
    pinned = f"us/small@{served.repos['us/small'].commit('v1')}"
    # A client of huggingface_hub 1.0 may need a second call where a newer one goes on by itself.
    names = ("us/small", "us/small@v1", pinned, "us/drops", "us/drops")
    for offline in (False, True):
        found = resolved(address, tmp_path, *names, offline=offline)
        for name, files in zip(names, ("main", "v1", "v1", "main", "main"), strict=True):
            folder = Path(found[name]["folder"])
            for file in ("config.json", "tokenizer.json", "model.safetensors"):
                assert (folder / file).read_bytes() == checkpoints[files][file], (name, file)
            assert not (folder / "README.md").exists()  # what is not needed stays on the hub
        count = len(served.log)
    assert len(served.log) == count  # offline asks nothing
    assert read_model_id(Path(found["us/small"]["folder"])) != read_model_id(Path(found[pinned]["folder"]))


FAILURES = {
    "us/gated": r"us/gated is gated: accept its conditions at ADDRESS/us/gated, then log in with `hf auth login`",
    "us/closed": r"us/closed is gated: accept its conditions at ADDRESS/us/closed, then log in with `hf auth login`",
    "us/private": r"the hub has no us/private, or it is private: check the name, or log in with `hf auth login`",
    "us/nothing": r"the hub has no us/nothing, or it is private: check the name, or log in with `hf auth login`",
    "us/small@v9": r"us/small has no revision 'v9': use one of main, perception_models, a tag or a commit",
    "us/badtoken": r"us/badtoken at .* the hub does not know your token \(401\): log in again with `hf auth login`",
    "us/forbidden": r"us/forbidden at .* the hub forbids it \(403\): log in with .* a token that may read it",
    "us/busy": r"us/busy at .* too many requests \(429\): wait some minutes, or log in with `hf auth login`",
    "us/broken": r"us/broken at .* the hub answered 500: try again later, or give a local directory",
    "us/bin": r"us/bin at .* has no \.safetensors file: \.bin and \.pt weights are not read, since they can run code.*",
    "us/portal": r"us/portal at .* did not download \(.*\): try again, or give a local directory",
}


@pytest.mark.slow
def test_each_way_to_fail_is_one_line_that_says_what_to_do(hub: tuple[LocalHub, str], tmp_path: Path) -> None:
    found = resolved(hub[1], tmp_path, *FAILURES)
    for name, expected in FAILURES.items():
        assert re.fullmatch(expected.replace("ADDRESS", re.escape(hub[1])), found[name]["error"]), found[name]


@pytest.mark.slow
def test_a_connection_that_breaks_leaves_a_half_that_the_next_call_completes(
    hub: tuple[LocalHub, str], checkpoints: dict[str, Files], tmp_path: Path
) -> None:
    served, address = hub
    error = resolved(address, tmp_path, "us/dies")["us/dies"]["error"]
    assert re.fullmatch(r"us/dies at revision 'main' did not download \(.*\): try again, or .*", error)
    error = resolved(address, tmp_path, "us/dies", offline=True)["us/dies"]["error"]
    assert "connect" in error or "unset HF_HUB_OFFLINE" in error
    served.repos["us/dies"].then_silent = False
    folder = Path(resolved(address, tmp_path, "us/dies")["us/dies"]["folder"])
    assert (folder / "model.safetensors").read_bytes() == checkpoints["main"]["model.safetensors"]


@pytest.mark.slow
def test_the_command_says_the_same_in_one_line(hub: tuple[LocalHub, str], tmp_path: Path) -> None:
    program = [sys.executable, "-m", "peav", "convert", "us/gated", str(tmp_path / "out"), "--to", "peav"]
    done = subprocess.run(program, env=environment(hub[1], tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert (
        line
        == f"error: us/gated is gated: accept its conditions at {hub[1]}/us/gated, then log in with `hf auth login`"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_pushed_is_loaded_again_under_its_name(hub: tuple[LocalHub, str], tmp_path: Path) -> None:
    code = (
        "import peav; model = peav.Detector.load('frame-tiny', device='cpu');"
        "print(model.push_to_hub('us/pushed', private=True));"
        "again = peav.Detector.load('us/pushed', device='cpu', cache_dir='cache');"
        "assert (again.name, again.model_id) == ('us/pushed', model.model_id)"
    )
    settings = environment(hub[1], tmp_path) | {"HF_TOKEN": "hf_token"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub[1]}/us/pushed/commit/{'c' * 40}"
    files = hub[0].repos["us/pushed"].revisions["main"]
    card = files["README.md"].decode()
    assert "\n# us/pushed\n" in card
    assert 'peav.Detector.load("us/pushed")' in card
    assert "**Figures**" in card
    assert files["tokenizer.json"] == (resolve("frame-tiny") / "tokenizer.json").read_bytes()
