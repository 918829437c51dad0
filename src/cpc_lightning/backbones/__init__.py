"""Backbones, their weights, and the network made of one. Pure."""
