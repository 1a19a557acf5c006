"""The parts of residual blocks, read off what they compute."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regrow.prune.depth.blocks import NoBranch, parts_of


class Block(nn.Module):
    def __init__(self, ends: Callable[..., Tensor], outputs: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, outputs, 1)
        self.norm, self.down = nn.BatchNorm2d(outputs), nn.Conv2d(4, outputs, 1)
        self.act, self.drop, self.ends = nn.ReLU(inplace=True), nn.Dropout(), ends

    def forward(self, x: Tensor) -> Tensor:
        return self.ends(self, x, self.norm(self.second(F.relu(self.first(x)))))


def _in_place(block: Block, x: Tensor, branch: Tensor) -> Tensor:
    branch += block.down(x)
    return block.act(branch)


@pytest.mark.parametrize(
    ("ends", "outputs", "shortcut", "activation"),
    [
        (lambda _, x, branch: x + branch, 4, "", ""),
        (lambda _, x, branch: F.relu(branch + x), 4, "", "relu"),
        (lambda block, x, branch: block.act(torch.add(x, branch)), 4, "", "act"),
        (_in_place, 7, "down", "act"),
        # It does nothing here, but must stay for training.
        (lambda block, x, branch: block.drop(x + branch), 4, "", "drop"),
    ],
)
def test_the_parts_of_a_block_and_what_its_branch_gives(ends, outputs, shortcut, activation):
    block, x = Block(ends, outputs).eval(), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        branch = block.norm(block.second(F.relu(block.first(x))))
    found = parts_of(block, x, ["second"])
    assert (found.shortcut, found.activation, found.reader) == (shortcut, activation, "second")
    assert torch.equal(found.given, branch)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (lambda _, x, branch: branch, "does not end in a sum"),
        (lambda _, x, branch: torch.tanh(x + branch), "does not end in a sum"),
        (lambda _, x, branch: x * branch, "does not end in a sum"),
        (lambda _, x, branch: torch.add(x, branch, alpha=2), "does not end in a sum"),
        (lambda _, x, branch: x + branch.mean((2, 3), keepdim=True), "does not end in a sum"),
        (lambda _, x, branch: x + branch * x, "sees its input through these channels alone"),
        (lambda _, x, branch: 2 * x + branch, "sees its input through these channels alone"),
        (lambda block, x, branch: block.act(x).exp() + branch, "through these channels alone"),
        (lambda _, x, branch: (x, branch), "gives no single tensor"),
    ],
)
def test_what_is_no_residual_block_is_refused(ends, message):
    with pytest.raises(NoBranch, match=message):
        parts_of(Block(ends).eval(), torch.randn(2, 4, 5, 5), ["second"])


def test_a_branch_must_read_the_channels_in_question():
    block = Block(lambda _, x, branch: x + branch).eval()
    with pytest.raises(NoBranch, match="through these channels alone"):
        parts_of(block, torch.randn(2, 4, 5, 5), ["down"])


def test_a_branch_that_two_layers_end_is_refused():
    block = Block(lambda block, x, branch: x + (branch + block.down(x))).eval()
    with pytest.raises(NoBranch, match="down and second"):
        parts_of(block, torch.randn(2, 4, 5, 5), ["second", "down"])
