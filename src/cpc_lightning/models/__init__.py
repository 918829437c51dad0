"""Backbones, and the network made of one. torch and torchvision only."""
