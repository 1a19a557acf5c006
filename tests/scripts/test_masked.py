"""Masks live on when a command warm-starts with more classes."""

from collections.abc import Callable
from pathlib import Path

import torch

from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.masks import mask_weights_, masks_of
from regrow.pipelines import commands

Words = Callable[..., list[str]]
Folder = Callable[..., Path]


def test_a_warm_start_with_more_classes_keeps_masks(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    parent = Classification(["green", "red"], (32, 32), net_args={"width": 4})
    masks = {
        name: torch.rand(weight.shape) < 0.5
        for name, weight in parent.net.named_parameters()
        if weight.ndim > 1
    }
    mask_weights_(parent.net, masks)
    save(tmp_path / "parent.ckpt", parent)
    root = folder("grown", ("red", "green", "blue"))
    start = f"--warm-start={tmp_path / 'parent.ckpt'}"
    commands.train(words(root, "grown", start, "--data.size=[32,32]"))
    grown = load(tmp_path / "grown" / "last.ckpt")
    assert sorted(grown.classes) == ["blue", "green", "red"]
    rows = {name: grown.classes.index(name) for name in grown.classes}
    found = masks_of(grown.net)
    assert found.keys() == masks.keys()
    head = found.pop("head.weight")
    assert torch.equal(head[[rows["green"], rows["red"]]], masks.pop("head.weight"))
    assert head[rows["blue"]].all()
    for name, mask in masks.items():
        assert torch.equal(found[name], mask)
    for name, mask in masks_of(grown.net).items():
        weight = grown.net.get_parameter(name)
        assert weight[~mask].count_nonzero() == 0
        assert weight[mask].count_nonzero() == mask.sum()
    assert not torch.equal(grown.net.stem[0].weight, parent.net.stem[0].weight)
