"""Recipes as they were written before sources had a place and transforms: read, with a warning, for one release."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from peav.model import PRESETS

_PLACES = ("manifest", "recordings", "prepared", "webdataset")
_LESSONS = {  # initializers, each with the section that had its options and what these are called today
    "distill_codec": ("codec", {"distil_steps": "steps", "distil_batch": "batch_size", "distil_lr": "lr"}),
    "pretrain_frames": ("frames", {"pretrain_steps": "steps", "pretrain_batch": "batch_size", "pretrain_lr": "lr"}),
}
_SOURCE = (*_PLACES, "mixtures", "only", "splice", "splice_video", "near_misses", "lips", "test_fold", "without", "mix")


def modernized(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same recipe in today's keys. Warns where it had older ones; what cannot be a recipe comes back as it is."""
    new = deepcopy(dict(values))
    changed: dict[str, dict[str, Any]] = {}  # initializers by class
    old = _objective(new) | _lessons(new, changed)
    if isinstance(new.get("data"), dict):
        lips: list[str] = []
        old |= _sources(new["data"], lips)
        if lips and "pretrain_frames" in changed:
            changed["pretrain_frames"]["lips"] = lips
    if changed:
        new["initializers"] = _initializers(new.get("initializers") or (), changed)
    if old:
        warnings.warn(
            f"this recipe is written in keys that go with the next release: {', '.join(sorted(old))}; "
            "docs/training.md has today's",
            FutureWarning,
            stacklevel=3,
        )
    return new


def _initializers(there: Iterable[Any], changed: Mapping[str, dict[str, Any]]) -> list[Any]:
    """Those of a recipe with what old keys say of them (a `--set` may change a recipe of today's keys)."""
    named = {one if isinstance(one, str) else one.get("class"): one for one in there}
    merged: dict[Any, Any] = {}
    for name in dict.fromkeys([*changed, *named]):
        one = named.get(name, {"class": name})
        merged[name] = (
            {**({"class": one} if isinstance(one, str) else one), **changed[name]} if name in changed else one
        )
        if name in changed and not merged[name].get("steps") and not merged[name].get("checkpoint"):
            del merged[name]  # steps: 0 was how it was left out
    return list(merged.values())


def _taken(section: Any, *names: str) -> dict[str, Any]:
    """Old keys of a section, taken out of it."""
    return {name: section.pop(name) for name in names if name in section} if isinstance(section, dict) else {}


def _objective(recipe: dict[str, Any]) -> set[str]:
    old = _taken(recipe.get("objective"), "best_rq_weight", "best_rq_rows", "words_weight")
    if not old:
        return set()
    if recipe.get("align"):  # where they had no effect
        return {f"objective.{name}" for name in old}
    losses = recipe["objective"].setdefault("auxiliary", {})
    for name, weight in (("best_rq", "best_rq_weight"), ("words", "words_weight")):
        if weight in old:
            losses[name] = {**losses.get(name, {}), "weight": old[weight]}
    if "best_rq_rows" in old and losses.get("best_rq", {}).get("weight"):
        losses["best_rq"]["share"] = old["best_rq_rows"]
    for name in [name for name, options in losses.items() if options.get("weight") == 0]:
        del losses[name]
    return {f"objective.{name}" for name in old}


def _lessons(recipe: dict[str, Any], changed: dict[str, dict[str, Any]]) -> set[str]:
    found, codec = set(), recipe.get("codec")
    fresh = recipe.get("model", "tiny") in PRESETS and not recipe.get("tune") and not recipe.get("align")
    for name, (section, today) in _LESSONS.items():
        old = _taken(recipe.get(section), *today)
        if section == "codec" and not fresh and isinstance(codec, dict) and codec.get("checkpoint") is not None:
            old["checkpoint"] = codec.pop("checkpoint")
        if old:
            changed[name] = {today.get(key, key): value for key, value in old.items()}
        found |= {f"{section}.{key}" for key in old}
    return found


def _sources(data: dict[str, Any], lips: list[str]) -> set[str]:
    old = _taken(data, "world", "world_weight")
    world, sources, names = old.get("world"), [], {f"data.{name}" for name in old}
    captioned = None  # the folder of a world whose clips have synthetic captions too
    if isinstance(world, dict):
        if world.pop("synthetic", False):
            captioned = Path(world.get("folder", "")).resolve()
        made, weight = {"class": "world", **world}, old.get("world_weight", 1.0)
        sources.append({"place": made, "weight": weight, "transforms": _transforms({}, captioned is not None)})
    for source in data.get("sources") or ():
        if not isinstance(source, dict) or "place" in source:
            sources.append(source)
            continue
        given = {name: value for name, value in source.items() if name in _SOURCE and value is not None}
        names |= {f"data.sources.{name}" for name in given}
        place: Any = next((given[name] for name in _PLACES if name in given), None)
        if place is None and isinstance(given.get("mixtures"), dict):
            place = {"class": "mixtures", **given["mixtures"]}
        if place is None:
            sources.append(source)
            continue
        own = captioned is not None and "manifest" in given and Path(place).resolve().parent == captioned
        if given.get("lips"):
            lips.append(place)
        weight = source.get("weight", 1.0)
        sources.append({"place": place, "weight": weight, "transforms": _transforms(given, own)})
    if sources:
        data["sources"] = sources
    return names


def _transforms(given: Mapping[str, Any], captioned: bool) -> list[Any]:
    """The transforms of a source in the order in which its keys took effect."""
    found: list[Any] = []
    if "without" in given:
        found.append({"class": "without_mixed", "manifest": given["without"]})
    if captioned:
        found.append("synthetic_captions")
    if "test_fold" in given:
        found.append({"class": "test_fold", "fold": given["test_fold"]})
    if "only" in given:
        found.append("transcripts")
    elif "recordings" in given:
        found.append("train_only")
    if given.get("splice"):
        copies, pictures = given.get("near_misses", 1), given.get("splice_video", False)
        found.append({"class": "word_swap", "share": given["splice"], "pictures": pictures, "copies": copies})
    if "mix" in given:
        found.append({"class": "remix", "how": given["mix"]})
    return found
