"""Clips that cannot be read: passed over and listed, until there are so many that something else must be wrong.

Only what media functions say of a file (`MediaError`) counts; any other error is a mistake in a program, and stops it.
"""

from __future__ import annotations

from typing import Any

from peav.data.manifest import Row
from peav.errors import MediaError, PeavError
from peav.jobs import failure

IN_A_ROW = 100
SHARE = 0.05
FEW = 20  # so many may fail of however few: a folder of ten recordings with a bad one is no reason to stop


class TooManyFailures(PeavError):
    """More clips fail than can be chance. `failed`: those so far, with their errors."""

    def __init__(self, message: str, failed: list[tuple[Row, MediaError]]) -> None:
        super().__init__(message)
        self.failed = failed


class Failures:
    """Counts clips that fail among `total`, of which `before` are known to; `failed` has those that are noted here."""

    def __init__(self, total: int, before: int = 0) -> None:
        self.total, self.before, self.in_a_row = total, before, 0
        self.failed: list[tuple[Row, MediaError]] = []

    def note(self, row: Row, error: MediaError | None) -> None:
        """Count a clip; None is a success. Raises TooManyFailures at 100 in a row, or above both 20 and 5 % in all."""
        if error is None:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.failed.append((row, error))
        count = self.before + len(self.failed)
        if self.in_a_row >= IN_A_ROW or count > max(FEW, SHARE * self.total):
            said = f"{self.in_a_row} in a row" if self.in_a_row >= IN_A_ROW else f"{count} of {self.total}"
            raise TooManyFailures(
                f"{said} clips cannot be read, the last being {row.id}: {type(error).__name__}: {error}; "
                "repair them or take them out",
                self.failed,
            )


def clip_failure(row: Row, error: Exception, **more: Any) -> dict[str, Any]:
    """The line of a clip in `failures.jsonl`; where it is in two files, its `path` is that of the sound."""
    return failure(row.audio_path or row.video_path, error, id=row.id, **more)
