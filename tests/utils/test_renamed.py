"""Names of the last release still work, with a warning that says where the thing is now."""

from __future__ import annotations

from importlib import import_module

import pytest

OLD = {
    "peav.data.manifest.CAPTION_KINDS": "peav.types.MODALITIES",
    "peav.detector.LabelError": "peav.errors.LabelError",
    "peav.detector.Labels": "peav.detector.EncodedLabels",
    "peav.encoder.SPACES": "peav.types.MODALITIES",
    "peav.encoder.Space": "peav.types.Modality",
    "peav.eval.metrics.MetricError": "peav.errors.EvaluationError",
    "peav.eval.protocols.ProtocolError": "peav.errors.EvaluationError",
    "peav.eval.directions.WORLD": "peav.eval.directions.CAPTIONED",
    "peav.eval.protocols.WORLD_DIRECTIONS": "peav.eval.directions.CAPTIONED",
    "peav.inference.sources.Reader": "peav.inference.sources.WindowReader",
    "peav.inference.sources.Unreadable": "peav.types.DecodeFailure",
    "peav.objectives.pairs.Medium": "peav.types.Modality",
    "peav.search.Row": "peav.search.library.LibraryRow",
    "peav.search.TEXT_PAIR": "peav.encoder.TEXT_PAIR",
}


@pytest.mark.parametrize(("old", "new"), OLD.items())
def test_an_old_name_works_and_says_where_it_is_now(old: str, new: str) -> None:
    (module, name), (place, now) = old.rsplit(".", 1), new.rsplit(".", 1)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new};"):
        assert getattr(import_module(module), name) is getattr(import_module(place), now)


@pytest.mark.parametrize("module", sorted({old.rsplit(".", 1)[0] for old in OLD}))
def test_any_other_name_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        import_module(module).nonsense  # noqa: B018
