"""Analysis of a run: arrays in, figure out."""
