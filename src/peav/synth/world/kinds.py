"""The table of all kinds by name."""

from __future__ import annotations

from peav.synth.world.kind import Kind
from peav.synth.world.kinds_animals import ANIMALS
from peav.synth.world.kinds_impacts import IMPACTS
from peav.synth.world.kinds_machines import MACHINES
from peav.synth.world.kinds_nature import MUSIC, NATURE

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*ANIMALS, *IMPACTS, *MACHINES, *NATURE, *MUSIC)}
