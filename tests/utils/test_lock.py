"""One process at a time works in a folder, and its end, however it comes, lets the next one in."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from peav.utils.lock import FolderLock

HOLD = (
    "import sys, time; from pathlib import Path; from peav.utils.lock import FolderLock\n"
    "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
)


def test_another_process_is_refused_until_the_holder_dies(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="held by another process"):
            FolderLock(folder)
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
    FolderLock(folder).release()


def test_another_lock_of_one_process_is_refused_too(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()


def test_who_is_refused_may_be_told_so_in_the_jobs_own_words(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "a"), pytest.raises(RuntimeError, match="wait for it"):
        FolderLock(tmp_path / "a", RuntimeError("wait for it"))
    assert list(tmp_path.iterdir()) == []


def test_any_thread_may_release_it_and_twice_is_once(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    thread = Thread(target=lock.release)
    thread.start()
    thread.join()
    second = FolderLock(tmp_path)
    lock.release()
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path)
    second.release()


def test_release_takes_its_file_away_and_the_folder_where_nothing_else_is_in_it(tmp_path: Path) -> None:
    FolderLock(tmp_path / "empty").release()
    assert not (tmp_path / "empty").exists()
    lock = FolderLock(tmp_path / "full")
    (tmp_path / "full" / "result").write_text("kept")
    lock.release()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["result"]


def test_a_file_in_the_place_of_the_folder_is_an_error_and_no_endless_wait(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(OSError, match="file"):
            FolderLock(folder)


def count(folder: Path, counter: Path, rounds: int) -> None:
    """Add 1 to a number in a file, under the lock: two at once would lose some."""
    for _ in range(rounds):
        while True:
            try:
                lock = FolderLock(folder)
                break
            except BlockingIOError:
                continue
        counter.write_text(str(int(counter.read_text()) + 1))
        lock.release()


@pytest.mark.slow
def test_processes_that_take_and_remove_it_in_turn_never_hold_it_together(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=count, args=(tmp_path / "locked", counter, 60)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert counter.read_text() == "180"


def test_where_the_file_system_has_no_locks_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    first, second = FolderLock(tmp_path / "folder"), FolderLock(tmp_path / "folder")
    first.release()
    second.release()
    assert not (tmp_path / "folder").exists()
