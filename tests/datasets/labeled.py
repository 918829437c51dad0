"""What several tests of data need."""

import torch

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split


def labeled(labels, num_classes, class_map=None, true_labels=None):
    """A data set whose training split has these labels, and tiny black images."""
    images = ArrayImages(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8))
    test = Split(ArrayImages(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)), torch.zeros(1, dtype=torch.int64))
    names = tuple(map(str, range(num_classes)))
    return ImageDataset("set", names, Split(images, labels, true_labels), {"test": test}, class_map)


def corrupt(noise, labels, num_classes, class_map, seed):
    """The noisy labels that `noise` makes of `labels`."""
    return noise.corrupt(labeled(labels, num_classes, class_map), seed).labels
