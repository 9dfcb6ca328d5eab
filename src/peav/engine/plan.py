"""What a run will take, without asking a model or decoding: calls, tokens, hours, money and storage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from peav.data.places import SHARDS
from peav.engine.ask import answer_key, apply_line, decode_key, work_out
from peav.engine.captioners.asr import Asr
from peav.engine.captioners.base import STREAMS, Captioner
from peav.engine.clip import Answer, Clip, WeakCaption
from peav.engine.cutting import clips_of
from peav.engine.decisions import Decisions
from peav.engine.endpoint import Endpoint
from peav.engine.filters import Filter
from peav.engine.journal import Journal, journal_path
from peav.engine.lengths import Lengths
from peav.engine.partition import Partition, partitions
from peav.engine.recipe import EngineRecipe, final_stages, weak_stages
from peav.engine.rewrite import KEYS, Rewrite
from peav.engine.sources import Sources
from peav.engine.stage import Stage, identity_of
from peav.engine.tokens import count_tokens
from peav.features.keys import media_mark
from peav.types import Modality

SAMPLES: dict[Modality, str] = {
    "audio": "A dog barks twice while a man talks and a car passes in the distance.",
    "video": "A man in a red jacket walks a brown dog along a street with parked cars.",
    "audio_video": "A man in a red jacket talks while his brown dog barks twice and a car passes along the street.",
}
"""What stands for captions that are not written yet."""
TRANSCRIPT = "come here and sit down, we are going home in a minute"
REASON = "length: 1 word, not 2 to 80"  # what stands for the refusal of a rewrite
REFUSED = 0.1  # of rewrites, as long as no journal has any


@dataclass(frozen=True)
class StepPlan:
    """What one stage will take.

    Attributes:
        calls: to make.
        known: answers that the journals have.
        prompt_tokens, shared_tokens, output_tokens: of the calls to make; `shared` are those of the prompts that are
            the same for all clips, which a server with prefix caching reads once. 0 for what is no endpoint.
        tokens_by: `tokenizer`, `estimate` or `journal`: the mean of what servers have counted; None: no endpoint.
        worker_hours, gpu_hours: None: nobody knows.
        seconds_by: `recipe` or `journal`, whose mean of a worker's seconds it is; None: nobody knows.
        dollars: at the recipe's prices.
    """

    name: str
    calls: int
    known: int
    prompt_tokens: int = 0
    shared_tokens: int = 0
    output_tokens: int = 0
    tokens_by: str | None = None
    worker_hours: float | None = None
    gpu_hours: float | None = None
    seconds_by: str | None = None
    dollars: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        rows, clips, partitions: of the manifest; `clips` are those that no row's length or license leaves out.
        scaled_to: clips that the figures of the steps and the bytes are of, where that is another number.
        media_hours: of all clips.
        steps: stages that are asked, in their order.
        media_bytes: of the clips' files; None: nobody knows.
        run_bytes: of shards and journals, at what the run's own take a clip; None: there are none yet.
        assumptions: what else the figures stand on, a sentence each.
    """

    rows: int
    clips: int
    partitions: int
    scaled_to: int | None
    media_hours: float
    steps: tuple[StepPlan, ...]
    media_bytes: int | None
    run_bytes: int | None
    assumptions: tuple[str, ...]

    @property
    def gpu_hours(self) -> float:
        """Of all steps that are known."""
        return sum(step.gpu_hours or 0.0 for step in self.steps)

    @property
    def worker_hours(self) -> float:
        """Of all steps that are known."""
        return sum(step.worker_hours or 0.0 for step in self.steps)

    @property
    def dollars(self) -> float:
        """Of all steps."""
        return sum(step.dollars for step in self.steps)


