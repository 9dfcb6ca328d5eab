"""peav: audio, video and text in one embedding space (PE-AV, arXiv 2512.19687)."""
