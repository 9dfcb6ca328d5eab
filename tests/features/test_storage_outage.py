"""An outage of storage is never held against the clips: jobs wait for it, or end with one line and go on later."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from noise_tar import clips, sound, tar
from s3_server import Request, S3Server
from typer.testing import CliRunner

from peav.cli.main import app
from peav.data.manifest import Row
from peav.data.webdataset import read_webdataset
from peav.engine.clip import Clip, Sample
from peav.engine.cutting import look_at
from peav.engine.segment import Segmenter
from peav.errors import MediaError, StorageError
from peav.features.decode import Cut, Decoded, decode_each, decode_task
from peav.features.prepare import Prepared, prepare
from peav.features.prepared import read_prepared
from peav.inference.isolation import IsolatedReader
from peav.inference.sources import WindowReader
from peav.media import load_audio
from peav.model import PEAV
from peav.utils.storage import FilePart, write_all

TAR = "s3://clips/outage/clips.tar"
CUT = Cut(num_frames=1, image_size=8, max_seconds=None)


@pytest.fixture
def rows(s3: S3Server) -> list[Row]:
    write_all(TAR, tar(clips(6)))
    return read_webdataset(TAR)


def after(count: int, fault: int | str, seconds: float = 1e9) -> Callable[[Request], int | str | None]:
    """What reads parts of the tar succeeds so many times, and then fails for so many seconds."""
    seen: list[float] = []

    def wrong(request: Request) -> int | str | None:
        if request.verb != "GET" or not request.path.endswith(".tar"):
            return None
        seen.append(time.monotonic())
        return fault if len(seen) > count and seen[-1] - seen[count] < seconds else None

    return wrong


@pytest.fixture(scope="module")
def tiny() -> PEAV:
    from peav.checkpoint import load_model

    model = load_model("tiny").float()
    assert isinstance(model, PEAV)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("fault", [403, 503])
def test_a_moment_of_trouble_costs_no_clip(s3: S3Server, rows: list[Row], fault: int) -> None:
    s3.fault = after(2, fault, seconds=0.8)
    tasks = [decode_task(row.audio_path, row.video_path, None, None, CUT) for row in rows]
    decoded = list(decode_each(tasks, 1.0, 2))
    assert all(isinstance(one, Decoded) for one in decoded)


@pytest.mark.slow
def test_a_clip_is_fetched_once_however_often_it_is_opened(s3: S3Server, rows: list[Row]) -> None:
    s3.reset()
    tasks = [decode_task(row.audio_path, row.audio_path, None, None, CUT) for row in rows]
    assert all(isinstance(one, Decoded) for one in decode_each(tasks, 1.0, 1))
    assert [request.verb for request in s3.requests] == ["GET"] * len(rows)
    s3.reset()
    assert len(list(look_at(rows, Segmenter(silences=True)))) == len(rows) == len(s3.requests)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::peav.errors.StorageWarning")
def test_preparing_ends_with_one_line_and_goes_on_where_it_was(
    s3: S3Server, rows: list[Row], tiny: PEAV, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEAV_STORAGE_SECONDS", "1.5")
    s3.fault = after(3, 503)
    done: list[int] = []
    with pytest.raises(StorageError, match=r"the storage has failed for"):
        prepare(rows, str(tmp_path / "out"), tiny, name="tiny", root=tmp_path, jobs=1, progress=done.append)
    assert not (tmp_path / "out" / "failures.jsonl").exists()
    s3.reset()
    again = prepare(rows, str(tmp_path / "out"), tiny, name="tiny", root=tmp_path, jobs=1)
    assert again == Prepared(6, 6 - len(done), 0)


@pytest.mark.slow
def test_the_command_says_one_line_and_has_an_exit_code_of_its_own(
    s3: S3Server, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEAV_STORAGE_SECONDS", "1.5")
    out = tmp_path / "out"
    s3.fault = after(4, 503)
    command = ["train", "finetune", "--data", TAR, "--set", "tune.parts=[heads]", "--json"]
    changes = {"output": tmp_path / "run", "data.cache": out, "optim.steps": 1, "optim.batch_size": 4}
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(app, [*command, *options])
    (line,) = [line for line in result.stderr.splitlines() if "error" in line]
    assert result.exit_code == 2
    assert line.startswith(f"error: {TAR}: the storage has failed for")
    assert list(tmp_path.rglob("failures.jsonl")) == []


@pytest.mark.slow
def test_no_job_takes_an_outage_for_a_bad_file(s3: S3Server, rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    """What embed, detect and caption read their files by."""
    monkeypatch.setenv("PEAV_STORAGE_SECONDS", "0.5")
    s3.fault = after(0, 503)
    reader = WindowReader("any", 5.0, 48_000, 1920, 8, 1, 10_000)
    parts = [row.audio_path for row in rows]
    with pytest.raises(StorageError), IsolatedReader(reader, parts, workers=1) as items:
        list(items)
    with pytest.raises(StorageError):
        list(reader.read(parts, None))
    with pytest.raises(StorageError):
        list(look_at(rows, Segmenter(silences=True)))
    with pytest.raises(StorageError):
        load_audio(parts[0])


@pytest.mark.slow
def test_a_captioner_that_opens_files_itself_ends_the_run_of_an_outage(rows: list[Row], tmp_path: Path) -> None:
    from peav.engine.ask import Asker
    from peav.engine.captioners.base import Captioner
    from peav.engine.clip import Answer
    from peav.engine.journal import Journal

    class Opens(Captioner):
        needs = frozenset[str]()
        model_name = "one"

        def caption(self, sample: Sample) -> Answer:
            raise StorageError("s3://clips: the storage has failed")

    with Journal(tmp_path / "journal.jsonl") as journal:
        asker = Asker([Opens(name="opens", kind="audio")], journal, tmp_path / "hand")
        with pytest.raises(StorageError):
            list(asker.run([Clip(row.id, row) for row in rows]))
        assert journal.lines == {}


@pytest.mark.parametrize(("code", "content"), [("EIO", False), ("ESTALE", False), ("EMFILE", False), ("EACCES", True)])
def test_a_disk_that_fails_is_no_bad_file_either(
    code: str, content: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def fails(*args: object, **settings: object) -> None:
        raise OSError(getattr(errno, code), "as the system says it")

    path = tmp_path / "a.wav"
    path.write_bytes(sound(0))
    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(MediaError if content else StorageError):
        load_audio(path)
    monkeypatch.setattr(FilePart, "read", fails)
    with pytest.raises(MediaError if content else StorageError):
        load_audio(FilePart(str(path), 0, 10, "a.wav"))


@pytest.mark.slow
def test_damaged_content_is_still_a_bad_clip(s3: S3Server, tiny: PEAV, tmp_path: Path) -> None:
    write_all(TAR, tar(clips(3) | {"bad.wav": b"no sound at all", "bad.txt": b"noise"}))
    rows = read_webdataset(TAR)
    assert prepare(rows, str(tmp_path / "out"), tiny, name="tiny", root=tmp_path) == Prepared(3, 3, 1)
    (line,) = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert (line["path"], line["error"]) == (f"{TAR}/bad.wav", "NotMediaError")
    assert len(read_prepared(str(tmp_path / "out"))) == 3
