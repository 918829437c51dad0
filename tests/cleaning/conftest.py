from dataclasses import replace

from cpc_lightning.cleaning.evidence import CleaningTask, Draw, Evidence


def evidence_of(losses, loss_history, probabilities, noisy_labels, features):
    """Evidence from a whole softmax (n, K)."""
    confidence, predicted = probabilities.max(dim=1)
    given = probabilities.gather(1, noisy_labels[:, None]).squeeze(1)
    return Evidence(losses, loss_history, given, predicted, confidence, features)


def whole_set_task(index, noisy_labels, true_labels, evidence, *others):
    """A task in which both networks train on all samples, as every data set but Clothing1M has it."""
    draw = Draw(index, noisy_labels, true_labels)
    return CleaningTask((draw, draw), evidence, evidence, *others)


def with_evidence(task, change):
    """The task with `change` applied to the evidence of both networks."""
    evidence = tuple(change(number, one) for number, one in enumerate(task.judging))
    return replace(task, judging=evidence, learning=evidence)
