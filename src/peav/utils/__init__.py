"""What every layer below the encoder may use: atomic writes, locks, JSON lines, storage, progress bars."""
