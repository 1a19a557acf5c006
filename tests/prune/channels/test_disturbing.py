import copy

import torch
from torch import nn

from regrow.models.masks import mask_weights_, masks_of
from regrow.prune.channels.disturbing import disturb_, rouse_


def test_all_weights_move_a_little_but_masked_ones():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 2, bias=False))
    nn.init.zeros_(net[1].weight)
    kept = torch.rand(40, 40) < 0.5
    mask_weights_(net, {"0.weight": kept})
    before = copy.deepcopy(net)
    disturb_(net)
    assert (net[0].weight[~kept] == 0).all()
    moved = (net[0].weight - before[0].weight)[kept].abs()
    assert (moved > 0).all()
    assert moved.mean() < before[0].weight[kept].abs().mean()
    # Weights that begin at zero would hide all that is before.
    assert (net[1].weight != 0).all()
    again = copy.deepcopy(before)
    disturb_(again)
    assert torch.equal(again[0].weight, net[0].weight)


def test_dead_layers_are_woken_and_pass_on_what_they_are_given():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 1))
    nn.init.constant_(net[0].bias, -1000.0)
    nn.init.zeros_(net[1].weight)
    rouse_(net)
    x = torch.randn(2, 64, 12, 12)
    # He et al. keep the mean square, of which ReLU takes half.
    assert 0.5 < float(net[0](x).detach().square().mean()) / 2 < 2
    assert net[1].running_mean.eq(0).all()
    assert net[1].running_var.eq(1).all()
    assert (net[1].weight.detach() - 1).abs().max() < 0.6
    assert not masks_of(net)
    assert float(net.eval()(x).detach().std()) > 0.3
