"""Object storage by the S3 protocol, against a real server that throttles, stops, restarts and does wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from s3_server import Request, S3Server

from peav.errors import MediaError, StorageError, StorageWarning
from peav.utils import storage

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
