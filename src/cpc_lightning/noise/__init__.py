"""Synthetic label noise, and noisy labels from files. Plain torch and numpy."""
