"""Object storage by the S3 protocol, against a real server that throttles, stops, restarts and does wrong."""

from __future__ import annotations

import io
import re
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import Request, S3Server
from typer.testing import CliRunner

from peav.cli.main import app
from peav.data.webdataset import read_webdataset
from peav.errors import MediaError, StorageError, StorageWarning
from peav.utils import storage
from peav.utils.remote import BLOCK, ROUND_TRIPS

DATA = bytes(range(256)) * 40
AT = "s3://clips/folder/data.bin"


def first(count: int, fault: int | str) -> Callable[[Request], int | str | None]:
    """A fault of the first requests alone."""
    left = iter(range(count))
    return lambda request: None if next(left, None) is None else fault


@pytest.mark.slow
def test_a_file_is_written_listed_read_in_parts_and_removed(s3: S3Server) -> None:
    folder = "s3://clips/one"
    assert storage.names_in(folder) == []
    path = storage.join(folder, "name with spaces.bin")
    with pytest.raises(FileNotFoundError):
        storage.read_all(path)
    storage.write_all(path, DATA)
    assert storage.sizes_in(folder) == {"name with spaces.bin": len(DATA)}
    assert storage.names_in("s3://clips") == ["one"]
    assert storage.names_in(path) == []
    assert storage.read_all(path) == DATA
    s3.reset()
    assert storage.read_range(path, 300, 40) == DATA[300:340]
    assert storage.read_range(path, len(DATA) - 4, 40) == DATA[-4:]
    assert storage.read_range(path, len(DATA), 40) == storage.read_range(path, 3, 0) == b""
    assert [request.range for request in s3.requests] == ["bytes=300-339", "bytes=10236-10275", "bytes=10240-10279"]
    with storage.open_binary(path) as file:
        assert file.seek(-9, 2) == len(DATA) - 9
        assert file.read() == DATA[-9:]
    assert storage.matching(f"{folder}/name*.bin") == [path]
    assert storage.matching(f"{folder}/x*.bin") == [f"{folder}/x*.bin"]
    storage.remove(path)
    storage.remove(path)
    assert storage.names_in(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [403, 503, "reset", "cut"])
def test_every_call_outlasts_a_moment_of_trouble(s3: S3Server, fault: int | str) -> None:
    storage.write_all(AT, DATA)
    mark = storage.version_mark(AT)
    for call, expected in [
        (lambda: storage.read_range(AT, 5, 9), DATA[5:14]),
        (lambda: storage.read_all(AT), DATA),
        (lambda: storage.version_mark(AT), mark),
        (lambda: storage.names_in("s3://clips/folder"), ["data.bin"]),
        (lambda: storage.matching("s3://clips/folder/d*"), [AT]),
        (lambda: storage.write_all(AT, DATA), None),
        (lambda: storage.remove(f"{AT}.gone"), None),
    ]:
        s3.fault = first(3, fault)
        assert call() == expected
    assert storage.read_all(AT) == DATA


@pytest.mark.slow
def test_a_server_that_stops_and_starts_again_is_waited_for_and_said_once(s3: S3Server) -> None:
    storage.write_all(AT, DATA)
    s3.stop()
    threading.Timer(2.5, lambda: (s3.reset(), s3.start())).start()
    with pytest.warns(
        StorageWarning, match=r"^s3://clips: the storage fails \(.*\); it is tried again for up to"
    ) as told:
        assert storage.read_range(AT, 5, 9) == DATA[5:14]
    assert len(told) == 1


