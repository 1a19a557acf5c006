"""Ridge regression by Gram matrices: the weights that best restore a layer's outputs."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# So many numbers of rows are held in float64 at once, 128 MiB.
MOST_NUMBERS = 2**24


class Gram:
    """Sums over rows from which a ridge regression is solved, in float64.

    Args:
        columns: Number of columns of the inputs.
        outputs: Number of columns of the targets.
        device: Where the sums are held.

    Attributes:
        inputs: The Gram matrix of the inputs, (columns, columns).
        products: The products of inputs and targets, (columns, outputs).
        targets: The sum of the squared targets.
    """

    def __init__(self, columns: int, outputs: int, device: torch.device) -> None:
        options = {"dtype": torch.float64, "device": device}
        self.inputs = torch.zeros(columns, columns, **options)  # type: ignore[call-overload]
        self.products = torch.zeros(columns, outputs, **options)  # type: ignore[call-overload]
        self.targets = 0.0
        self.count = 0

    def add_(self, rows: Tensor, targets: Tensor) -> None:
        """Add rows of inputs, (n, columns), and of targets, (n, outputs)."""
        rows, targets = rows.double(), targets.double()
        self.inputs += rows.T @ rows
        self.products += rows.T @ targets
        self.targets += float(targets.square().sum())
        self.count += targets.numel()

    def error(self, weights: Tensor) -> float:
        """Compute the mean squared error of weights (columns, outputs) on the rows added."""
        fitted = (weights * (self.inputs @ weights - 2 * self.products)).sum()
        return max(float(fitted) + self.targets, 0.0) / max(self.count, 1)

    def solve(self, start: Tensor, ridge: float) -> Tensor:
        """Return the ridge solution, drawn towards the weights at the start rather than zero.

        So the error is never above that of the start, and inputs that tell nothing change nothing.

        Args:
            start: Weights, (columns, outputs).
            ridge: The penalty, over the mean of the Gram matrix's diagonal, > 0.
        """
        penalty = ridge * float(self.inputs.diagonal().mean())
        if not penalty > 0:
            return start
        matrix = self.inputs.clone()
        matrix.diagonal().add_(penalty)
        slope = self.products - self.inputs @ start
        change: Tensor = torch.linalg.solve(matrix, slope)
        return start + change


def rows_of(layer: nn.Module, x: Tensor, channels: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Yield what a layer multiplies its weights with, as rows of one output place each.

    Args:
        layer: A Conv2d without groups, or a Linear.
        x: Its input.
        channels: The input channels that count.

    Yields:
        For some images the first and the last but one, and their rows (places, columns), in the
        order of `outputs_of`; the last column is 1 where the layer has a bias.
    """
    x = x.index_select(1 if isinstance(layer, nn.Conv2d) else -1, channels)
    step = max(1, MOST_NUMBERS // max(1, _numbers(layer, x[:1])))
    for start in range(0, len(x), step):
        rows = _unfolded(layer, x[start : start + step])
        if layer.bias is not None:
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        yield start, min(start + step, len(x)), rows


def outputs_of(layer: nn.Module, y: Tensor, channels: Tensor) -> Tensor:
    """Return a layer's output as rows of one place each, (places, channels)."""
    y = y.movedim(1, -1) if isinstance(layer, nn.Conv2d) else y
    return y.index_select(-1, channels).flatten(0, -2)


def weights_of(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Return the weights between some channels, with the bias if any, (columns, outputs)."""
    weight: Tensor = layer.weight.detach()  # type: ignore[operator]
    chosen = weight.index_select(0, outputs).index_select(1, inputs).flatten(1).double()
    if layer.bias is not None:
        bias = layer.bias.detach().index_select(0, outputs)  # type: ignore[operator]
        chosen = torch.cat([chosen, bias[:, None].double()], 1)
    return chosen.T.contiguous()


@torch.no_grad()
def set_weights_(layer: nn.Module, inputs: Tensor, outputs: Tensor, weights: Tensor) -> None:
    """Set the weights between some channels, and the bias if there is one, in place."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    rows = weights.T
    if layer.bias is not None:
        layer.bias.index_copy_(0, outputs, rows[:, -1].to(weight))  # type: ignore[operator]
        rows = rows[:, :-1]
    shape = (len(outputs), len(inputs), *weight.shape[2:])
    changed = weight.index_select(0, outputs)
    changed.index_copy_(1, inputs, rows.reshape(shape).to(weight))
    weight.index_copy_(0, outputs, changed)


def _numbers(layer: nn.Module, x: Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        kernel, stride = layer.kernel_size, layer.stride
        return x.numel() * kernel[0] * kernel[1] // (int(stride[0]) * int(stride[1]))
    return x.numel()


def _unfolded(layer: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(layer, nn.Conv2d):
        return x.flatten(0, -2)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    # In the order of `F.pad`, also where the padding is called `same`.
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    patches = F.unfold(x, layer.kernel_size, dilation=layer.dilation, stride=layer.stride)
    return patches.transpose(1, 2).flatten(0, 1)
