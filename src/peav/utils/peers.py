"""Whether the other processes of a run are still there: each gives signs of life, and where one ends, all do.

A collective of torch waits until its time-out for a process that is gone, and says what socket closed. Here every
process counts up a number in the store that torchrun (or process 0) keeps, looks whether the next one's number moves,
and reads what ended the run, which whoever sees it first writes there.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress

from torch.distributed import Store

from peav.errors import PeavError, TrainingError

BEAT = 2.0  # seconds between two signs of life
SILENCE = 15  # of the next one's beats missed in a row, and it is taken for gone
GRACE = 10.0  # seconds in which this process may end by itself, once the run has
JOINING = 60.0  # seconds that the first process waits for the last
POLL = 0.2
GOES_ON = "start all of them again with --resume (in Python: resume=True): the run goes on from its last checkpoint"
STOPPED = "was stopped"
STORE_GONE = f"the store of the run's processes does not answer: torchrun is gone, or its machine; {GOES_ON}"


class Peers:
    """The processes of a run, seen from number `rank`; it looks after them in a thread until `leave`.

    Args:
        store: of this run alone, for the calls of the main thread.
        watched: the same by a connection of its own: calls of one wait for each other.
    """

    def __init__(self, store: Store, watched: Store, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self._store, self._watched = store, watched
        self._meetings = self._answers = 0
        self._reason: str | None = None
        self._left = threading.Event()
        self._store.add(f"beat/{rank}", 1)
        self._store.set(f"host/{rank}", socket.gethostname())
        for work in (self._beat, self._watch):
            threading.Thread(target=work, name="peers", daemon=True).start()

    def join(self) -> None:
        """Return when all are there. Raises TrainingError where some do not come within a minute, or one has failed."""
        until = time.monotonic() + JOINING
        while missing := [rank for rank in range(self.world_size) if not self._store.check([f"host/{rank}"])]:
            if time.monotonic() > until:
                who = ", ".join(map(str, missing))
                raise TrainingError(
                    f"of {self.world_size} processes {who} did not come within {JOINING:.0f} s: look at what they "
                    "say, and start all with the same command"
                )
            self._pause()

    def meet(self) -> None:
        """Return when all have come here, however long that takes. Raises TrainingError where one has failed."""
        self._meetings += 1
        key = f"met/{self._meetings}"
        self._store.add(key, 1)
        while self._store.add(key, 0) < self.world_size:
            self._pause()

    def cause(self, error: BaseException) -> str | None:
        """Why the run ends, where it is another process's doing that there is an error here; else all are told of it.

        An error may be of a connection that broke: it takes seconds until it shows that the other one is gone.
        """
        own = isinstance(error, PeavError | KeyboardInterrupt)
        try:
            known = said(self._store) if own else self._gone()
            if known is None:
                tell(self._store, end_of(self.rank, error))
        except RuntimeError:
            return None if own else STORE_GONE
        if known is None or isinstance(error, PeavError):
            return None
        # All may have been stopped at once; or torchrun has stopped this one, since another has failed.
        return None if own and known.endswith(STOPPED) else known

    def leave(self) -> None:
        """End the watch; the others do not miss this process."""
        with suppress(RuntimeError):  # whoever keeps the store may be gone
            self._store.set(f"left/{self.rank}", "")
        self._left.set()

    def _gone(self) -> str | None:
        """What ended the run within three beats, be it that a process has given no sign of life."""
        before, until = self._beats(), time.monotonic() + 3 * BEAT
        while (known := said(self._store)) is None and time.monotonic() < until:
            # torchrun stops the others once it sees one dead; what happened is worth more.
            with suppress(KeyboardInterrupt):
                time.sleep(POLL)
        if known is None:
            still = [rank for rank, beat in enumerate(self._beats()) if beat == before[rank] and rank != self.rank]
            if still:
                tell(self._store, self._lost(still[0]))
            known = said(self._store)
        return known

    def _pause(self) -> None:
        if (known := said(self._store)) is not None:
            raise TrainingError(known)
        time.sleep(POLL)

    def _watch(self) -> None:
        """End this process where the run has ended and it does not end by itself."""
        quiet, last = 0, 0
        while self._reason is None and not self._left.wait(BEAT):
            quiet, last = (quiet + 1, last) if self._answers == last else (0, self._answers)
            if quiet >= SILENCE:
                self._reason = STORE_GONE
        if not self._left.wait(GRACE):  # the main thread waits in a call of torch's for what does not come
            os.write(2, f"error: {self._reason}\n".encode())
            os._exit(1)

    def _beat(self) -> None:
        """Give signs of life and look for those of the next one, in a thread of its own: a call waits for ever where
        the machine of the store stands still.
        """
        missed, last, following = 0, 0, (self.rank + 1) % self.world_size
        try:
            while self._reason is None and not self._left.wait(BEAT):
                own = self._watched.add(f"beat/{self.rank}", 1)
                left = self._watched.check([f"left/{following}"])
                beat = own if left else self._watched.add(f"beat/{following}", 0)
                # Beats of our own and no clock: a machine that slept has missed nobody. Who has no beat is to come yet.
                missed, last = (missed + 1, last) if beat == last > 0 else (0, beat)
                if missed >= SILENCE:
                    tell(self._watched, self._lost(following))
                self._answers, self._reason = own, said(self._watched)
        except RuntimeError:
            self._reason = STORE_GONE

    def _beats(self) -> list[bytes]:
        return self._store.multi_get([f"beat/{rank}" for rank in range(self.world_size)])

    def _lost(self, rank: int) -> str:
        return f"process {self._name(rank)} is gone: it was killed, or its machine stands still; {GOES_ON}"

    def _name(self, rank: int) -> str:
        host = f"host/{rank}"
        return f"{rank} on {self._watched.get(host).decode()}" if self._watched.check([host]) else str(rank)


def tell(store: Store, reason: str) -> None:
    """Write why a run ends, unless that is known."""
    store.compare_set("failed", "", reason)


def end_of(rank: int, error: BaseException) -> str:
    """What to tell the others of an error in this process, number `rank`."""
    who = f"process {rank} on {socket.gethostname()}"
    if isinstance(error, KeyboardInterrupt):
        return f"{who} {STOPPED}"
    return f"{who} ended: {error if isinstance(error, PeavError) else f'{type(error).__name__} {error}'}"


def said(store: Store) -> str | None:
    """Why a run ends; None where nothing has ended it."""
    return store.get("failed").decode() if store.check(["failed"]) else None
