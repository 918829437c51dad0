"""Metrics and figures of a run: arrays in, numbers or a matplotlib figure out."""
