"""The page of a run: `report.Report` as one HTML file, some megabytes however many clips the run has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from peav.engine.clip import Confidence
from peav.engine.report import SILENT, UNSCORED, WIDEST, Cost, Report, finals
from peav.errors import MediaError
from peav.types import MODALITIES
from peav.utils.page import document, resource
from peav.utils.terminal import visible
from peav.utils.text import clock, counted

PLAYED = 10.0  # seconds of a clip
MEDIA = 5_000_000  # characters of players in a page; clips beyond have none
LONGEST = 600  # characters of a text
KINDS = {"audio": "sound", "video": "picture", "audio_video": "both"}
LEVELS: tuple[Confidence, ...] = ("low", "medium", "high")


def page(report: Report) -> str:
    """The page as one string; nothing is fetched, and clips whose files have gone are shown without a player."""
    sample = [record for _, record in report.sample.clips()]
    lists = [[record for _, record in lowest.clips()] for lowest in report.worst.values()]
    worst = filter(None, chain.from_iterable(zip_longest(*lists)))  # the very worst of each list first
    shown = {record["id"]: record for record in [*sample, *worst]}
    cards = _Cards(shown, {record["id"] for record in sample})
    body = [
        _header(report),
        "<main>",
        _section("Clips", f"{counted(len(sample), 'clip')} by the hash of their ids, which favors none.", cards.some()),
        _section("Final captions", "", _final(report)),
        _section("Weak captions", "By captioner, how sure the run is of what it says.", _weak(report)),
        _section("The worst", "Each list has up to ten clips; the links lead to all that is known of one.",
                 "".join(_worst(name, lowest.clips(), cards) for name, lowest in report.worst.items())),
        _section("Duplicates", "", _duplicates(report)),
        _section("Costs", "Of all answers in the journals, those to earlier prompts too.", _costs(report)),
        _section("Failures", "", _failures(report)),
        _section("Clips of the lists above", "", cards.others()),
        "</main>",
    ]  # fmt: skip
    style, script = (resource("peav.engine", "templates", f"report.{kind}") for kind in ("css", "js"))
    return document(f"{report.recipe.name}: captions", "".join(body), style, script)


def _text(said: object, most: int = LONGEST) -> str:
    """Any text, safe to stand in the page; cut where it is very long."""
    whole = str(said)
    return escape(visible(whole if len(whole) <= most else whole[: most - 1] + "…"))


def _section(title: str, note: str, body: str) -> str:
    said = f'<p class="soft">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{said}{body}</section>" if body else ""


def _header(report: Report) -> str:
    ended = {"captioned": report.done, "of them by fallback": report.fallback}
    ended |= {f"filtered: {why}": count for why, count in report.filtered.top(30).items()}
    ended |= {f"failed: {why}": count for why, count in report.failed.top(30).items()}
    every = report.done + report.filtered.counts.total() + report.failed.counts.total()
    notes = [f"first {report.limit:,} rows alone"] if report.limit is not None else []
    if report.unfinished:
        notes.append(f"{counted(report.unfinished, 'partition')} not finished yet: the same peav caption goes on")
    if len(report.settings) > 1:
        notes.append("the recipe has changed since some partitions ended: the same peav caption renews them")
    said = "".join(f" <b>{_text(note)}.</b>" for note in notes)
    return (
        f"<header><h1>Captions by {_text(report.recipe.name)}</h1><p>{counted(every, 'clip')} of "
        f"<code>{_text(', '.join(report.places))}</code> in {counted(report.partitions, 'partition')}.{said}</p>"
        f"{_bars('How the clips ended', ended, every)}"
        '<form hidden><label>find <input type="search" name="words"></label>'
        '<label><input type="checkbox" name="fallback"> fallbacks alone</label><output></output></form></header>'
    )


def _bars(title: str, counts: Mapping[str, int], of: int, noun: str = "clips", least: bool = False) -> str:
    """Counts with a bar for the share of each; nothing where there are none."""
    rows = "".join(
        f'<tr><th scope="row">{_text(name, 160)}</th><td><svg viewBox="0 0 100 10" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect width="{100 * count / max(of, 1):.2f}" height="10"/></svg></td>'
        f"<td>{'≥ ' * least}{count:,}</td><td>{count / max(of, 1):.1%}</td></tr>"
        for name, count in counts.items()
    )
    head = f'<thead><tr><th scope="col">{title}</th><th scope="col"><span>share</span></th>'
    head += f'<th scope="col">{noun}</th><th scope="col">%</th></tr></thead>'
    return f'<table class="bars">{head}<tbody>{rows}</tbody></table>' if rows else ""


def _final(report: Report) -> str:
    every = sum(own.total() for own in report.lengths.values())
    lengths = "".join(_histogram(kind, own) for kind, own in report.lengths.items() if own)
    written = {_of_kind(name): count for name, count in report.written.top(30).items()}
    many = {_of_kind(text): count for text, count in report.captions.top().items() if count > 1}
    tables = (
        _bars("Written", written, every, "captions"),
        _bars("Words in most captions", report.words.top(20), every, "captions", bool(report.words.missed)),
        _bars("Captions of several clips", many, report.done, least=bool(report.captions.missed)),
    )
    return f'<div class="figures">{lengths}</div><div class="tables">{"".join(tables)}</div>'


def _of_kind(said: str) -> str:
    """`audio_video by template` -> `both by template`."""
    kind = re.match(r"\w+", said)
    return said if kind is None else KINDS[kind[0]] + said[kind.end() :]


def _histogram(kind: str, lengths: Mapping[int, int]) -> str:
    """Words of captions of one kind."""
    most, clips = max(lengths.values()), sum(lengths.values())
    mean = sum(count * number for count, number in lengths.items()) / clips
    bars = "".join(
        f'<rect x="{8 * at + 0.8:.1f}" y="{100 - 96 * count / most:.1f}" width="6.4" height="{96 * count / most:.1f}">'
        f"<title>{'at least ' * (at == WIDEST)}{counted(at, 'word')}: {counted(count, 'caption')}</title></rect>"
        for at, count in sorted(lengths.items())
    )
    ticks = "".join(f'<text x="{8 * at + 4}" y="116">{at}{"+" * (at == WIDEST)}</text>' for at in range(0, 41, 10))
    said = f"{KINDS[kind]}: {mean:.1f} words on average, {min(lengths)} to {max(lengths)}"
    return (
        f'<figure><figcaption><b>{KINDS[kind]}</b> {mean:.1f} words on average</figcaption><svg role="img" '
        f'aria-label="{said}" viewBox="-4 0 340 122"><path d="M0 100.5H328"/>{bars}{ticks}</svg></figure>'
    )


def _weak(report: Report) -> str:
    levels = [*LEVELS, UNSCORED, SILENT]
    rows = []
    for name, own in report.confidence.items():
        at, bars = 0.0, ""
        for level in levels:
            share = 100 * own[level] / own.total()
            bars += f'<rect class="{level.split()[-1]}" x="{at:.2f}" width="{share:.2f}" height="10"/>'
            at += share
        cells = "".join(f"<td>{own[level]:,}</td>" for level in levels)
        bar = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{bars}</svg>'
        rows.append(f'<tr><th scope="row">{_text(name, 80)}</th><td>{bar}</td>{cells}</tr>')
    marks = "".join(f'<th scope="col" class="key {level.split()[-1]}">{level}</th>' for level in levels)
    head = f'<tr><th scope="col">captioner</th><th scope="col"><span>share</span></th>{marks}</tr>'
    return _wide("Confidence", f'<table class="bars">{head}{"".join(rows)}</table>') if rows else ""


def _wide(name: str, table: str) -> str:
    """A table that is scrolled sideways where it is wider than the page, by the keyboard too."""
    return f'<div class="wide" role="region" aria-label="{name}" tabindex="0">{table}</div>'


def _duplicates(report: Report) -> str:
    counts = report.duplicates.top()
    return _bars("Clip that stayed", counts, report.duplicates.counts.total(), "left out") if counts else ""


def _costs(report: Report) -> str:
    columns = ("answers", "failed", "requests", "prompt tokens", "output tokens", "time", "dollars")
    head = "".join(f'<th scope="col">{name}</th>' for name in ("stage", *columns))
    every = [(stage, own, report.dollars(stage)) for stage, own in report.costs.items()]
    total = Cost()
    for name in vars(total):
        setattr(total, name, sum(getattr(own, name) for _, own, _ in every))
    every.append(("in all", total, sum(dollars for *_, dollars in every)))
    rows = "".join(f'<tr><th scope="row">{_text(stage, 80)}</th>{_cost(own, usd)}</tr>' for stage, own, usd in every)
    return _wide("Costs", f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>") if report.costs else ""


def _cost(cost: Cost, dollars: float) -> str:
    counts = (cost.answers, cost.failed, cost.requests, cost.prompt_tokens, cost.output_tokens)
    said = [*(f"{count:,}" for count in counts), clock(cost.seconds), _dollars(dollars)]
    return "".join(f"<td>{one}</td>" for one in said)


def _dollars(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.4f}"


def _failures(report: Report) -> str:
    return "".join(
        f"<details open><summary>{_text(group, 120)} <b>{count:,}</b></summary><dl>"
        + "".join(f"<dt>{_text(clip)}</dt><dd>{_text(reason)}</dd>" for clip, reason in report.examples.get(group, ()))
        + "</dl></details>"
        for group, count in report.failed.top(30).items()
    )


def _worst(name: str, clips: Sequence[tuple[str, dict[str, Any]]], cards: _Cards) -> str:
    rows = "".join(
        f'<li><a href="#{cards.places[record["id"]]}">{_text(record["id"], 120)}</a> <b>{_text(said, 160)}</b> '
        f"<span>{_text(next(iter(reversed(finals(record).values())), ''), 200)}</span></li>"
        for said, record in clips
    )
    state = " open" * name.startswith("refused")
    return f"<details{state}><summary>{_text(name, 120)} <b>{len(clips)}</b></summary><ol>{rows}</ol></details>"


class _Cards:
    """All that is known of some clips, with a player each until there are too many."""

    def __init__(self, records: Mapping[str, dict[str, Any]], sample: set[str]) -> None:
        self.records, self.sample, self.left = records, sample, MEDIA
        self.places = {name: f"clip-{number}" for number, name in enumerate(records)}

    def some(self) -> str:
        """Those of the sample."""
        return self._grid(record for name, record in self.records.items() if name in self.sample)

    def others(self) -> str:
        """The rest."""
        return self._grid(record for name, record in self.records.items() if name not in self.sample)

    def _grid(self, records: Iterable[dict[str, Any]]) -> str:
        cards = "".join(map(self._card, records))
        return f'<div class="clips">{cards}</div>' if cards else ""

    def _card(self, record: dict[str, Any]) -> str:
        facts = [record["source"], record["license"], record["split"]]
        facts += [f"{name} {value:.4g}" for name, value in record["measures"].items()]
        facts += [f"agreement {KINDS[kind]} {value:+.3f}" for kind, value in record["agreement"].items()]
        marks = '<b class="mark">fallback</b>' if record["fallback"] else ""
        final = "".join(
            f"<dt>{KINDS[kind]}</dt><dd>{_text(text)} <small>{_text(record[f'{kind}_by'], 120)}</small></dd>"
            for kind, text in finals(record).items()
        )
        lists = _listed("Why the rewrite was refused", map(_text, record.get("rejected") or ()))
        lists += _listed("Weak captions", map(_weakly, record["weak"]))
        people = dict.fromkeys(text for kind in MODALITIES for text in record["captions"][kind] or ())
        lists += _listed("By people", map(_text, people))
        said = f"<p><q>{_text(record['transcript'])}</q></p>" if record["transcript"] else ""
        return (
            f'<article id="{self.places[record["id"]]}"{" data-fallback" * bool(record["fallback"])}>'
            f"{self._players(record)}<h3>{_text(record['id'], 200)} {marks}</h3>"
            f'<p class="soft">{", ".join(_text(fact, 80) for fact in facts if fact)}</p><dl>{final}</dl>{said}{lists}'
            f'<p class="soft">{_spent(record["cost"])}</p></article>'
        )

    def _players(self, record: Mapping[str, Any]) -> str:
        """One for each file of the clip, or why there is none."""
        start, seconds = record["start"] or 0.0, record["measures"].get("duration", PLAYED)
        end = start + min(PLAYED, (record["end"] or start + seconds) - start)
        paths = dict.fromkeys(filter(None, (record["video_path"], record["audio_path"])))
        return "".join(self._player(record["id"], Path(path), start, end) for path in paths)

    def _player(self, name: str, path: Path, start: float, end: float) -> str:
        from peav.media.preview import excerpt

        if self.left <= 0:
            return f'<p class="none">no player: the page is large enough. {_text(path)}</p>'
        try:
            address, pictures = excerpt(path, start, end)
        except MediaError as error:
            return f'<p class="none">no player: {_text(error)}</p>'
        self.left -= len(address)
        kind = "video" if pictures else "audio"
        label = _text(f"{name}, {start:.1f} to {end:.1f} seconds", 240)
        return f'<{kind} controls preload="metadata" aria-label="{label}" src="{address}"></{kind}>'


def _listed(title: str, items: Iterable[str]) -> str:
    listed = "".join(f"<li>{one}</li>" for one in items)
    return f"<h4>{title}</h4><ul>{listed}</ul>" if listed else ""


def _weakly(weak: Mapping[str, Any]) -> str:
    sure, score = weak["confidence"] or UNSCORED, weak["score"]
    mark = (
        f'<b class="key {sure.split()[-1]}">{sure}{"" if score is None else f" {score:.3f}"}</b>'
        if weak["text"]
        else ""
    )
    by = " ".join(filter(None, (weak["model"], weak["prompt"])))
    text = _text(weak["text"]) if weak["text"] else f'<span class="soft">{SILENT}</span>'
    return f"<b>{_text(weak['captioner'], 80)}</b> {mark} {text} <small>{_text(by, 120)}</small>"


def _spent(cost: Cost) -> str:
    said = [counted(cost.requests, "request"), f"{cost.seconds:.2f} s"]
    said += [f"{cost.prompt_tokens:,} + {cost.output_tokens:,} tokens"] * bool(cost.prompt_tokens + cost.output_tokens)
    return ", ".join(said)
