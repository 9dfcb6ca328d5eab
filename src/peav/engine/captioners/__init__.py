"""Weak captioners: each says of a clip what it hears or sees; a new one is one new file."""
