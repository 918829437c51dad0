"""The Lightning layer: the two networks, stage 1, batches, checkpoints, processes."""
