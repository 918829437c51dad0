"""What images and labels there are: one file a source. Pure: torch, torchvision, PIL and the standard library."""
