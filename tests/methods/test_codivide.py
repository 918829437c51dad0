"""Co-division where targets are certain; its other steps are tested with the module and the risk."""

import pytest
import torch
from tests.methods.steps_of import Plain, Says, step_of
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.methods.memory import SampleMemory
from cpc_lightning.methods.method import Beginning
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views

LOGITS = [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
TARGETS = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]


@pytest.fixture
def method():
    """With no mixup to speak of, sharpening by T = 0.5 and no penalty."""
    risk = EmpiricalVicinalRisk(lambda_u=0.0, temperature=0.5, mixup_alpha=0.01, prior_weight=0.0)
    made, network = CoDivide(), Says(LOGITS)
    made.begin(Beginning((network, network), None, risk, 3, 2, 10, 1))
    return made


def test_certain_targets_are_learnt_without_asking_anybody(method, monkeypatch):
    """Cross-entropy of the logits against p^2 normalised (T = 0.5), both views alike, nothing mixed (lambda = 1)."""
    monkeypatch.setattr("cpc_lightning.semisup.evr.draw_mixup_lambda", lambda *_: 1.0)
    monkeypatch.setattr(method.risk, "guess", lambda *_: pytest.fail("nobody needs a guess"))
    network = Says(LOGITS)
    step = step_of([network, network], [0, 1, 0], warmup=False, targets=torch.tensor(TARGETS), certain=True, epoch=5.0)
    squares = torch.tensor(TARGETS).square()
    targets = squares / squares.sum(dim=1, keepdim=True)
    expected = -(targets * F.log_softmax(torch.tensor(LOGITS), dim=1)).sum(dim=1).mean()
    assert method.losses(step)["loss"].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(("views", "most", "rows"), [(VectorViews(), 2, 3), (Plain(), 2, 6), (Plain(), 1, 3)])
def test_certain_targets_of_a_vector_are_learnt_from_one_view_of_it(method, views, most, rows):
    """Three samples, of images two views each, unless the risk takes one."""
    method.risk.views = most
    network, seen = Says(LOGITS), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    views.strong = lambda images: images
    step = step_of(
        [network, network], [0, 1, 0], warmup=False, targets=torch.tensor(TARGETS), certain=True, views=views
    )
    method.losses(step)
    assert seen == [rows]


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize(
    ("number", "targets", "second"),
    [(0, None, [0.55, 0.45]), (1, None, [0.325, 0.675]), (0, [[1.0, 0.0], [0.8, 0.2]], [0.5, 0.5])],
)
def test_kept_guesses_are_those_of_the_last_stage_one_and_cost_no_forward(monkeypatch, views, number, targets, second):
    """Two labeled samples (0: w = 1; 1: w = 0.25), one unlabeled (2); T = 0.5 squares, and nothing is mixed.

    Sample 1 is labeled 0 and network 1 said (0.4, 0.6): 0.25 (1, 0) + 0.75 (0.4, 0.6) = (0.55, 0.45); network 2 said
    (0.1, 0.9): (0.325, 0.675). With (0.8, 0.2) in the place of its label: (0.2, 0.05) + (0.3, 0.45) = (0.5, 0.5).
    Of sample 2 the networks said (0.3, 0.7) and (0.5, 0.5): (0.4, 0.6).
    """
    monkeypatch.setattr("cpc_lightning.semisup.evr.draw_mixup_lambda", lambda *_: 1.0)
    risk = EmpiricalVicinalRisk(
        2.0, 0.5, mixup_alpha=0.01, rampup_epochs=0, prior_weight=0.0, views=views, kept_guesses=True
    )
    network, seen = Says(LOGITS), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    method = CoDivide()
    method.begin(Beginning((network, network), None, risk, 3, 2, 10, 1))
    said = torch.tensor([[[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]], [[0.2, 0.8], [0.1, 0.9], [0.5, 0.5]]]).half()
    method.keep(torch.arange(3), (said[0], said[1]))
    step = step_of(
        [network, network], [0, 0], warmup=False, epoch=5.0, clean_probability=torch.tensor([1.0, 0.25]),
        unlabeled_images=torch.tensor([[[2.0]]]), unlabeled_index=torch.tensor([2]), number=number,
        targets=None if targets is None else torch.tensor(targets),
    )  # fmt: skip
    losses = method.losses(step)
    labeled = torch.tensor([[1.0, 0.0], second]).square()
    labeled /= labeled.sum(dim=1, keepdim=True)
    guessed = torch.tensor([0.4**2, 0.6**2]) / (0.4**2 + 0.6**2)
    logits = torch.tensor(LOGITS)
    entropy = -(labeled * F.log_softmax(logits[:2], dim=1)).sum(dim=1).mean()
    assert losses["labeled_loss"].item() == pytest.approx(entropy.item(), abs=1e-3)
    squares = (logits[2].softmax(dim=0) - guessed).square().mean()
    assert losses["unlabeled_loss"].item() == pytest.approx(squares.item(), abs=1e-3)
    assert seen == [3 * views]


def test_before_the_first_pass_a_kept_guess_is_that_any_class_may_be():
    risk = EmpiricalVicinalRisk(0.0, kept_guesses=True)
    method = CoDivide()
    method.begin(Beginning((None, None), None, risk, 3, 4, 10, 1))
    assert [memory.rows.tolist() for memory in method.guesses] == [[[0.25] * 4] * 3] * 2


@pytest.mark.parametrize(
    ("kept", "policy", "images"), [(False, "weak", 3), (False, "none", 6), (True, "none", 3), (True, "weak", 3)]
)
def test_how_many_views_of_an_image_a_step_reads(kept, policy, images):
    views = Views(8, 1, False, policy, [0.5], [0.5])
    assert CoDivide().images_of(views, EmpiricalVicinalRisk(views=3, kept_guesses=kept)) == images


@pytest.mark.parametrize(("more", "images"), [({}, 3), ({"lambda_u": 1.0}, 6), ({"forward_unlabeled": True}, 6)])
def test_how_many_images_a_step_forwards_for_each_sample(more, images):
    assert CoDivide().forwarded(EmpiricalVicinalRisk(**{"lambda_u": 0.0, "views": 3, **more})) == images


def test_a_memory_on_a_gpu_takes_what_a_pass_has_brought_to_the_main_memory():
    """With tensors that have a device and no content: no GPU is needed to see that devices do not meet."""
    with FakeTensorMode():
        memory = SampleMemory(torch.zeros(3, 2, dtype=torch.float16, device="cuda"))
        memory.put(torch.tensor([0, 2]), torch.ones(2, 2, dtype=torch.float16))
        assert memory.rows.device.type == "cuda"


def test_targets_that_are_not_certain_are_refined(method, monkeypatch):
    asked = []
    guess = method.risk.guess
    monkeypatch.setattr(method.risk, "guess", lambda *given: asked.append(1) or guess(*given))
    network = Says(LOGITS)
    step = step_of([network, network], [0, 1, 0], warmup=False, targets=torch.tensor(TARGETS), epoch=5.0)
    method.losses(step)
    assert asked == [1]
