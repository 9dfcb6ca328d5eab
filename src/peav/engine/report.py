"""What a run has made and what it took: shards and journals read partition by partition, in memory that does not grow.

Shards say what was made of the clips that are done, partitions' ends why the others are not, and journals what each
answer took; they are joined by the clips' ids.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peav.data.places import SHARDS
from peav.engine.journal import journal_path
from peav.engine.recipe import EngineRecipe
from peav.engine.run import held
from peav.engine.shards import ENDS
from peav.engine.words import STOP, words
from peav.types import MODALITIES
from peav.utils.jsonl import read_lines

WORST = 10  # clips of a list
MOST_LISTS = 60  # of worst clips
EXAMPLES = 5  # of a kind of failure
OFTEN = 20_000  # things whose counts are kept
WIDEST = 40  # words: longer captions stand in the last bin
UNSCORED, SILENT = "no score", "says nothing"


class Often:
    """Counts of what occurs most often: exact up to 20 000 different things, else at most `missed` too low."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.missed = 0

    def add(self, thing: str) -> None:
        """Count it; what is rare is forgotten once there is too much (the summary of Misra and Gries)."""
        self.counts[thing] += 1
        if len(self.counts) > 2 * OFTEN:
            least = self.counts.most_common(OFTEN)[-1][1]
            self.missed += least
            self.counts = Counter({one: count - least for one, count in self.counts.items() if count > least})

    def top(self, most: int = WORST) -> dict[str, int]:
        """The most frequent ones; of equal ones the first by name."""
        return dict(sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))[:most])


class Lowest:
    """The clips of lowest value, of equal ones those of the lowest ids."""

    def __init__(self, most: int = WORST) -> None:
        self.most = most
        self._found: list[tuple[float, str, str, dict[str, Any]]] = []

    def add(self, value: float, said: str, record: dict[str, Any]) -> None:
        """Consider a clip; `said` is what is shown as its value."""
        self._found.append((value, record["id"], said, record))
        if len(self._found) > 4 * self.most:
            self._cut()

    def clips(self) -> list[tuple[str, dict[str, Any]]]:
        """What is said of each, and its row of the shard, lowest first."""
        self._cut()
        return [(said, record) for _, _, said, record in self._found]

    def _cut(self) -> None:
        self._found.sort(key=lambda one: one[:2])
        del self._found[self.most :]


@dataclass
class Cost:
    """What answers took: of a stage, or of a clip."""

    answers: int = 0
    failed: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def add(self, line: Mapping[str, Any]) -> None:
        """A journal's line; how many requests one took that failed is not known, it counts as one."""
        self.answers += 1
        self.failed += "error" in line
        self.requests += line.get("attempts", 1)
        self.prompt_tokens += line.get("prompt_tokens", 0)
        self.output_tokens += line.get("output_tokens", 0)
        self.seconds += line.get("seconds", 0.0)


@dataclass
class Report:
    """All that a run's page shows.

    Attributes:
        places, recipe, limit: what the run was begun with.
        partitions, unfinished: how many have ended, and how many have only a journal.
        settings: how many partitions ended under each hash of settings; one, unless the recipe has changed since.
        done, fallback: clips captioned, and how many of them by the template since their rewrites were refused.
        filtered, failed: clips by reason, and by `STAGE: ERROR`.
        examples: of each kind of failure, some clips and what the error says.
        written: final captions by `KIND by WHAT`.
        lengths: by kind of caption, how many have so many words.
        confidence: by captioner, how many of its captions have each.
        words: in how many final captions each stands.
        captions: `KIND: TEXT` of final captions, on how many clips each stands.
        duplicates: clips that were left out since they repeat this one.
        costs, prices: by stage; dollars for a million tokens of prompts and of answers.
        sample: clips by the hash of their ids.
        worst: the ten worst clips by check or measure.
    """

    places: list[str]
    recipe: EngineRecipe
    limit: int | None
    partitions: int = 0
    unfinished: int = 0
    settings: Counter[str] = field(default_factory=Counter)
    done: int = 0
    fallback: int = 0
    filtered: Often = field(default_factory=Often)
    failed: Often = field(default_factory=Often)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    written: Often = field(default_factory=Often)
    lengths: dict[str, Counter[int]] = field(default_factory=lambda: {kind: Counter() for kind in MODALITIES})
    confidence: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    words: Often = field(default_factory=Often)
    captions: Often = field(default_factory=Often)
    duplicates: Often = field(default_factory=Often)
    costs: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    prices: dict[str, tuple[float, float]] = field(default_factory=dict)
    sample: Lowest = field(default_factory=Lowest)
    worst: dict[str, Lowest] = field(default_factory=dict)

    def dollars(self, stage: str) -> float:
        """What a stage's tokens cost at the recipe's prices."""
        prompt, output = self.prices.get(stage.removesuffix(" again"), (0.0, 0.0))
        cost = self.costs[stage]
        return (cost.prompt_tokens * prompt + cost.output_tokens * output) / 1e6

    def as_json(self) -> dict[str, Any]:
        """The page's numbers as plain values; clips by their ids."""
        counts = {"partitions": self.partitions, "unfinished": self.unfinished, "done": self.done}
        counts |= {"fallback": self.fallback, "filtered": self.filtered.counts.total()}
        return {
            "places": self.places,
            "recipe": self.recipe.name,
            "limit": self.limit,
            **counts,
            "failed": self.failed.counts.total(),
            "filtered_by": self.filtered.top(OFTEN),
            "failed_by": self.failed.top(OFTEN),
            "written_by": self.written.top(OFTEN),
            "words_per_caption": {kind: dict(sorted(own.items())) for kind, own in self.lengths.items()},
            "confidence": {name: dict(own) for name, own in self.confidence.items()},
            "captions_with_word": self.words.top(),
            "clips_with_caption": self.captions.top(),
            "duplicates_of": self.duplicates.top(),
            "costs": {stage: vars(own) | {"dollars": self.dollars(stage)} for stage, own in self.costs.items()},
            "sample": [record["id"] for _, record in self.sample.clips()],
            "worst": {
                name: [{"id": record["id"], "value": said} for said, record in lowest.clips()]
                for name, lowest in self.worst.items()
            },
        }


