"""MoPro: its losses in float64, labels that are corrected, queue, prototypes and averaged network by hand."""

import numpy as np
import pytest
import torch
from tests.cleaning.conftest import evidence_of, whole_set_task
from tests.methods.embedding_steps import begun, float64, step_of, tiny

from cpc_lightning.errors import InputError
from cpc_lightning.methods.mopro import MoPro


def ready(**settings):
    """A method in the middle of a run: prototypes and a queue that mean something, an average that is another."""
    network = tiny()
    method = begun(MoPro(queue_size=8, **settings), network)
    generator = torch.Generator().manual_seed(2)
    network.head.prototypes.data = torch.nn.functional.normalize(torch.randn(3, 4, generator=generator), dim=1)
    with torch.no_grad():
        for parameter in method.averaged.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return method, network


def embedding(network, vectors):
    """Logits and embeddings by numpy."""
    linear, projector, classifier = network.backbone.linear, network.head.projector, network.classifier
    features = np.tanh(vectors @ float64(linear.weight).T + float64(linear.bias))
    logits = features @ float64(classifier.weight).T + float64(classifier.bias)
    embedded = features @ float64(projector.weight).T + float64(projector.bias)
    return logits, embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


def softmax(rows):
    rows = np.exp(rows - rows.max(axis=1, keepdims=True))
    return rows / rows.sum(axis=1, keepdims=True)


def reference(method, network, step, correct):
    """Class, instance and prototype loss, and the labels (-1: left out) by the paper's sentences."""
    vectors, t = float64(step.images[0]), method.temperature
    logits, z = embedding(network, vectors)
    _, key = embedding(method.averaged, vectors)
    queue, prototypes = float64(method.queue), float64(network.head.prototypes)
    instance = classes = prototype = 0.0
    p, s = softmax(logits), softmax(z @ prototypes.T / t)
    labels = []
    for i, given in enumerate(step.labels.tolist()):
        instance -= np.log(np.exp(z[i] @ key[i] / t) / (np.exp(z[i] @ key[i] / t) + np.exp(queue @ z[i] / t).sum()))
        q = method.classifier_share * p[i] + (1 - method.classifier_share) * s[i]
        label = given
        if correct:
            label = int(q.argmax()) if q.max() > method.pseudo_threshold else given if q[given] > 1 / 3 else -1
        labels.append(label)
        if label >= 0:
            classes -= np.log(p[i, label])
            prototype -= np.log(s[i, label])
    used = max(1, sum(label >= 0 for label in labels))
    return classes / used, instance / len(labels), prototype / used, labels, z, key


