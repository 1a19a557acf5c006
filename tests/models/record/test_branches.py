"""Blocks that lost their residual branch: what they compute, and their record."""

import json

import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.record.branches import ShortcutBlock, rebuild_, record, replace_


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, 1, 2)
        self.act = nn.LeakyReLU(0.5)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), Block(), nn.Conv2d(6, 2, 1))


@pytest.mark.parametrize(
    ("shortcut", "activation", "wanted"),
    [
        ("", "", lambda x, _: x),
        ("", "relu", lambda x, _: x.clamp(min=0)),
        ("down", "act", lambda x, block: torch.where(x > 0, x, 0.5 * x)),
    ],
)
def test_a_block_is_an_activation_of_its_shortcut_plus_a_constant(shortcut, activation, wanted):
    block, x = Block(), torch.randn(2, 4, 6, 6)
    channels = 6 if shortcut else 4
    small = ShortcutBlock(block, shortcut, activation, channels, 2)
    constant = torch.randn(channels)
    small.constant.data.copy_(constant)
    through = block.down(x) if shortcut else x
    assert torch.equal(small(x), wanted(through + constant[:, None, None], block))
    assert "conv.weight" not in small.state_dict()


def test_tokens_have_their_channels_last():
    small = ShortcutBlock(Block(), "", "", 4, 0)
    small.constant.data.copy_(torch.arange(4.0))
    assert torch.equal(small(torch.zeros(2, 5, 4)), torch.arange(4.0).expand(2, 5, 4))


def test_a_block_keeps_mode_type_and_the_names_of_what_stays():
    block = Block().double().eval()
    small = ShortcutBlock(block, "down", "act", 6, 2)
    assert small.constant.dtype == torch.float64
    assert not small.training
    assert set(small.state_dict()) == {"constant", "down.weight", "down.bias"}
    assert small.down is block.down


def test_a_record_rebuilds_the_blocks_of_a_dense_network():
    torch.manual_seed(0)
    cut, x = net(), torch.randn(1, 3, 8, 8)
    replace_(cut, "1", ShortcutBlock(cut[1], "down", "act", 6, 2))
    cut[1].constant.data.normal_()
    plain = json.loads(json.dumps(record(cut)))
    fresh = net()
    assert rebuild_(fresh, plain) == {"1.constant"}
    fresh.load_state_dict(cut.state_dict())
    assert torch.equal(cut(x), fresh(x))
    # What is so already stays as it is.
    before: Tensor = cut[1].constant
    rebuild_(cut, plain)
    assert cut[1].constant is before


GOOD = {"shortcut": "down", "activation": "act", "channels": 6, "trailing": 2}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([1], "branches that are no record"),
        ({"9": GOOD}, "the block '9', which the network lacks"),
        ({"": GOOD}, "the block '', which the network lacks"),
        ({"1": {**GOOD, "shortcut": "up"}}, "no layer 'up' on its shortcut"),
        ({"1": {**GOOD, "shortcut": "constant"}}, "no layer 'constant' on its shortcut"),
        ({"1": {**GOOD, "activation": "tanh"}}, "no layer 'tanh' behind its addition"),
        ({"1": {**GOOD, "channels": "6"}}, "'1' that is no shortcut with a constant"),
        ({"1": {**GOOD, "more": 6}}, "'1' that is no shortcut with a constant"),
        ({"1": {**GOOD, "channels": 10**9}}, "1000000000 channels"),
        ({"1": {**GOOD, "trailing": -1}}, "before -1 dimensions"),
    ],
)
def test_hostile_records_are_refused(entries, message):
    with pytest.raises(BadInput, match=message):
        rebuild_(net(), entries)
