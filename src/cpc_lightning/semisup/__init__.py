"""Semi-supervised training on a partition, stage 2: MixMatch and the empirical vicinal risk. Plain torch."""