def plan(
    places: str | Sequence[str],
    out: str | Path,
    recipe: EngineRecipe,
    *,
    limit: int | None = None,
    clips: int | None = None,
) -> Plan:
    """Count what `run.caption` would have to do. Asks no model, decodes nothing and writes nothing.

    Args:
        places, recipe, limit: as of `run.caption`.
        out: of the run; the answers in its journals are not counted, and what they measured counts before estimates.
        clips: scale all figures to a run of so many, from its beginning, that are as those of the manifest.

    Raises:
        ManifestError, RecipeError: of `places` and `recipe`; or of a tokenizer.
        CheckpointError: a tokenizer is not on the hub, or the hub cannot be reached.
    """
    walk = _Walk(Path(out), recipe, Lengths(places, limit, recipe.segment))
    for partition in partitions(places, recipe.rows, limit):
        walk.take(partition)
    return walk.plan(clips)


class _Lines(Journal):
    """A journal that is read and never written."""

    def add(self, key: str, clip: str, stage: str, answer: Answer | Exception, seconds: float = 0.0) -> None:  # noqa: ARG002
        """Keep an answer in memory alone."""
        said = (
            {"value": answer.value} if isinstance(answer, Answer) else {"error": [type(answer).__name__, str(answer)]}
        )
        self.lines[key] = {"id": clip, "stage": stage, **said}


@dataclass
class _Tally:
    """What is counted of one stage.

    Attributes:
        late: it is asked about a clip once a rewrite was refused.
        calls, maybe: to make; `maybe` are those that a refusal nobody has seen yet would bring.
        prompt, output: tokens of all `calls`.
        shared: tokens that every prompt begins with.
        known, known_prompt, known_output, known_seconds: answers of the journals and what they took.
    """

    stage: Stage
    late: bool = False
    calls: int = 0
    maybe: int = 0
    prompt: int = 0
    output: int = 0
    shared: int = 0
    estimated: bool = False
    known: int = 0
    known_prompt: int = 0
    known_output: int = 0
    known_seconds: float = 0.0

    def count(self, clip: Clip, line: Mapping[str, Any]) -> None:
        """An answer of the journal."""
        self._parts(clip)
        self.known += 1
        self.known_prompt += line.get("prompt_tokens", 0)
        self.known_output += line.get("output_tokens", 0)
        self.known_seconds += line.get("seconds", 0.0)

    def ask(self, clip: Clip, maybe: bool, confident: bool) -> None:
        """A call to make, and what stands for its answer."""
        self.calls += 1
        self.maybe += maybe
        own = self._parts(clip)
        said = _assume(self.stage, clip, confident)
        if isinstance(self.stage, Endpoint):
            self.prompt += self.shared + self._tokens(own) + self.stage.media_tokens
            self.output += self._tokens(said)

    def _parts(self, clip: Clip) -> str:
        if not isinstance(self.stage, Endpoint):
            return ""
        shared, own = self.stage.prompt_parts(clip)
        self.shared = self.shared or self._tokens(shared)
        return own

    def _tokens(self, text: str) -> int:
        assert isinstance(self.stage, Endpoint)
        count, estimated = count_tokens(text, self.stage.tokenizer)
        self.estimated |= estimated
        return count

    def plan(self, scale: float | None, refused: float) -> StepPlan:
        """`scale`: to so many such manifests, from their beginning; `refused`: a share of the rewrites."""
        calls = self.calls - self.maybe * (1 - refused)
        calls = calls if scale is None else (calls + self.known) * scale
        prompt, output = self.prompt / max(1, self.calls), self.output / max(1, self.calls)
        by = ("estimate" if self.estimated else "tokenizer") if isinstance(self.stage, Endpoint) else None
        if self.known_prompt:
            by, prompt, output = "journal", self.known_prompt / self.known, self.known_output / self.known
        shared = min(self.shared, prompt)
        worker, gpu, timed = self._hours(calls, prompt - shared, output)
        return StepPlan(
            self.stage.name,
            round(calls),
            self.known if scale is None else 0,
            round(calls * prompt),
            round(calls * shared),
            round(calls * output),
            by,
            worker,
            gpu,
            timed,
            self._dollars(calls, prompt, shared, output),
        )

    def _hours(self, calls: float, fresh: float, output: float) -> tuple[float | None, float | None, str | None]:
        """A worker's, a GPU's, and who says so."""
        stage, worker, gpu = self.stage, self.stage.seconds, self.stage.gpu_seconds
        if isinstance(stage, Endpoint) and gpu is None and stage.input_rate and stage.output_rate:
            gpu = fresh / stage.input_rate + output / stage.output_rate
        by = None if worker is None and gpu is None else "recipe"
        if by is None and self.known_seconds:
            by, worker = "journal", self.known_seconds / self.known
        worker_hours, gpu_hours = (None if one is None else calls * one / 3600 for one in (worker, gpu))
        return worker_hours, gpu_hours, by

    def _dollars(self, calls: float, prompt: float, shared: float, output: float) -> float:
        stage = self.stage
        if not isinstance(stage, Endpoint):
            return 0.0
        cached = stage.input_price if stage.cached_price is None else stage.cached_price
        return calls * ((prompt - shared) * stage.input_price + shared * cached + output * stage.output_price) / 1e6


