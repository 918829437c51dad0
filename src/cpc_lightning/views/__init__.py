"""Augmentation of a batch of images on their device: crops, flips, AutoAugment. Plain torch."""
