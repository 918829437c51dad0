"""Readers of files: images, idx, pickles, lists of images, label files."""
