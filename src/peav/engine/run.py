"""A run of the engine over a manifest: steps over all partitions, and what is decided between them."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peav.data.places import SHARDS
from peav.engine.decisions import Decisions
from peav.engine.journal import Journal, journal_path
from peav.engine.partition import Partition, listed, partitions
from peav.engine.recipe import EngineRecipe, settings_of
from peav.engine.runner import Runner, processes, run_all
from peav.engine.shards import ENDS, end_path, failures, read_end
from peav.engine.work import STEPS, Job, Progress, Step, steps_of, summary_path
from peav.errors import PeavError
from peav.jobs import GOES_ON, stoppable, write_failures
from peav.recipes.config import from_mapping
from peav.utils.lock import FolderLock
from peav.utils.storage import is_remote, write_all

RUN = "run.json"


@dataclass
class Summary:
    """How the clips of a run ended, and by stage how many were asked about now and how many answers were known."""

    done: int = 0
    filtered: int = 0
    failed: int = 0
    partitions: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return vars(self) | {"asked": dict(self.asked), "known": dict(self.known)}


class EngineError(PeavError):
    """A run cannot be done as asked; the message says what to change."""


def caption(
    places: str | Sequence[str],
    out: str | Path,
    recipe: EngineRecipe,
    *,
    limit: int | None = None,
    workers: int | None = None,
    runner: Runner | None = None,
    progress: Callable[[Step, Progress, int], None] = lambda step, done, total: None,
) -> Summary:
    """Caption the clips of manifests or folders; called again, it goes on where it was stopped.

    Args:
        places: a manifest, tars, a folder of recordings, or any folder of media; or several of these.
        out: the run's folder; `out/shards/*.parquet` are manifests, and `out` is a place for `peav train`.
        limit: the first rows alone.
        workers: processes; None: one for each processor.
        runner: None: processes of this machine; else such as `with ray_runner.on_ray(...) as runner` gives.
        progress: told of each batch of clips, and how many rows the step has to do now.

    Raises:
        EngineError: another process works in `out`, or it was begun with partitions of another size.
        ManifestError, RecipeError: of `places` and `recipe`.
        StopAsking: a stage cannot go on, such as for a budget that is spent.
        Stopped: Ctrl-C or SIGTERM.
    """
    out = Path(out)
    gc.freeze()  # as in `work`
    with _lock(out):
        _claim(out, listed(places), recipe, limit)
        summary, settings = Summary(), settings_of(recipe)
        with stoppable(lambda: f"{sum(summary.asked.values())} answers of this run are kept in {out}; {GOES_ON}"):
            decisions = Decisions(out, recipe)
            run = runner or processes(workers)
            every, total = [], 0  # what the manifest is given after this is for the next run
            for partition in partitions(places, recipe.rows, limit):
                every.append(partition.without_rows())
                total += len(partition.rows)
            for step in steps_of(recipe):
                job = Job(str(out.absolute()), recipe.text(), settings, step)
                todo = {one.number for one in every if not _finished(out, one, step, settings)}
                rows = (one for one in partitions(places, recipe.rows, total) if one.number in todo) if todo else ()
                ahead = sum(min(recipe.rows, total - recipe.rows * number) for number in todo)
                for done in run_all(run, job, (decisions.task(step, partition) for partition in rows)):
                    summary.asked.update(done.asked)
                    summary.known.update(done.known)
                    progress(step, done, ahead)
                decisions.after(step, every)
            _finish(out, every, summary)
    return summary


def retry(out: str | Path) -> int:
    """Have the clips that failed in a run asked about again by the next `caption`; how many these are.

    Raises EngineError: a process works in `out`.
    """
    out, count = Path(out), 0
    with _lock(out):
        for path in sorted((out / ENDS).glob("*.json")):
            failed = sum("failed" in end for end in json.loads(path.read_text(encoding="utf-8"))["ends"])
            if failed:
                Journal(journal_path(out, path.stem)).forget_failures()
                path.unlink()
                for step in STEPS[:-1]:
                    (out / "summaries" / step / path.name).unlink(missing_ok=True)
                count += failed
    return count


def held(out: str | Path) -> tuple[list[str], EngineRecipe, int | None]:
    """What a run was begun with: its clips, its recipe and their limit. Raises EngineError: there is no run."""
    path = Path(out) / RUN
    if not path.is_file():
        raise EngineError(f"{out}: holds no run of peav caption; give the folder that it wrote to")
    said = json.loads(path.read_text(encoding="utf-8"))
    return said["places"], from_mapping(EngineRecipe, said["recipe"]), said["limit"]


def _lock(out: Path) -> FolderLock:
    busy = EngineError(f"{out}: another peav caption is writing here; wait for it, or give another folder")
    return FolderLock(out / "lock.run", busy)


def _claim(out: Path, places: list[str], recipe: EngineRecipe, limit: int | None) -> None:
    """Note what a folder holds; partitions of another size would mix two runs."""
    absolute = [place if is_remote(place) else str(Path(place).absolute()) for place in places]
    said = {"places": absolute, "limit": limit, "recipe": json.loads(recipe.text())}
    path = out / RUN
    if path.exists():
        rows = json.loads(path.read_text(encoding="utf-8"))["recipe"]["rows"]
        if rows != recipe.rows:
            raise EngineError(f"{out}: holds partitions of {rows} rows, not of {recipe.rows}; give `rows: {rows}`")
    write_all(path, json.dumps(said, indent=1, ensure_ascii=False) + "\n")


def _finished(out: Path, partition: Partition, step: Step, settings: str) -> bool:
    """Whether a step has nothing to do with a partition."""
    if step == "write":
        return read_end(out, partition, settings) is not None
    try:
        said = json.loads(summary_path(out, partition, step).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool((said["key"], said["settings"]) == (partition.key, settings))


def _finish(out: Path, every: Iterable[Partition], summary: Summary) -> None:
    """Count how all clips ended, list those that failed, and remove what a larger manifest has left."""
    counts: Counter[str] = Counter()

    def lines() -> Iterator[dict[str, Any]]:
        for partition in every:
            end = json.loads(end_path(out, partition).read_text(encoding="utf-8"))
            counts.update(end["counts"])
            summary.partitions += 1
            yield from failures(end)

    write_failures(out / "failures.jsonl", lines())
    for path in [*(out / SHARDS).glob("*.parquet"), *(out / ENDS).glob("*.json")]:
        if int(path.stem) >= summary.partitions:
            path.unlink()
    summary.done, summary.filtered, summary.failed = counts["done"], counts["filtered"], counts["failed"]
