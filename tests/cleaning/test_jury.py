"""Judges of fixed features who have not seen a label: class means, their say, the matrix; no label comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cpc_lightning.cleaning import discriminant, jury
from cpc_lightning.cleaning.discriminant import Moments, fit_clouds, moments, outer_products, score
from cpc_lightning.cleaning.jury import choose_clouds, cloud_answers, judge_together, own_rows, total
from cpc_lightning.cleaning.pooling import join, weigh
from cpc_lightning.cleaning.transition import (
    Shrunk,
    expected_counts,
    given_the_label,
    log_likelihoods,
    shrunk_matrix,
    with_symmetric,
)


def rows(values):
    return torch.tensor(values, dtype=torch.float32)


def three_clouds(count=90, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return 3 * torch.eye(3, 5)[labels] + torch.randn(count, 5, generator=generator), labels


def test_outer_products_are_weighted_in_blocks_too(monkeypatch):
    inputs, weights = rows([[1, 2], [3, 0], [1, 1]]), rows([1, 2, 0.5])
    # [[1, 2], [2, 4]] + 2 [[9, 0], [0, 0]] + 0.5 [[1, 1], [1, 1]]
    assert outer_products(inputs, weights).tolist() == [[19.5, 2.5], [2.5, 4.5]]
    monkeypatch.setattr(discriminant, "ROWS", 2)
    assert outer_products(inputs, weights).tolist() == [[19.5, 2.5], [2.5, 4.5]]


def test_moments_by_hand_and_their_sum():
    known = moments(rows([[1, 2], [3, 0]]), rows([[0.5, 0.5], [1, 0]]), rows([1, 2]))
    assert known.counts.tolist() == [2.5, 0.5]
    assert known.sums.tolist() == [[6.5, 1], [0.5, 1]]
    assert known.squares.tolist() == [[19, 2], [2, 4]]
    both = known + known
    assert (both.counts.tolist(), both.sums[0].tolist(), both.squares[0].tolist()) == ([5, 1], [13, 2], [38, 4])


@pytest.mark.parametrize("shrinkage", [0.03, 0.6])
def test_clouds_of_labels_are_scikit_learns_discriminants(shrinkage):
    inputs, labels = three_clouds()
    labels[::7] = 0  # classes of different size
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(inputs, labels)
    model = fit_clouds(moments(inputs, torch.eye(3)[labels], torch.ones(90)), shrinkage)
    np.testing.assert_allclose(score(inputs, model), reference.decision_function(inputs), rtol=2e-3, atol=2e-3)


def test_a_sample_of_weight_2_is_two_samples():
    inputs, labels = three_clouds(9)
    twice = moments(torch.cat([inputs, inputs[:1]]), torch.eye(3)[torch.cat([labels, labels[:1]])], torch.ones(10))
    heavy = moments(inputs, torch.eye(3)[labels], rows([2] + [1] * 8))
    torch.testing.assert_close(fit_clouds(heavy, 0.3), fit_clouds(twice, 0.3))


def test_without_samples_all_classes_score_alike():
    nothing = Moments(torch.zeros(3), torch.zeros(3, 2), torch.zeros(2, 2))
    scores = score(rows([[5, -7]]), fit_clouds(nothing, 0.1))
    assert torch.isfinite(scores).all()
    assert len(set(scores[0].tolist())) == 1


def test_the_posterior_given_the_label():
    matrix = rows([[0.8, 0.2], [0.4, 0.6]])
    posterior = given_the_label(rows([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([0, 1]), matrix)
    torch.testing.assert_close(posterior, rows([[2 / 3, 1 / 3], [0.25, 0.75]]))


def test_likelihoods_of_labels():
    likely = log_likelihoods(rows([[0.5, 0.5], [1, 0]]), torch.tensor([1, 1]), rows([[0.8, 0.2], [0.4, 0.6]]))
    torch.testing.assert_close(likely, rows([0.4, 0.2]).log())


def test_counts_and_their_shrinkage_by_hand():
    counts = expected_counts(rows([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([1, 0]), rows([2, 1]))
    assert counts.tolist() == [[0.5, 1.5], [0.5, 0.5]]
    # 17 of 20 labels are kept: of ten more samples a row, 8.5 have the right label; and one more a wrong one.
    expected = rows([[16.5, 4.5], [3.5, 17.5]]) / 21
    torch.testing.assert_close(with_symmetric(rows([[8, 2], [1, 9]]), 10), expected, atol=1e-5, rtol=0)
    # Wrong labels are as frequent in each row as they are given: 6, 2 and 2 of 10, of which 8 are kept.
    far = with_symmetric(rows([[6, 0, 0], [0, 2, 2], [0, 0, 0]]), 1e6)
    torch.testing.assert_close(far, rows([[0.8, 0.1, 0.1], [0.15, 0.8, 0.05], [0.15, 0.05, 0.8]]), atol=1e-4, rtol=0)


def noisy_answers(kind, classes=8, each=30):
    """Labels of which 40 % are wrong, and who nearly knows the true ones."""
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(classes).repeat(each)
    wrong = torch.rand(len(true), generator=generator) < 0.4
    others = (true + torch.randint(1, classes, true.shape, generator=generator)) % classes
    labels = torch.where(wrong, others if kind == "symmetric" else (true + 1) % classes, true)
    by_features = 0.92 * torch.eye(classes)[true] + 0.08 / classes
    return true, labels, by_features


@pytest.mark.parametrize(("kind", "least", "most"), [("symmetric", 1000, 1e6), ("pairs", 0, 3)])
def test_the_matrix_is_as_symmetric_as_the_mistakes_are(kind, least, most):
    true, labels, by_features = noisy_answers(kind)
    posterior = torch.eye(8)[true]
    found, more, _ = shrunk_matrix(posterior, labels, by_features, torch.ones(240), torch.arange(240) % 5)
    assert least <= more <= most
    torch.testing.assert_close(found.sum(dim=1), torch.ones(8))
    cell = float(found[0, 1])
    assert cell < 0.1 if kind == "symmetric" else cell > 0.2


def test_joining_multiplies_powers():
    first, second = rows([[0.899, 0.099]]), rows([[0.399, 0.599]])  # 0.001 is added to each
    # 0.9^2 0.4 = 0.324, 0.1^2 0.6 = 0.006
    torch.testing.assert_close(join([first, second], rows([2, 1])), rows([[0.324, 0.006]]) / 0.33)


def test_who_knows_the_labels_gets_the_say():
    _, labels, knows = noisy_answers("symmetric")
    matrix = 0.6 * torch.eye(8) + 0.4 / 7 * (1 - torch.eye(8))
    guesses = knows[torch.randperm(240, generator=torch.Generator().manual_seed(1))]
    found = weigh([knows, guesses], labels, torch.ones(240), matrix, even=0.0)
    assert float(found[0]) > 0.5
    assert float(found[1]) < 0.2
    half = weigh([knows, guesses], labels, torch.ones(240), matrix, even=0.5)
    torch.testing.assert_close(half, found / 2 + found.sum() / 4)


def test_each_world_speaks_for_the_fold_that_it_does_not_know():
    parts = [torch.tensor([True, False, False]), torch.tensor([False, True, True])]
    answers = own_rows([rows([[1], [2], [3]]), rows([[4], [5], [6]])], parts)
    assert answers.flatten().tolist() == [1, 5, 6]
    known = [Moments(rows([n]), rows([[n]]), rows([[n]])) for n in (1, 2, 4)]
    assert float(total(known, {1}).counts) == 5
    assert float(total(known, {0, 2}).squares) == 2
    assert float(total(known, {0, 1, 2}).sums) == 0


def test_clouds_are_chosen_by_the_labels_of_the_fold_they_have_not_seen():
    inputs, labels = three_clouds()
    parts = [torch.arange(90) < 45, torch.arange(90) >= 45]
    known = [[moments(inputs[part], torch.eye(3)[labels[part]], torch.ones(45)) for part in parts]] * 2
    shrinkage, factor = choose_clouds(inputs, known, parts, labels, torch.ones(90), torch.eye(3))
    answers = cloud_answers(inputs, known[0], parts, 0, shrinkage, factor)
    model = fit_clouds(known[0][1], shrinkage)  # the second fold's, which judges the first
    torch.testing.assert_close(answers[:45], (factor * score(inputs[:45], model)).softmax(dim=1))
    assert answers[45:].max() < 0.34  # without either fold nothing is left to judge the second by


def test_no_label_comes_back_to_its_own_sample(monkeypatch):
    inputs, labels = three_clouds()
    fold = torch.arange(90) // 30
    near = torch.cdist(inputs, inputs).topk(11, largest=False).indices[:, 1:]

    def votes(posterior, silent):
        heard = (~silent[near]).float()[:, :, None]
        return (posterior[near] * heard).sum(dim=1) / heard.sum(dim=1).clamp(min=1)

    monkeypatch.setattr(jury, "weigh", lambda *_: rows([0.5, 0.5, 0.5]))  # a few numbers are of all labels together
    monkeypatch.setattr(jury, "choose_clouds", lambda *_: (0.1, 1.0))
    matrix = 0.7 * torch.eye(3) + 0.1
    monkeypatch.setattr(jury, "shrunk_matrix", lambda *_: Shrunk(matrix, 0.0, torch.zeros(90)))
    monkeypatch.setattr(jury, "sharpen", lambda answers, say, *_: (say, join(answers, say), matrix))
    even = torch.full((90, 3), 1 / 3)
    before = judge_together(inputs, even, votes, labels, torch.ones(90), fold, matrix)
    other = torch.where(fold == 0, (labels + 1) % 3, labels)
    after = judge_together(inputs, even, votes, other, torch.ones(90), fold, matrix)
    torch.testing.assert_close(after.true_class[fold == 0], before.true_class[fold == 0])
    assert not torch.allclose(after.true_class[fold == 1], before.true_class[fold == 1])
    assert float((before.true_class.argmax(dim=1) == labels).float().mean()) > 0.9
