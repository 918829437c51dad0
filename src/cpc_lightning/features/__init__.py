"""Features of a pretrained network: computed once, kept on disk, trained on instead of the images."""
