"""Cleaners, stage 1: loss mixtures, class prototypes and partitions. Plain numpy and torch."""