@pytest.mark.slow
def test_storage_that_fails_on_is_one_line_and_no_media_error(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_all(AT, DATA)
    monkeypatch.setenv("PEAV_STORAGE_SECONDS", "1.5")
    s3.fault = lambda request: 500
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"^s3://clips/\S+: the storage has failed for \d s \(.*\); check") as stop:
        storage.read_range(AT, 5, 9)
    assert 1.5 <= time.monotonic() - began < 10
    assert "\n" not in str(stop.value)
    assert not isinstance(stop.value, MediaError)
    began = time.monotonic()  # what was tried in vain is not waited for again
    with pytest.raises(StorageError):
        storage.names_in("s3://clips/folder")
    assert time.monotonic() - began < 1.0
    s3.reset()
    assert storage.read_range(AT, 5, 9) == DATA[5:14]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "environment", "fault", "said"),
    [
        ("s3://clips/gone.tar", {}, None, r"no such tar; check the path"),
        ("s3://nowhere/a.tar", {}, None, r"no such bucket; check the address"),
        ("s3://nowhere/a-*.tar", {}, None, r"no such bucket; check the address"),
        ("s3://Bad!/a.tar", {}, None, r"cannot be used \(.*Invalid bucket name"),
        (
            "s3://clips/a.tar",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            None,
            r"the storage has failed for .*127\.0\.0\.1:9.*AWS_END",
        ),
        ("s3://clips/a.tar", {"AWS_ENDPOINT_URL": "127.0.0.1:9"}, None, r"cannot be used \(Invalid endpoint.*AWS_END"),
        ("s3://clips/a.tar", {"AWS_SECRET_ACCESS_KEY": ""}, None, r"no credentials \(.*set AWS_ACCESS_KEY_ID"),
        ("s3://clips/a.tar", {}, 403, r"access is denied \(Forbidden\); check the credentials"),
        ("s3://clips/a-*.tar", {}, 403, r"access is denied \(AccessDenied\); check the credentials"),
    ],
)
def test_what_is_wrong_with_bucket_endpoint_or_credentials_is_one_line(
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    address: str,
    environment: dict[str, str],
    fault: int | None,
    said: str,
) -> None:
    for name, value in {"PEAV_STORAGE_SECONDS": "0.5", "PEAV_STORAGE_DENIED_SECONDS": "0.5", **environment}.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    s3.fault = lambda request: fault
    result = CliRunner().invoke(app, ["prepare", address, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert re.match(rf"error: {re.escape(address)}: {said}", line)
    assert len(line) < 500


@pytest.mark.slow
def test_as_many_reads_are_in_flight_as_are_asked_for(s3: S3Server) -> None:
    storage.write_all(AT, DATA)
    s3.reset()
    s3.fault = lambda request: 0.5
    with ThreadPoolExecutor(ROUND_TRIPS) as pool:
        parts = list(pool.map(lambda i: storage.read_range(AT, i, 9), range(2 * ROUND_TRIPS)))
    assert parts == [DATA[i : i + 9] for i in range(2 * ROUND_TRIPS)]
    assert s3.most == ROUND_TRIPS


@pytest.mark.slow
def test_a_server_that_ignores_ranges_is_named_and_gives_no_other_bytes(s3: S3Server) -> None:
    storage.write_all(AT, DATA)
    s3.fault = lambda request: "whole"
    for offset, size in [(5, 9), (0, 9), (len(DATA) - 5, 9), (5, len(DATA))]:
        with pytest.raises(StorageError, match=r"gives the whole file where a part is asked for"):
            storage.read_range(AT, offset, size)
    assert storage.read_range(AT, 0, len(DATA)) == storage.read_all(AT) == DATA
    with storage.open_binary(AT) as file:
        assert file.read() == DATA


@pytest.mark.slow
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_a_part_of_a_file_that_was_replaced_is_not_read_from_the_new_one(
    s3: S3Server, tmp_path: Path, place: str
) -> None:
    path = AT if place == "s3" else str(tmp_path / "data.bin")
    storage.write_all(path, DATA)
    mark = storage.version_mark(path)
    part = storage.FilePart(path, 5, 9, "member", version=mark)
    assert part.read() == DATA[5:14]
    storage.write_all(path, DATA[::-1])
    assert storage.version_mark(path) != mark
    with pytest.raises(StorageError, match=r"another file has taken its place since it was first looked at"):
        part.read()
    storage.remove(path)
    with pytest.raises(StorageError, match=r"is gone since it was first looked at"):
        part.read()
    if place == "s3":  # the same content is the same file, whenever it was written
        storage.write_all(path, DATA)
        assert part.read() == DATA[5:14]


@pytest.mark.slow
def test_a_tar_is_read_through_in_blocks_and_by_an_index_not_at_all(s3: S3Server, tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, size in [("a.wav", 9 << 20), ("a.txt", 9), ("b.wav", 9 << 20), ("b.txt", 9)]:
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(b"x" * size))
    storage.write_all(AT.replace("bin", "tar"), file.getvalue())
    s3.reset()
    first = read_webdataset(AT.replace("bin", "tar"), str(tmp_path))
    assert [row.captions["audio"] for row in first] == [["x" * 9]] * 2
    assert s3.sent <= 4 * BLOCK
    s3.reset()
    assert read_webdataset(AT.replace("bin", "tar"), str(tmp_path)) == first
    assert [request.verb for request in s3.requests] == ["HEAD"]
