"""How networks learn from images and labels of which some are wrong."""