LABELS = [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(("epoch", "correct"), [(0.5, False), (1.2, False), (2.0, True), (7.9, True)])
def test_the_loss_is_its_formula(epoch, correct):
    """Of ten epochs two are not corrected; the first has no prototypes."""
    method, network = ready(uncleaned_share=0.2, instance_weight=0.5, prototype_weight=2.0, pseudo_threshold=0.6)
    step = step_of(network, LABELS, epoch=epoch)
    classes, instance, prototype, labels, _, _ = reference(method, network, step, correct)
    if correct:
        assert -1 in labels
        assert any(a != b for a, b in zip(labels, LABELS, strict=True) if a >= 0)
    found = {name: loss.detach() for name, loss in method.losses(step).items()}
    assert float(found["class_loss"]) == pytest.approx(classes, rel=1e-5)
    assert float(found["instance_loss"]) == pytest.approx(instance, rel=1e-5)
    assert float(found["prototype_loss"]) == pytest.approx(prototype, rel=1e-5)
    assert float(found["loss"]) == pytest.approx(classes + 0.5 * instance + 2 * prototype * (epoch >= 1), rel=1e-5)
    assert float(found["learnt_share"]) == pytest.approx(sum(label >= 0 for label in labels) / 6)


def test_the_gradient_is_that_of_the_formula():
    """Of the projector's bias: finite differences of the reference, whose labels, queue and keys stay what they are."""
    method, network = ready(uncleaned_share=0.0)
    step, bias = step_of(network, LABELS), network.head.projector.bias
    loss, queue, prototypes = method.losses(step)["loss"], method.queue.clone(), network.head.prototypes.data.clone()
    loss.backward()
    assert all(parameter.grad is None for parameter in method.averaged.parameters())
    method, network = ready(uncleaned_share=0.0)
    bias_2 = network.head.projector.bias
    for place in range(4):
        values = []
        for moved in (1e-3, -1e-3):
            with torch.no_grad():
                bias_2[place] += moved
            classes, instance, prototype, *_ = reference(method, network, step, True)
            values.append(classes + instance + prototype)
            with torch.no_grad():
                bias_2[place] -= moved
        assert float(bias.grad[place]) == pytest.approx((values[0] - values[1]) / 2e-3, abs=2e-3)
    assert not torch.equal(queue, method.queue)
    assert not torch.equal(prototypes, network.head.prototypes.data)


def test_prototypes_and_queue_follow_a_step():
    method, network = ready(uncleaned_share=0.2, prototype_momentum=0.9, pseudo_threshold=0.6)
    step = step_of(network, LABELS)
    _, _, _, labels, z, key = reference(method, network, step, True)
    expected, queue = float64(network.head.prototypes), float64(method.queue)
    for label, row in zip(labels, z, strict=True):  # one sample after the other
        if label >= 0:
            expected[label] = 0.9 * expected[label] + 0.1 * row
    method.losses(step)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(float64(network.head.prototypes), expected, atol=1e-6)
    queue[:6] = key
    np.testing.assert_allclose(float64(method.queue), queue, atol=1e-6)
    assert int(method.place) == 6


def test_the_queue_goes_round():
    method, _ = ready()
    keys = torch.arange(20.0)[:, None].expand(20, 4)
    method.queue.fill_(-1)
    method.enqueue(keys[:6])
    method.enqueue(keys[6:11])
    assert method.queue[:, 0].tolist() == [8, 9, 10, 3, 4, 5, 6, 7]
    method.enqueue(keys)  # more than it holds: the last ones
    assert sorted(method.queue[:, 0].tolist()) == list(range(12, 20))


def test_the_queue_is_no_longer_than_half_the_samples():
    assert begun(MoPro(), tiny(), samples=40).queue.shape == (20, 4)
    assert begun(MoPro(), tiny(), samples=1).queue.shape == (1, 4)
    assert begun(MoPro(queue_size=7), tiny(), samples=40).queue.shape == (7, 4)


def test_the_averaged_network_follows():
    method, network = ready(network_momentum=0.9)
    before = [float64(p) for p in method.averaged.parameters()]
    method.after_step(step_of(network, LABELS))
    for old, now, own in zip(before, method.averaged.parameters(), network.parameters(), strict=True):
        np.testing.assert_allclose(float64(now), 0.9 * old + 0.1 * float64(own), atol=1e-6)


def test_a_run_begins_with_no_prototypes_and_trains_the_projector():
    network = tiny()
    method = begun(MoPro(), network)
    assert not network.head.prototypes.any()
    assert [p.shape for p in method.parameters_of(0)] == [(4, 6), (4,)]
    assert "network" not in " ".join(method.state_dict())
    method.losses(step_of(network, [0, 1, 0, 1, 0, 1], epoch=0.0))
    assert network.head.prototypes.norm(dim=1).tolist() == pytest.approx([1, 1, 0], abs=1e-6)  # class 2: not seen


def test_nothing_chosen_leaves_the_instance_loss():
    """Of a classifier and prototypes that are sure of another class, but not sure enough to relabel."""
    method, network = ready(uncleaned_share=0.0, pseudo_threshold=1.0)
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
        network.head.prototypes.zero_()
    found = method.losses(step_of(network, [1, 2]))  # q = (0 + 1/3) / 2 of the given class
    assert float(found["learnt_share"]) == 0
    assert float(found["class_loss"]) == float(found["prototype_loss"]) == 0
    assert torch.equal(found["loss"], found["instance_loss"])
    found["loss"].backward()
    assert torch.isfinite(network.backbone.linear.weight.grad).all()


def test_two_classes_and_a_batch_of_two():
    network = tiny(classes=2)
    method = begun(MoPro(), network, classes=2, samples=2)
    assert torch.isfinite(method.losses(step_of(network, [0, 1]))["loss"])


def test_labels_are_ranked_by_the_soft_label():
    method, network = ready(classifier_share=0.25)
    labels = torch.tensor([0, 1, 2, 0])
    features = torch.tanh(torch.randn(4, 6, generator=torch.Generator().manual_seed(5)))
    z = torch.nn.functional.normalize(network.head.projector(features), dim=1)
    s = softmax(float64(z @ network.head.prototypes.t()) / 0.1)
    p = torch.tensor([[0.7, 0.2, 0.1]] * 4)
    evidence = evidence_of(torch.zeros(4), None, p, labels, features)
    heads = (network.head, network.head)
    task = whole_set_task(torch.arange(4), labels, labels, (evidence, evidence), heads, (None, None), 1.0, 0)
    result = method.judge.clean(task)
    expected = 0.25 * np.array([0.7, 0.2, 0.1, 0.7]) + 0.75 * s[np.arange(4), labels.numpy()]
    np.testing.assert_allclose(float64(result.estimates[0].clean_probability), expected, atol=1e-6)
    assert result.threshold == pytest.approx(1 / 3)


OUT_OF_RANGE = {
    "instance_weight": -1, "prototype_weight": -1, "temperature": 0, "network_momentum": 1, "prototype_momentum": 1.0,
    "queue_size": 0, "uncleaned_share": 1.5, "classifier_share": -0.1, "pseudo_threshold": 0.4,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE.items(), ids=OUT_OF_RANGE)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}={value}: must"):
        MoPro(**{name: value})
