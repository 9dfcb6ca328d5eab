"""Where partitions are worked on: in processes of this machine, or by Ray. The commit protocol is the same in both."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from peav.engine.journal import Journal, journal_path
from peav.engine.work import Job, Progress, Task, work
from peav.errors import PeavError
from peav.utils.workers import End, TaskLimits, WorkerFailure, Workers
from peav.utils.workers import Task as ProcessTask

Runner = Callable[[Job, Iterable[Task]], Iterator[Progress | tuple[Task, Exception | None]]]
"""Works on tasks; gives progress as it comes, and each task's end: None, or what stopped it.

A `WorkerFailure` is the death of a process; the task is given to it again.
"""
LIMITS = TaskLimits(float("inf"), float("inf"), 1 << 60)  # models are large and endpoints slow; decoding has its own
DEATHS = 5  # of workers with the same partition in hand but no clip to blame, before the job gives up


class WorkerDiedError(PeavError):
    """A stage took its process with it, on one clip alone."""


def run_all(run: Runner, job: Job, tasks: Iterable[Task]) -> Iterator[Progress]:
    """Work on all tasks. A clip that takes its worker with it fails, and the others of its partition go on.

    Raises:
        PeavError: as of `work`; or workers die for no clip.
    """
    deaths: Counter[str] = Counter()
    while True:
        again: list[Task] = []
        for item in run(job, tasks):
            if isinstance(item, Progress):
                yield item
                continue
            task, error = item
            if isinstance(error, WorkerFailure):
                again.append(_after_death(Path(job.out), task, error, deaths))
            elif error is not None:
                raise error
        if not again:
            return
        tasks = again


def _after_death(out: Path, task: Task, error: WorkerFailure, deaths: Counter[str]) -> Task:
    """The task again: what was in hand one at a time. A clip that was so already has failed.

    So no clip fails for a process that died of something else, be it alone in a batch.
    """
    name = task.partition.name
    path = journal_path(out, name)
    hand = path.with_suffix(".hand")
    try:
        note = json.loads(hand.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        note = {"clips": []}
    hand.unlink(missing_ok=True)
    with Journal(path) as answers:
        blamed = {key: clip for clip, key in note["clips"] if key not in answers.lines}
        for key in blamed.keys() & task.alone:
            said = f"{note['stage']} took its process with it: {error}"
            answers.add(key, blamed[key], note["stage"], WorkerDiedError(said))
    if not blamed:
        deaths[name] += 1
    if deaths[name] >= DEATHS:
        raise PeavError(
            f"partition {name}: its worker died {DEATHS} times with no clip in hand ({error}); "
            "is there memory for the models in every worker? Try fewer, --workers (in Python: workers=1)"
        ) from error
    return replace(task, alone=task.alone | blamed.keys())


def processes(count: int | None) -> Runner:
    """Worker processes of this machine, `count` of them; None: one for each processor. They die with this process."""
    number = count or os.cpu_count() or 1

    def run(job: Job, tasks: Iterable[Task]) -> Iterator[Progress | tuple[Task, Exception | None]]:
        job = replace(job, workers=number)
        open_: dict[int, Task] = {}

        def numbered() -> Iterator[ProcessTask]:
            for place, task in enumerate(tasks):
                open_[place] = task
                yield ProcessTask(task.partition.name, work, (job, task))

        with Workers(numbered(), number, LIMITS) as items:
            for place, item in items:
                yield (open_.pop(place), item.error) if isinstance(item, End) else item

    return run