def read_report(out: str | Path, clips: int = 12) -> Report:
    """Read a run's folder; `clips` are in the sample.

    Raises:
        EngineError: there is no run.
    """
    out = Path(out)
    places, recipe, limit = held(out)
    report = Report(places, recipe, limit, prices=_prices(recipe), sample=Lowest(clips))
    ends = {path.stem for path in (out / ENDS).glob("*.json")}
    for name in sorted(ends | {path.stem for path in (out / "journal").glob("*.jsonl")}):
        spent: dict[str, Cost] = defaultdict(Cost)
        for line in read_lines(journal_path(out, name)):
            if "key" not in line:
                continue
            report.costs[line["stage"]].add(line)
            spent[line["id"]].add(line)
        if name not in ends:
            report.unfinished += 1
            continue
        _count_ends(report, json.loads((out / ENDS / f"{name}.json").read_text(encoding="utf-8")))
        for record in _records(out / SHARDS / f"{name}.parquet"):
            record["cost"] = spent.get(record["id"], Cost())
            _count(report, record)
    report.worst = dict(sorted(report.worst.items()))
    return report


def _records(shard: Path) -> Iterator[dict[str, Any]]:
    """A shard's rows, without embeddings and hashes among the measures, which nobody reads."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(shard) as file:
        for batch in file.iter_batches(256):
            for record in batch.to_pylist():
                measures = json.loads(record["measures"] or "{}")
                record["agreement"] = measures.get("agreement") or {}
                record["measures"] = {
                    name: value
                    for name, value in measures.items()
                    if isinstance(value, int | float) and not isinstance(value, bool)
                }
                yield record


def finals(record: Mapping[str, Any]) -> dict[str, str]:
    """The final captions of a shard's row, by kind."""
    return {kind: texts[0] for kind in MODALITIES if (texts := record["synthetic"][kind])}


def _count_ends(report: Report, ends: Mapping[str, Any]) -> None:
    """Clips of a partition that are not done."""
    report.partitions += 1
    report.settings[ends["settings"]] += 1
    for end in ends["ends"]:
        if "failed" in end:
            stage, kind, reason = end["failed"]
            report.failed.add(group := f"{stage}: {kind}")
            if group in report.failed.counts and len(examples := report.examples.setdefault(group, [])) < EXAMPLES:
                examples.append((end["id"], reason))
        else:
            why, _, what = end["filtered"].partition(": ")
            report.filtered.add(why)
            if why == "duplicate":
                report.duplicates.add(what.removeprefix("of "))


def _count(report: Report, record: dict[str, Any]) -> None:
    """A clip that is done."""
    captions = finals(record)
    lengths = {kind: words(text) for kind, text in captions.items()}
    report.done += 1
    report.fallback += bool(record["fallback"])
    for kind, text in captions.items():
        report.written.add(f"{kind} by {record[f'{kind}_by']}")
        report.lengths[kind][min(len(lengths[kind]), WIDEST)] += 1
        report.captions.add(f"{kind}: {text}")
        for word in {*lengths[kind]} - STOP:
            report.words.add(word)
    for weak in record["weak"]:
        report.confidence[weak["captioner"]][(weak["confidence"] or UNSCORED) if weak["text"] else SILENT] += 1
    digest = hashlib.sha256(record["id"].encode(errors="surrogatepass")).digest()
    report.sample.add(int.from_bytes(digest[:6]), "", record)
    for name, value, said in _bad(record, max(map(len, lengths.values()), default=0)):
        if name in report.worst or len(report.worst) < MOST_LISTS:
            report.worst.setdefault(name, Lowest()).add(value, said, record)


def _bad(record: Mapping[str, Any], longest: int) -> Iterator[tuple[str, float, str]]:
    """The lists of worst clips that a clip may stand in, with its value and what is shown of it."""
    rejected: list[str] = record.get("rejected") or []
    for reason in rejected:
        check, _, why = reason.partition(": ")
        yield f"refused by {check}", -len(rejected), why
    if record["agreement"]:
        least = min(record["agreement"].values())
        yield "agreement with the clip, against the best weak caption", least, f"{least:+.3f}"
    for weak in record["weak"]:
        if weak["score"] is not None:
            yield f"score of {weak['captioner']}", weak["score"], f"{weak['score']:.3f}"
    for name, value in record["measures"].items():
        yield f"{name}, lowest", value, f"{value:.4g}"
    yield "longest captions", -longest, f"{longest} words"
    cost: Cost = record["cost"]
    if cost.requests > cost.answers:
        yield "most requests", -cost.requests, f"{cost.requests} requests"
    if tokens := cost.prompt_tokens + cost.output_tokens:
        yield "most tokens", -tokens, f"{tokens:,} tokens"


def _prices(recipe: EngineRecipe) -> dict[str, tuple[float, float]]:
    """By stage, the prices that the recipe states."""
    steps = [*recipe.filters, *recipe.captioners, recipe.score, recipe.rewrite, recipe.agreement]
    return {
        str(step.get("name", step["class"])).rpartition(":")[2]: (
            float(step.get("input_price", 0)),
            float(step.get("output_price", 0)),
        )
        for step in steps
        if isinstance(step, Mapping)
    }
