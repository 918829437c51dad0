"""What makes it fast changes nothing of what is learnt, and no step does more than it has to."""

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from tests.device import DEVICE, to_device, waits_are
from tests.steps import GRAY, batch, build_module
from torch import nn

from cpc_lightning.backbones.layout import match_layout
from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.views import autoaugment
from cpc_lightning.views.policies import POLICIES

pytestmark = pytest.mark.long

# Everything that a step can do: AutoAugment's operations and an unlabeled half that is forwarded.
# A narrower network would keep out of channels last.
WIDTH = "backbone.width=16"
GRAY_STEP = ("semisup.lambda_u=25", "semisup.rampup_epochs=0", "views.policy=symbols", WIDTH)
# Those of colours, too, and equalize, which leaves images of fewer than 256 pixels as they are.
COLOR = (3, 16, 16)
COLOR_STEP = (
    "semisup.lambda_u=25", "views.policy=cifar10", "views.size=16", "views.padding=2", "views.flip=true",
    "views.mean=[0.49,0.48,0.45]", "views.std=[0.2,0.2,0.2]", WIDTH,
)  # fmt: skip


@pytest.fixture
def make_module(compose, small, monkeypatch):
    """Makes modules of gray images, all with the same weights, from overrides of the config and options."""
    return lambda *more, **options: build_module(compose(*small, *GRAY_STEP, *more), monkeypatch, **options)


@pytest.fixture
def make_color_module(compose, small, monkeypatch):
    """The same of colour images."""
    return lambda *more, **options: build_module(compose(*small, *COLOR_STEP, *more), monkeypatch, COLOR, **options)


def train(module: CoTrainingModule, steps: int = 3, autocast: bool = False, image=GRAY) -> dict[str, torch.Tensor]:
    """The weights after some steps of each network, in warm-up and in stage 2."""
    device = next(module.parameters()).device
    torch.manual_seed(0)  # of views and mixup, which are drawn on the CPU
    with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
        for step in range(steps):
            for number in (0, 1):
                for warmup in (True, False):
                    module.training_step(on(device, batch(number, warmup, image=image)), step)
    return {name: value.to("cpu", copy=True) for name, value in module.networks.state_dict().items()}


def on(device, batch: dict) -> dict:
    return {name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in batch.items()}


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], start: dict[str, torch.Tensor]) -> float:
    """The largest distance between two trained weights, as a share of how far training moved that tensor."""
    assert one.keys() == other.keys()
    shares = [
        (one[name] - other[name]).norm() / (one[name] - start[name]).norm()
        for name in one
        if one[name].is_floating_point() and not torch.equal(one[name], start[name])
    ]
    assert shares
    return float(max(shares))


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], start: dict[str, torch.Tensor]) -> float:
    """The distance between all trained weights, as a share of how far training moved them.

    For rough arithmetic: of single small tensors a tenth is noise, where all of them differ by a twentieth. Training
    without the unlabeled loss ends 0.11 apart, with six seeds.
    """
    names = [name for name in one if one[name].is_floating_point() and "running" not in name]
    one, other, start = (torch.cat([weights[name].flatten() for name in names]) for weights in (one, other, start))
    return float((one - other).norm() / (one - start).norm())


@pytest.fixture
def plain(make_module):
    """Weights before and after training in the plainest way: NCHW, float32, no fused step."""
    module = make_module("optimizer.network.fused=false")
    start = {name: value.clone() for name, value in module.networks.state_dict().items()}
    return start, train(module)


def test_channels_last_and_fused_steps_train_the_same_weights(make_module, plain):
    start, expected = plain
    module = make_module(channels_last=True)
    weight = module.network(0).backbone.stages[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert furthest(train(module), expected, start) < 1e-3  # float32 sums in another order, over three steps


def test_bfloat16_trains_nearly_the_same_weights(make_module, plain):
    """8 bits of mantissa: with six seeds, 0.048 to 0.061."""
    start, expected = plain
    assert apart(train(make_module(channels_last=True), autocast=True), expected, start) < 0.09


def test_momentum_saved_in_another_memory_order_is_reordered(make_module):
    """Fused steps go through memory without a look at strides: each weight would get its neighbour's momentum."""
    saved = make_module()
    train(saved)
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in saved.optimizers()[:2]]
    weights = copy.deepcopy(saved.networks.state_dict())
    expected = train(saved)

    module = make_module(channels_last=True)
    module.networks.load_state_dict(weights)
    for optimizer, state in zip(module.optimizers(), states, strict=False):
        optimizer.load_state_dict(state)
        match_layout(optimizer)
    assert furthest(train(module), expected, weights) < 1e-3


