"""From what users hand over to embeddings: sources, batches, pooling, streams."""
