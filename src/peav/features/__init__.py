"""Features of clips: computed once, stored, read while training."""
