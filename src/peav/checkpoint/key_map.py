"""How our tensors correspond to a public layout's: entries, each exact in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from peav.errors import CheckpointError

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Transform:
    """A reversible change of shape between our tensor and a foreign one."""

    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]


IDENTITY = Transform(lambda t: t, lambda t: t)
TOKEN = Transform(lambda t: t.flatten(), lambda t: t[None, None])  # (D) and (1, 1, D)
CHANNEL = Transform(lambda t: t.flatten(), lambda t: t[None, :, None])  # (C) and (1, C, 1)
BATCHED = Transform(lambda t: t[0], lambda t: t[None])  # (L, D) and (1, L, D)
POINTWISE = Transform(lambda t: t[..., 0], lambda t: t[..., None])  # Linear and Conv1d of kernel 1
TRANSPOSED = Transform(lambda t: t.T, lambda t: t.T)  # Linear and `x @ weight`


@dataclass(frozen=True)
class Entry:
    """Tensors that correspond: one to one, or several on one side stacked along the first axis on the other.

    `parts` are the relative heights of the stacked pieces.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    transform: Transform = IDENTITY
    parts: tuple[int, ...] = (1,)

    def to_ours(self, theirs: Tensors) -> Tensors:
        """Our tensors from a foreign checkpoint."""
        pieces = [self.transform.ours(theirs[name]) for name in self.theirs]
        return dict(zip(self.ours, self._regroup(pieces, len(self.ours)), strict=True))

    def to_theirs(self, ours: Tensors) -> Tensors:
        """Foreign tensors from ours."""
        pieces = self._regroup([ours[name] for name in self.ours], len(self.theirs))
        return dict(zip(self.theirs, map(self.transform.theirs, pieces), strict=True))

    def _regroup(self, pieces: list[Tensor], count: int) -> list[Tensor]:
        if len(pieces) == count:
            return pieces
        if count == 1:
            return [torch.cat(pieces)]
        unit = len(pieces[0]) // sum(self.parts)
        return list(pieces[0].split([part * unit for part in self.parts]))


def one(ours: str, theirs: str, transform: Transform = IDENTITY) -> Entry:
    """An entry of one tensor on each side."""
    return Entry((ours,), (theirs,), transform)


def stacked(ours: str, *theirs: str) -> Entry:
    """Several foreign tensors of equal height, which we keep stacked."""
    return Entry((ours,), theirs, parts=(1,) * len(theirs))


def module(ours: str, theirs: str, transform: Transform = IDENTITY) -> list[Entry]:
    """A module's weight and bias; `transform` is the weight's."""
    return [one(f"{ours}.weight", f"{theirs}.weight", transform), one(f"{ours}.bias", f"{theirs}.bias")]


def read_entries(entries: Iterable[Entry], theirs: Tensors, source: str) -> Tensors:
    """Every foreign tensor turned into ours. Raises CheckpointError naming tensors that are missing or unknown."""
    entries = list(entries)
    expected = {name for entry in entries for name in entry.theirs}
    check_names(expected, set(theirs), source)
    ours: Tensors = {}
    for entry in entries:
        try:
            ours.update(entry.to_ours(theirs))
        except (RuntimeError, IndexError, TypeError) as error:  # as torch has it for too few axes, or odd heights
            raise CheckpointError(f"{source}: {', '.join(entry.theirs)} of an unexpected shape: {error}") from error
    return ours


def write_entries(entries: Iterable[Entry], ours: Tensors) -> tuple[Tensors, Tensors]:
    """Our tensors turned into foreign ones, and those that the foreign layout has no place for."""
    theirs: Tensors = {}
    held: set[str] = set()
    for entry in entries:
        theirs.update(entry.to_theirs(ours))
        held.update(entry.ours)
    return theirs, {name: tensor for name, tensor in ours.items() if name not in held}


def check_names(expected: set[str], found: set[str], source: str) -> None:
    """Raises CheckpointError unless the two sets are equal."""
    problems = []
    if missing := expected - found:
        problems.append(f"lacks {shorten(missing)}")
    if unknown := found - expected:
        problems.append(f"holds unknown {shorten(unknown)}")
    if problems:
        raise CheckpointError(f"{source} {'; it '.join(problems)}: its config.json does not describe these tensors")


def shorten(names: list[str] | set[str], limit: int = 8) -> str:
    """A readable list of names: the first few, then how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
