"""What is on disk and what is in object storage read alike, whatever a file is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peav.errors import StorageError
from peav.utils import storage


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "in") if request.param == "disk" else f"memory://{tmp_path.name}/in"


@pytest.mark.parametrize("name", ["plain.bin", "name with spaces.bin", "~tilde.bin"])
def test_a_file_is_written_listed_read_and_removed(folder: str, name: str) -> None:
    path = storage.join(folder, name)
    assert storage.names_in(folder) == []
    with pytest.raises(FileNotFoundError):
        storage.read_all(path)
    storage.write_all(path, b"0123456789")
    assert storage.names_in(folder) == [name]
    assert storage.read_all(path) == b"0123456789"
    assert storage.read_range(path, 3, 4) == b"3456"
    assert storage.read_range(path, 8, 4) == b"89"
    with storage.open_binary(path) as file:
        file.seek(9)
        assert file.read() == b"9"
    assert storage.version_mark(path).startswith("10 ")
    storage.remove(path)
    storage.remove(path)
    assert storage.names_in(folder) == []


def test_local_names_that_look_like_addresses_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~", "file:a", "zip::b", b"\xff.bin".decode(errors="surrogateescape")):
        storage.write_all(name, b"data")
        assert storage.read_all(name) == b"data"
        assert (tmp_path / name).read_bytes() == b"data"
        storage.remove(name)
    assert storage.names_in(".") == []


def test_a_file_that_takes_another_ones_place_is_told_from_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = storage.version_mark(str(path))
    path.write_bytes(b"two")
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))  # a nanosecond later
    assert storage.version_mark(str(path)) != first


def test_an_address_of_no_known_kind_says_what_to_install() -> None:
    with pytest.raises(StorageError, match="pip install"):
        storage.read_all("nowhere://bucket/file")
