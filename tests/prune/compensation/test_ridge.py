"""Ridge regression by Gram matrices, against NumPy's least squares and the layers themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from regrow.prune.compensation.ridge import (
    Gram,
    outputs_of,
    rows_of,
    set_weights_,
    weights_of,
)


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(60, 5, generator=draw), torch.randn(60, 3, generator=draw)


def test_a_small_ridge_gives_the_least_squares_of_numpy(
    rows: tuple[torch.Tensor, torch.Tensor],
) -> None:
    inputs, targets = rows
    gram = Gram(5, 3, torch.device("cpu"))
    for part in range(0, 60, 17):  # in parts that are added up
        gram.add_(inputs[part : part + 17], targets[part : part + 17])
    found = gram.solve(torch.zeros(5, 3).double(), 1e-12)
    expected = np.linalg.lstsq(inputs.double().numpy(), targets.double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    residue = targets.double().numpy() - inputs.double().numpy() @ expected
    assert gram.error(found) == pytest.approx((residue**2).mean(), rel=1e-9)


@pytest.mark.parametrize("ridge", [1e-6, 1.0, 1e6])
def test_the_error_is_never_above_that_of_the_start(
    rows: tuple[torch.Tensor, torch.Tensor], ridge: float
) -> None:
    inputs, targets = rows
    gram = Gram(5, 3, torch.device("cpu"))
    gram.add_(inputs, targets)
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    assert gram.error(gram.solve(start, ridge)) <= gram.error(start)


def test_an_input_that_tells_nothing_keeps_its_weights() -> None:
    inputs = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    inputs[:, 1] = 0
    gram = Gram(2, 1, torch.device("cpu"))
    gram.add_(inputs, inputs[:, :1] * 3)
    found = gram.solve(torch.tensor([[0.0], [7.0]]).double(), 1e-9)
    assert found[0].item() == pytest.approx(3, abs=1e-6)
    assert found[1].item() == 7
    nothing = Gram(2, 1, torch.device("cpu"))
    assert torch.equal(nothing.solve(found, 1.0), found)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, 3, padding="same", bias=False),
        nn.Conv2d(4, 6, (1, 3), dilation=2, padding=(0, 2), padding_mode="reflect"),
        nn.Linear(4, 6),
        nn.Linear(4, 6, bias=False),
    ],
)
def test_rows_times_weights_are_the_outputs_of_the_layer(layer: nn.Module) -> None:
    shape = (3, 4, 8, 9) if isinstance(layer, nn.Conv2d) else (3, 5, 4)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    every, some = torch.arange(4), torch.tensor([5, 1])
    weights = weights_of(layer, every, some)
    rows = torch.cat([own for _, _, own in rows_of(layer, x, every)]).double()
    with torch.no_grad():
        expected = outputs_of(layer, layer(x), some)
    torch.testing.assert_close((rows @ weights).float(), expected, atol=1e-5, rtol=1e-5)


def test_weights_are_set_between_the_chosen_channels_alone() -> None:
    layer = nn.Conv2d(4, 3, 3)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()  # type: ignore[union-attr]
    inputs, outputs = torch.tensor([0, 2]), torch.tensor([1])
    wanted = torch.arange(19.0).double()[:, None]
    set_weights_(layer, inputs, outputs, wanted)
    assert torch.equal(weights_of(layer, inputs, outputs), wanted)
    assert layer.bias is not None
    assert layer.bias[1].item() == 18  # the last column is that of the bias
    changed = (layer.weight != before[0]).flatten(2).any(2)
    assert changed.tolist() == [[False] * 4, [True, False, True, False], [False] * 4]
    assert torch.equal(layer.bias[[0, 2]], before[1][[0, 2]])
