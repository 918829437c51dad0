"""Data sets, label noise, views and samplers. torch and torchvision only."""