@pytest.fixture
def graphs(monkeypatch):
    """Counts what torch.compile compiles, and runs it without generating code."""
    seen = []

    def backend(graph, inputs):
        seen.append(SimpleNamespace(inputs=inputs))
        return graph.forward

    compile = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compile(self, backend=backend, **options))
    monkeypatch.setattr("cpc_lightning.training.module.require_compiler", lambda: None)
    torch._dynamo.reset()
    yield seen
    torch._dynamo.reset()


def test_compiled_networks_train_the_same_weights_under_the_same_names(make_module, plain, graphs):
    start, expected = plain
    module = make_module("optimizer.network.fused=false", compile=True)
    assert furthest(train(module), expected, start) < 1e-3
    assert graphs
    plain_module = make_module()
    plain_module.load_state_dict(module.state_dict())  # strict: checkpoints of either are the other's


def sizes_of(inputs) -> list:
    """Every size of every input of a compiled graph; where a size is left open, no int."""
    return [size for tensor in inputs for size in getattr(tensor, "shape", [tensor])]


def test_compiled_code_has_its_sizes_built_in(make_module, graphs):
    """Left to itself, torch.compile makes code for any size, which is slower, from the second size on."""
    module = make_module(compile=True)
    for unlabeled in (6, 4):
        module.training_step(batch(0, False, unlabeled), 0)
    assert len(graphs) == 6  # the guess, the peer's, the risk
    assert {type(size) for graph in graphs for size in sizes_of(graph.inputs)} == {int}


def test_partitions_of_other_sizes_run_the_code_there_is(make_module, graphs):
    """Of 40 images 12, 31 and 24 are labeled: the batches have one shape all the same."""
    pixels = torch.randint(0, 256, (40, *GRAY), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(ArrayImages(pixels), torch.arange(40) % 10)
    datamodule = CoTrainingDataModule(ImageDataset("set", tuple("0123456789"), split, {"test": split}), 6, seed=1)
    module, compiled = make_module(compile=True), []
    for labeled in (12, 31, 24):
        probability = (torch.arange(40) < labeled).float()
        partition = Partition.from_probability(torch.arange(40), probability, 0.5)
        datamodule.partitions = partition, partition
        for place, each in enumerate(datamodule.train_dataloader()):
            module.training_step(each, place)
        compiled.append(len(graphs))
    assert compiled == [3, 3, 3]  # the guess, the peer's, the risk


def test_nothing_is_compiled_anew_once_every_kind_of_pass_was_seen(make_module, graphs):
    """Other samples, other networks and partial batches of evaluation keep the compiled code."""
    module = make_module(compile=True)

    def epoch(*evaluation_batches: int) -> None:
        train(module, steps=1)
        module.eval()
        with torch.no_grad():
            for size in evaluation_batches:
                module.evaluate(torch.zeros(size, 1, 8, 8, dtype=torch.uint8))

    epoch(16, 5)
    compiled = len(graphs)
    epoch(16, 16, 3)
    epoch(16, 7, 16, 1)
    assert len(graphs) == compiled
    # Warm-up, guess, risk; the peer's guess and evaluation: five kinds of pass, which both networks share.
    assert compiled == 5


@pytest.mark.slow
def test_generated_code_trains_the_same_weights(make_module, plain):
    start, expected = plain
    assert furthest(train(make_module(channels_last=True, compile=True)), expected, start) < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("overrides", "options", "tf32", "autocast", "distance", "tolerance"),
    [
        # Sums in another order: 1e-4 between orders of memory on a CPU, and more where a ReLU is at its kink.
        pytest.param(["optimizer.network.fused=false"], {}, False, False, furthest, 1e-2, id="float32"),
        pytest.param([], {}, False, False, furthest, 1e-2, id="fused"),
        pytest.param([], {"channels_last": True}, False, False, furthest, 1e-2, id="channels_last"),
        pytest.param([], {"compile": True}, False, False, furthest, 1e-2, id="compile", marks=pytest.mark.slow),
        # Factors of 11 and 8 bits: 0.005 to 0.035 and 0.048 to 0.061 on a CPU that rounds so, with six seeds.
        pytest.param([], {"channels_last": True}, True, False, apart, 0.06, id="TF32"),
        pytest.param([], {"channels_last": True}, True, True, apart, 0.09, id="bfloat16"),
    ],
)
def test_a_device_trains_the_weights_that_the_cpu_trains_in_float32(
    make_module, plain, monkeypatch, overrides, options, tf32, autocast, distance, tolerance
):
    """Each speed-up of a GPU, on the very same views: those that a device makes have a test of their own."""
    start, expected = plain
    matmul = torch.get_float32_matmul_precision()
    module = make_module(*overrides, device=DEVICE, **options)
    for name in ("weak", "strong"):
        make = getattr(module.views, name)
        monkeypatch.setattr(
            module.views, name, lambda images, *more, make=make: make(images.cpu(), *more).to(images.device)
        )
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        assert distance(train(module, autocast=autocast), expected, start) < tolerance
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch._dynamo.reset()


