"""How fast a model is on this machine, part by part, beside transformers with the same weights."""
