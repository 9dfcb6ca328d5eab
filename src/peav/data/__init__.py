"""What a run draws from: manifests, tars, sources, samplers, batches."""
