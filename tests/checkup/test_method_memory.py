"""What mode=check counts of each method, against the tensors that a run of it really has."""

import copy
from pathlib import Path

import cpc_lightning.conf
import pytest
import torch
from tests.checkup.test_examine import FINE

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.backbones.network import Network
from cpc_lightning.checkup.examine import Examination
from cpc_lightning.checkup.findings import Findings
from cpc_lightning.methods.method import Method

METHODS = sorted(path.stem for path in Path(cpc_lightning.conf.__path__[0], "method").glob("*.yaml"))
N, K, D = 1438, 10, 32  # digits; features of a small_resnet of width 8
NETWORK = 18_152 + (D * K + K)  # backbone and classifier; the head's projector D -> 16 and K prototypes
HEAD = 16 * D + K * 16
SSR = D * 256 + 256 + 2 * 256 + 256 * 128 + 128 + 128 * 256 + 256 + 2 * 256 + 256 * 128 + 128
"""Projector and predictor: two linear layers with a BatchNorm between them, each."""
BY_HAND = {  # what an optimizer trains of it, and memories: numbers of 4 bytes
    "codivide": (0, 0), "label_smoothing": (0, 0), "gjs": (0, 0), "co_teaching": (0, 0), "ngc": (0, 0),
    "elr": (0, N * K), "elr_plus": (0, 2 * N * K), "ncr": (0, 0), "longremix": (0, 0), "mopro": (0, 0),
    "ssr": (SSR, 0), "promix": (2 * (D * K + K), 0), "protomix": (16 * D + D, 0),
}  # fmt: skip


def bytes_of(tensors):
    """Of different tensors."""
    return sum({id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}.values())


def flat(state):
    """All tensors of a state dict, those of memories too."""
    found = []
    for value in state.values():
        found += flat(value) if isinstance(value, dict) else [value]
    return found


@pytest.mark.parametrize("name", METHODS)
def test_the_estimate_is_what_a_method_really_has(compose, name):
    settings = plain(compose(f"method={name}", "backbone.width=8", "embedding_size=16"))
    parts = Parts(settings)
    examination = Examination(Parts(settings), None, Findings())
    network = parts.make_network(parts.dataset)
    before = copy.deepcopy(network.state_dict())
    estimate = examination.method_bytes(network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    module = parts.module
    assert estimate.device == bytes_of(flat(module.method.state_dict()))
    kept = getattr(module.method, "first_weights", [])
    assert estimate.host == bytes_of([tensor for weights in kept for tensor in weights.values()])
    of_networks = {id(p) for net in module.networks for p in net.parameters()}
    grown = {}
    for optimizer in module.configure_optimizers()[0][:2]:
        own = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in of_networks]
        for parameter in own:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        grown |= {id(p): bytes_of([p.grad, optimizer.state[p]["momentum_buffer"]]) for p in own}
    assert 2 * estimate.trained == sum(grown.values())

    trained, remembered = BY_HAND[name]
    assert estimate.trained == 4 * trained
    averages = sum(isinstance(part, Network) for part in module.method.modules())
    assert averages == {"elr_plus": 2, "mopro": 1}.get(name, 0)
    least = 4 * (trained + remembered + averages * (NETWORK + HEAD))
    assert least <= estimate.device < least + 4 * (averages * 500 + 1000 + 8192 * 16)  # BatchNorm's, mean, queue
    assert estimate.host == (2 * bytes_of(network.state_dict().values()) if name == "longremix" else 0)


def test_a_method_of_one_network_needs_half_of_what_two_need(findings):
    found = {}
    for name in ("label_smoothing", "co_teaching", "elr"):
        words = findings(*FINE, f"method={name}")["memory", "ok"].partition("networks and optimizers ")[2]
        found[name] = words.partition(",")[0], words.rpartition("images ")[2].removesuffix(" >")
    # Backbone, classifier and head in float32 with gradient and momentum, statistics of BatchNorm besides: 2 x 128
    # numbers and 7 counters of int64.
    one = 3 * 4 * (NETWORK + HEAD)
    assert float(found["label_smoothing"][0].split()[0]) == pytest.approx(one / 1000, rel=0.02)
    assert float(found["co_teaching"][0].split()[0]) == pytest.approx(2 * one / 1000, rel=0.02)
    assert "own" not in found["co_teaching"][1]
    assert found["elr"][1].endswith("of the method's own 57.5 kB")  # 1,438 x 10 x 4 bytes


class Reads(Method):
    """A method that looks at what is in its tensors."""

    def begin(self, beginning):
        self.highest = float(torch.zeros(beginning.num_samples).max())

    def losses(self, step):
        return {}


def test_a_method_that_reads_its_tensors_is_said_to_need_what_nobody_can_tell(findings):
    rows = findings(*FINE, "cleaner=none", f"method._target_={__name__}.Reads")
    assert "cannot be told" in rows["method", "warning"]
