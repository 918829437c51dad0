"""Backbones, their weights, and the network made of one. Plain torch and torchvision."""
