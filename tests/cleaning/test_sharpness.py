"""How sure to be of true classes, where given labels alone do not say it."""

from __future__ import annotations

import torch

from cpc_lightning.cleaning.pooling import join
from cpc_lightning.cleaning.sharpness import FACTORS, sharpen

CLASSES, EACH = 5, 400
SAMPLES = CLASSES * EACH


def answer_of(known, sure):
    """Rows that give the class `known` the probability `sure`, and the others the rest evenly."""
    return torch.where(torch.eye(CLASSES)[known] > 0, sure, (1 - sure) / (CLASSES - 1))


def sharpened(answer, labels):
    begin = 0.9 * torch.eye(CLASSES) + 0.1 / CLASSES
    fold = torch.arange(SAMPLES) % 5
    return sharpen([answer], torch.ones(1), labels, torch.ones(SAMPLES), fold, begin)


def mistaken(true, share):
    """`share` of the classes replaced by others, at random."""
    generator = torch.Generator().manual_seed(1)
    other = (true + torch.randint(1, CLASSES, true.shape, generator=generator)) % CLASSES
    return torch.where(torch.rand(len(true), generator=generator) < share, other, true)


def test_what_is_known_and_not_believed_becomes_sure_and_the_rest_wrong_labels():
    # Unsure answers that are always right, and labels of which a quarter are wrong: P(label | x) is 0.75 for the true
    # class if one is sure of it and a quarter of labels are wrong, and as well if one is not and fewer are.
    true = torch.arange(SAMPLES) % CLASSES
    labels = mistaken(true, 0.25)
    say, joint, matrix = sharpened(answer_of(true, 0.85), labels)
    assert float(say) >= 2
    assert float(joint.gather(1, true[:, None]).min()) > 0.98
    kept = float((labels == true).float().mean())
    torch.testing.assert_close(matrix.diagonal(), torch.full((CLASSES,), kept), atol=0.03, rtol=0)


def test_what_is_not_known_stays_unsure_and_labels_are_believed():
    # Right in 85 of 100 cases and saying so, as with images that are hard to tell; no label is wrong.
    true = torch.arange(SAMPLES) % CLASSES
    seen = mistaken(true, 0.15)
    answer = answer_of(seen, 0.85)
    say, joint, matrix = sharpened(answer, true)
    assert float(say) == FACTORS[0] == 1
    torch.testing.assert_close(joint, join([answer], torch.ones(1)))
    assert float(matrix.diagonal().min()) > 0.95


def test_a_label_counts_by_its_weight():
    """Only those that weigh something decide; the others would say the opposite."""
    true = torch.arange(SAMPLES) % CLASSES
    hard = torch.arange(SAMPLES) >= SAMPLES // 2
    answer = answer_of(torch.where(hard, mistaken(true, 0.15), true), 0.85)
    labels = torch.where(hard, true, mistaken(true, 0.25))
    fold, begin = torch.arange(SAMPLES) % 5, 0.9 * torch.eye(CLASSES) + 0.1 / CLASSES
    of_hard, _, _ = sharpen([answer], torch.ones(1), labels, hard.float(), fold, begin)
    of_easy, _, _ = sharpen([answer], torch.ones(1), labels, (~hard).float(), fold, begin)
    assert float(of_hard) == 1
    assert float(of_easy) >= 2
