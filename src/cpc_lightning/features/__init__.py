"""Features of a pretrained network: computed once, kept on disk, trained on in the place of the images."""
