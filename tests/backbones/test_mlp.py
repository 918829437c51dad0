"""The network of one hidden layer, for vectors."""

import pytest
import torch

from cpc_lightning.backbones.mlp import mlp
from cpc_lightning.errors import InputError


def test_features_are_those_of_the_hidden_layer():
    network = mlp(in_channels=3, width=2, dropout=0.5).eval()
    with torch.no_grad():
        network.hidden.weight.copy_(torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]]))
        network.hidden.bias.copy_(torch.tensor([0.5, -1.0]))
    assert network(torch.tensor([[3.0, 1.0, 1.0], [0.0, 0.0, 1.0]])).tolist() == [[2.5, 1.0], [0.0, 0.0]]
    assert network.feature_size == 2


def test_dropout_is_for_training_alone():
    network = mlp(in_channels=4, width=1000, dropout=0.25)
    with torch.no_grad():
        network.hidden.weight.zero_()
        network.hidden.bias.fill_(3.0)
    vectors = torch.zeros(20, 4)
    trained = network(vectors)
    assert set(trained.flatten().tolist()) == {0.0, 4.0}
    assert (trained == 0).float().mean().item() == pytest.approx(0.25, abs=0.015)
    assert (network.eval()(vectors) == 3).all()


def test_weights_of_a_file(tmp_path):
    first = mlp(in_channels=3, width=4)
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    again = mlp(in_channels=3, width=4, weights=str(tmp_path / "weights.pt"))
    assert torch.equal(first.hidden.weight, again.hidden.weight)
    with pytest.raises(InputError, match="does not fit the model"):
        mlp(in_channels=5, width=4, weights=str(tmp_path / "weights.pt"))


def test_what_does_not_fit():
    for settings, says in (({"width": 1}, "width"), ({"dropout": 1.0}, "dropout"), ({"width": 2**17}, "width")):
        with pytest.raises(InputError, match=says):
            mlp(in_channels=3, **settings)
    with pytest.raises(ValueError, match="takes vectors, and these are images"):
        mlp(in_channels=3)(torch.zeros(1, 3, 8, 8))
