"""Generators of clips and soundscapes whose truth is known."""
