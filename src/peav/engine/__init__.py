"""The captioning data engine: clips in, audio, visual and audio-visual captions out (PE-AV, arXiv 2512.19687)."""
