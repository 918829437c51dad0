"""Data sets: images and labels, one file a source. Plain torch, torchvision, PIL and the standard library."""