def _assume(stage: Stage, clip: Clip, confident: bool) -> str:
    """Write what stands for a stage's answer on a clip; the words of the answer."""
    if isinstance(stage, Captioner):
        clip.weak[stage.name] = WeakCaption(
            SAMPLES[stage.kind], stage.kind, "", confidence="medium" if confident else None
        )
        return SAMPLES[stage.kind]
    if isinstance(stage, Rewrite):
        clip.captions = {kind: SAMPLES[kind] for kind in Sources.of(clip).kinds}
        clip.provenance, clip.rejected = dict.fromkeys(clip.captions, stage.model), []
        return json.dumps({"id": clip.id, **{KEYS[kind]: text for kind, text in clip.captions.items()}})
    if isinstance(stage, Asr):
        clip.transcript = TRANSCRIPT
    return ""


class _Walk:
    """Takes clips through the stages as `ask.Asker` does, counting where that asks."""

    def __init__(self, out: Path, recipe: EngineRecipe, lengths: Lengths) -> None:
        self.out, self.recipe, self.lengths = out, recipe, lengths
        held = Decisions(out, recipe).held()
        self.stages = [*weak_stages(recipe), *([held] if held else []), *final_stages(recipe)]
        late = next((i for i, stage in enumerate(self.stages) if getattr(stage, "again", False)), len(self.stages))
        self.tallies = [_Tally(stage, i >= late) for i, stage in enumerate(self.stages)]
        self.identities: dict[int, str] = {}
        self.rows = self.clips = self.partitions = 0
        self.seconds = 0.0

    def take(self, partition: Partition) -> None:
        """Count a partition."""
        with _Lines(journal_path(self.out, partition.name)) as journal:
            known = dict(journal.lines)
            clips = clips_of(partition, self.recipe.segment, journal, self.lengths.look)
        self.rows += len(partition.rows)
        self.partitions += 1
        for clip in clips:
            before = clip.measures.get("duration", 0.0)
            left_out = self._walk(clip, known)
            self.clips += not left_out
            self.seconds += before * (not left_out)

    def _walk(self, clip: Clip, known: Mapping[str, Any]) -> bool:
        """Count what is asked about a clip; whether its row alone leaves it out."""
        mark = media_mark(clip.row) if known else ""
        sure = True  # all that was said of the clip so far is known
        if clip.failed or decode_key(mark) in known:
            return False
        for place, (stage, tally) in enumerate(zip(self.stages, self.tallies, strict=True)):
            if not clip.open:
                break
            if not stage.journaled:
                if (sure or isinstance(stage, Filter)) and stage.request(clip) is not None:
                    work_out(stage, clip)
                    if clip.filtered and isinstance(stage, Filter):
                        return True
                continue
            if tally.late and not sure:
                clip.rejected = [REASON] if isinstance(stage, Rewrite) else []
            if known:
                key = answer_key(stage, self._identity(place), clip, mark)
                if key is not None and key in known:
                    tally.count(clip, known[key])
                    apply_line(known[key], clip, stage)
                    continue
            if stage.request(clip) is None or (isinstance(stage, Captioner) and _lacks(stage, clip)):
                continue
            tally.ask(clip, tally.late and not sure, self.recipe.score is not None)
            sure = False
        return False

    def _identity(self, place: int) -> str:
        """Asked for where there are answers alone: it may need a model's files."""
        if place not in self.identities:
            self.identities[place] = identity_of(self.stages[place])
        return self.identities[place]

    def plan(self, wanted: int | None) -> Plan:
        """What all that was taken comes to."""
        scale = None if wanted is None else wanted / max(1, self.clips)
        rewrites = [tally for tally in self.tallies if isinstance(tally.stage, Rewrite)]
        refused = rewrites[1].known / rewrites[0].known if rewrites and rewrites[0].known else REFUSED
        steps = tuple(tally.plan(scale, refused) for tally in self.tallies if tally.calls or tally.known)
        times = 1.0 if scale is None else scale
        media, run = self.lengths.bytes, _run_bytes(self.out)
        return Plan(
            self.rows,
            self.clips,
            self.partitions,
            wanted,
            self.seconds / 3600 * times,
            steps,
            None if media is None else round(media * self.rows * times),
            None if run is None else round(run * self.clips * times),
            tuple(self._assumptions(steps, refused)),
        )

    def _assumptions(self, steps: tuple[StepPlan, ...], refused: float) -> Iterator[str]:
        lengths, segment = self.lengths, self.recipe.segment
        if lengths.unknown:
            tried, mean = len(lengths.probed), lengths.mean
            yield f"lengths of {lengths.unknown} rows stand in no manifest: {tried} were probed, mean {mean:.1f} s"
        if segment.cuts_by:
            yield "shots and silences are not looked for: clips may be more, and shorter"
        yield "no clip is left out by what a filter measures, or as a duplicate, unless the journals say so"
        yield "nothing is counted for decoding"
        if self.recipe.score is not None or any(step.calls for step in steps):
            yield "captions that are not written yet count as 15 to 20 words, transcripts as 12 in every clip"
        if any(tally.late and tally.calls for tally in self.tallies):
            yield f"{refused:.0%} of rewrites are refused once and asked for again"
        if by := [step.name for step in steps if step.tokens_by == "estimate"]:
            yield f"tokens of {', '.join(by)} are estimated, 4 bytes a token; name a `tokenizer`"
        if any(step.tokens_by in ("estimate", "tokenizer") for step in steps):
            yield "marks of chat templates and schemas of answers are not counted"
        if any(step.shared_tokens for step in steps):
            yield "the server keeps what all prompts begin with: shared tokens take no time and cost `cached_price`"
        for tally in self.tallies:
            if (
                isinstance(tally.stage, Endpoint)
                and getattr(tally.stage, "needs", None)
                and not tally.stage.media_tokens
            ):
                yield f"{tally.stage.name}: frames and sound are not counted as tokens; give `media_tokens`"
        if by := [step.name for step in steps if step.seconds_by is None and step.calls and not step.dollars]:
            yield f"nobody knows how long {', '.join(by)} take: give `seconds` or `gpu_seconds`, or caption a few first"
        if by := [step.name for step in steps if step.seconds_by == "journal"]:
            yield f"hours of {', '.join(by)} are the mean of what the journals measured on their machine"


def _lacks(stage: Captioner, clip: Clip) -> bool:
    """Whether its row has not the streams that a captioner describes."""
    there = {"audio": clip.row.audio_path, "video": clip.row.video_path}
    return any(there[stream] is None for stream in STREAMS[stage.kind])


def _run_bytes(out: Path) -> float | None:
    """Of shards and journals for each clip that the run has written."""
    shards = sorted((out / SHARDS).glob("*.parquet"))
    clips = sum(pq.ParquetFile(path).metadata.num_rows for path in shards)
    size = sum(path.stat().st_size for path in [*shards, *(out / "journal").glob("*.jsonl")])
    return size / clips if clips else None