@pytest.mark.gpu
@pytest.mark.parametrize("warmup", [True, False])
def test_a_step_does_not_wait_for_the_device(make_color_module, monkeypatch, warmup):
    ran = set()

    def listening(name, operation):
        return lambda *arguments: ran.add(name) or operation(*arguments)

    module = make_color_module(channels_last=True, device=DEVICE)
    for name, operation in autoaugment.POINTWISE.items():
        monkeypatch.setitem(autoaugment.POINTWISE, name, listening(name, operation))
    monkeypatch.setattr(autoaugment, "warp", listening("warp", autoaugment.warp))

    def step() -> None:
        on_device = {
            name: to_device(value) if isinstance(value, torch.Tensor) else value
            for name, value in batch(0, warmup, image=COLOR).items()
        }
        with torch.autocast(DEVICE, torch.bfloat16):
            module.training_step(on_device, 0)

    torch.manual_seed(5)
    step()  # lets constants move to the device
    ran.clear()
    with waits_are("error"):
        for _ in range(20):
            step()
    of_policy = {name for pair in POLICIES["cifar10"] for name, _, _ in pair}
    assert ran == (set() if warmup else {"warp", *of_policy - set(autoaugment.GEOMETRIC)})


@pytest.mark.gpu
def test_evaluation_does_not_wait_for_the_device(make_module):
    module = make_module(channels_last=True, device=DEVICE).eval()
    asked = on(DEVICE, {"images": torch.zeros(4, *GRAY, dtype=torch.uint8), "labels": torch.zeros(4).long()})
    module.validation_step(asked, 0)
    with waits_are("error"), torch.no_grad():
        module.validation_step(asked, 1)


# ---- what no step needs is not made


@pytest.mark.parametrize(
    ("warmup", "unlabeled", "policy", "weak", "strong"),
    [
        (True, 6, "symbols", 6, 0),
        (False, 6, "symbols", 12 + 12, 12 + 12),  # two of each image, labeled and unlabeled
        (False, 0, "symbols", 12, 12),
        (True, 6, "weak", 6, 0),
        (False, 6, "weak", 12 + 12, 0),  # DivideMix trains on what it guesses on
        (False, 0, "weak", 12, 0),
    ],
)
def test_only_the_views_that_a_step_uses_are_made(make_module, monkeypatch, warmup, unlabeled, policy, weak, strong):
    module = make_module(f"views.policy={policy}")
    make_weak, make_strong = module.views.weak, module.views.strong
    made = {"weak": 0, "strong": 0}

    def count_weak(images, *more):
        made["weak"] += len(images)
        return make_weak(images, *more)

    def count_strong(images, *more):
        before = made["weak"]
        views = make_strong(images, *more)
        made.update(weak=before, strong=made["strong"] + len(images))  # they start as weak ones
        return views

    monkeypatch.setattr(module.views, "weak", count_weak)
    monkeypatch.setattr(module.views, "strong", count_strong)
    module.training_step(batch(0, warmup, unlabeled), 0)
    assert made == {"weak": weak, "strong": strong}
