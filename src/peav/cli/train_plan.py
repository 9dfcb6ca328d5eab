"""`peav train --dry-run`: what a run would cost, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from peav.train import Plan

GIB = 2**30
UNKNOWN = "not known"


def cost_table(cost: Plan) -> Table:
    """Parameters, operations, memory, network, data and time of a run."""
    table = Table(title=f"cost on {cost.devices} device{'s' if cost.devices > 1 else ''}")
    table.add_column("what")
    table.add_column("how much", justify="right")
    for name, value in (*_model(cost), *_network(cost), *_data(cost), *_times(cost)):
        table.add_row(name, value)
    return table


Rows = list[tuple[str, str]]


def _model(cost: Plan) -> Rows:
    return [
        ("parameters", f"{_figure(cost.parameters / 1e6)} M"),
        ("of which train", f"{_figure(cost.trainable / 1e6)} M"),
        *((f"a clip: {part}", f"{_figure(flops / 1e9)} GFLOP") for part, flops in cost.flops.items()),
        ("a step, all devices", f"{_figure(cost.step_flops / 1e15)} PFLOP"),
        *((f"a device: {what}", f"{_figure(size / GIB)} GiB") for what, size in cost.memory.items()),
        ("a device: together", f"{_figure(sum(cost.memory.values()) / GIB)} GiB"),
    ]


def _network(cost: Plan) -> Rows:
    rows = [
        (f"a step: {kind}, {one.count} times", f"{_figure(one.bytes / 1e9)} GB")
        for kind, one in cost.collectives.items()
    ]
    if cost.network_seconds is not None:
        rows.append(("a step: sending", _time(cost.network_seconds / 3600)))
    return rows


def _data(cost: Plan) -> Rows:
    data, media = cost.data, cost.media
    rows = [("clips a second, all devices", _figure(data.clips_per_second))]
    if media.measured:
        rows.append((f"to decode a clip, one core (of {media.measured})", _time((media.decode_seconds or 0) / 3600)))
    if data.decodes:
        rows.append(("a device: cores that decode", UNKNOWN if data.cores is None else _figure(data.cores)))
    elif media.decode_seconds is not None and media.clips is not None:
        rows.append(("to decode all clips before, one core", _time(media.decode_seconds * media.clips / 3600)))
    read = UNKNOWN if data.read is None else f"{_figure(data.read / 1e6)} MB/s"
    rows.append(("read, all devices", read))
    rows.append(("media of all clips", UNKNOWN if data.storage is None else f"{_figure(data.storage / 1e9)} GB"))
    if data.features:
        rows.append(("a clip: features on disk", f"{_figure(data.features / 1e6)} MB"))
        everything = UNKNOWN if data.all_features is None else f"{_figure(data.all_features / 1e9)} GB"
        rows.append(("features of all clips", everything))
    rows += [("not there yet", place) for place in media.missing]
    return rows


def _times(cost: Plan) -> Rows:
    return [
        ("a step: computing", _time(cost.compute_seconds / 3600)),
        ("device time", _time(cost.hours)),
        ("time", _time(cost.hours / cost.devices)),
    ]


def _time(hours: float) -> str:
    """In the unit that people would use."""
    for unit, length in (("s", 1 / 3600), ("min", 1 / 60), ("hours", 1.0)):
        if hours < 90 * length:
            return f"{_figure(hours / length)} {unit}"
    return f"{_figure(hours / 24)} days"


def _figure(value: float) -> str:
    """Three digits at least: runs range from minutes on one processor to months of many GPUs."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
