"""Masks of single weights follow their weights when channels are cut."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.masks import mask_weights_, masks_of
from regrow.prune.channels.exactness import probe
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_, exact_copy, mask_

NETS = ["concat", "depthwise", "grouped", "flat", "transposed"]


def numbered_(net: nn.Module) -> None:
    """Set every weight to a number of its own, by which it is known wherever it goes."""
    first = 1
    with torch.no_grad():
        for parameter in net.parameters():
            numbers = torch.arange(first, first + parameter.numel(), dtype=parameter.dtype)
            parameter.copy_(numbers.view(parameter.shape))
            first += parameter.numel()


def half_of(net: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(weight.shape, generator=generator) < 0.5
        for name, weight in net.named_parameters()
        if weight.ndim > 1
    }


@pytest.mark.parametrize("name", NETS)
def test_each_weight_that_stays_keeps_its_mask(make_task, name: str) -> None:
    task = exact_copy(make_task(name))
    numbered_(task.net)
    plan = [(group, [0, 2]) for group in find_groups(task).groups]
    assert plan
    unmasked = clone(task)
    masks = half_of(task.net)
    kept = torch.cat(
        [p.detach()[masks[n]] for n, p in task.net.named_parameters() if n in masks]
    )  # the numbers of the weights that are kept
    mask_weights_(task.net, masks)
    cut_(unmasked, plan)
    cut_(task, plan)
    found = masks_of(task.net)
    assert found.keys() == masks.keys()
    numbers = dict(unmasked.net.named_parameters())
    assert sum(mask.numel() for mask in found.values()) < sum(m.numel() for m in masks.values())
    for layer, weight in task.net.named_parameters():
        expected = numbers[layer]
        if layer in masks:
            assert torch.equal(found[layer], torch.isin(expected, kept))
            expected = expected * torch.isin(expected, kept)
        assert torch.equal(weight, expected)


@pytest.mark.parametrize("name", NETS)
def test_masks_hide_no_group(make_task, name: str) -> None:
    task = make_task(name)
    found = [group.layer for group in find_groups(task).groups]
    mask_weights_(task.net, half_of(task.net))
    assert [group.layer for group in find_groups(task).groups] == found


@pytest.mark.parametrize("name", NETS)
def test_cutting_a_masked_network_is_exact(make_task, name: str) -> None:
    task = make_task(name)
    mask_weights_(task.net, half_of(task.net))
    plan = [(group, [1]) for group in find_groups(task).groups]
    assert plan
    assert probe(task, plan) is None
    masks = masks_of(clone(task).net)
    mask_(task, plan)
    assert all(torch.equal(mask, masks[n]) for n, mask in masks_of(task.net).items())


def test_a_masked_and_cut_network_comes_back_from_its_file(tmp_path: Path) -> None:
    task = Classification(["a", "b"], (16, 16), net_args={"width": 8})
    mask_weights_(task.net, half_of(task.net))
    groups = find_groups(task).groups
    assert groups
    cut_(task, [(group, [0, 3]) for group in groups])
    save(tmp_path / "a.ckpt", task)
    back = load(tmp_path / "a.ckpt")
    assert masks_of(back.net).keys() == masks_of(task.net).keys()
    for name, mask in masks_of(task.net).items():
        assert torch.equal(masks_of(back.net)[name], mask)
        assert torch.equal(back.net.get_parameter(name), task.net.get_parameter(name))
        assert mask.shape == task.net.get_parameter(name).shape
