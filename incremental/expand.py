"""Head growth: rows for new classes, with every old row bit for bit."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from regrow.incremental.label_map import LabelMap
from regrow.models.class_rows import ClassRows
from regrow.models.masks import carried
from regrow.models.task import Task

ClassLayer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
NewRows = Literal["random", "mean", "imprint"]


def expand_(
    task: Task,
    classes: Sequence[str],
    *,
    renamed: Mapping[str, str] | None = None,
    removed: Sequence[str] = (),
    new_rows: NewRows = "random",
    seed: int = 0,
) -> LabelMap:
    """Grow or reorder the class rows of a task's head for other classes, in place.

    Rows of kept classes and of the background stay bit for bit, with the masks of their weights,
    wherever they move to. No weight of a new class is masked; its biases are the mean of the old
    classes' biases, so that a detector's prior for "nothing here" stays.

    Args:
        task: The task; its net, classes, hyperparameters and metric change.
        classes: The new class names in row order.
        renamed: Names that changed, old name to new name.
        removed: Old classes that are given up on purpose.
        new_rows: Initial weights of a new class: `random`, as PyTorch draws those of a new
            layer, or else the mean of the old classes' weights, which `imprint_` then turns
            towards the features of their images.
        seed: Seed of random rows.

    Returns:
        How old and new classes correspond.

    Raises:
        BadInput: If the classes do not match.
        ValueError: If a layer cannot be grown; nothing is changed then.
    """
    label_map = LabelMap(task.classes, classes, renamed, removed)
    specs, old_count = task.class_rows(), len(task.classes)
    layers = [_class_layer(task.net, rows, old_count) for rows in specs]
    if not label_map.is_identity:
        generator = torch.Generator().manual_seed(seed)
        with carried(task.net):
            for layer, rows in zip(layers, specs, strict=True):
                _resize_rows_(layer, rows, label_map, new_rows, generator)
        _recount_(task.net, specs, old_count, len(classes))
    task.classes = list(classes)
    task.hparams["classes"] = list(classes)
    task.metric = task.make_metric()
    return label_map


def source_rows(rows: ClassRows, label_map: LabelMap) -> list[int | None]:
    """Return for each row of the grown layer the old row it continues, or None where it is new.

    Args:
        rows: The layout of the layer.
        label_map: The correspondence of old and new classes.
    """
    num_old, num_new = len(label_map.old), len(label_map.new)
    sources: list[int | None] = [None] * rows.num_rows(num_new)
    moves = [(rows.background_indices(num_new), rows.background_indices(num_old))]
    moves += [(rows.indices(n, num_new), rows.indices(o, num_old)) for o, n in label_map.kept]
    for targets, origins in moves:
        for target, origin in zip(targets, origins, strict=True):
            sources[target] = origin
    return sources


def _class_layer(net: nn.Module, rows: ClassRows, num_classes: int) -> ClassLayer:
    layer = net.get_submodule(rows.layer)
    if not isinstance(layer, ClassLayer):
        raise ValueError(
            f"{rows.layer} is a {type(layer).__name__}; "
            "only Linear and Conv layers carry class rows"
        )
    if getattr(layer, "groups", 1) != 1:
        raise ValueError(f"{rows.layer} has {layer.groups} groups; a class layer must have one")
    if "weight" not in layer._parameters:
        raise ValueError(
            f"{rows.layer} has a parametrized weight; remove the parametrization first"
        )
    if layer.weight.shape[0] != rows.num_rows(num_classes):
        raise ValueError(
            f"{rows.layer} has {layer.weight.shape[0]} rows, but {num_classes} classes in its "
            f"layout make {rows.num_rows(num_classes)}"
        )
    return layer


@torch.no_grad()
def _resize_rows_(
    layer: ClassLayer,
    rows: ClassRows,
    label_map: LabelMap,
    new_rows: NewRows,
    generator: torch.Generator,
) -> None:
    sources = source_rows(rows, label_map)
    target = torch.tensor([i for i, s in enumerate(sources) if s is not None], dtype=torch.long)
    origin = torch.tensor([s for s in sources if s is not None], dtype=torch.long)
    if new_rows == "random":
        fresh = torch.empty(len(sources), *layer.weight.shape[1:])
        # Source: torch.nn.Linear.reset_parameters, which convolutions share.
        nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
    else:
        # What is masked counts as the zero that it was.
        fresh = _mean_rows(layer.weight.nan_to_num(), rows, label_map)
    layer.weight = _with_old_rows(fresh, layer.weight, target, origin)
    if layer.bias is not None:
        bias = _mean_rows(layer.bias, rows, label_map)
        layer.bias = _with_old_rows(bias, layer.bias, target, origin)
    if isinstance(layer, nn.Linear):
        layer.out_features = len(sources)
    else:
        layer.out_channels = len(sources)


def _with_old_rows(fresh: Tensor, old: Tensor, target: Tensor, origin: Tensor) -> nn.Parameter:
    grown = fresh.to(device=old.device, dtype=old.dtype)
    grown[target.to(old.device)] = old.detach()[origin.to(old.device)]
    return nn.Parameter(grown, requires_grad=old.requires_grad)


def _mean_rows(tensor: Tensor, rows: ClassRows, label_map: LabelMap) -> Tensor:
    """Return the rows of the grown layer as if all classes were new: the old classes' mean."""
    num_old, num_new = len(label_map.old), len(label_map.new)
    origins = torch.tensor([rows.indices(index, num_old) for index in range(num_old)])
    mean = tensor.detach().cpu().double()[origins].mean(0)
    grown = torch.zeros(rows.num_rows(num_new), *tensor.shape[1:], dtype=torch.float64)
    for index in range(num_new):
        grown[rows.indices(index, num_new)] = mean
    return grown


def _recount_(net: nn.Module, specs: Sequence[ClassRows], num_old: int, num_new: int) -> None:
    """Correct the class counts that modules keep, with or without the background."""
    counts = {num_old + rows.background for rows in specs} | {num_old}
    for name, module in net.named_modules():
        holds_rows = any(f"{rows.layer}.".startswith(f"{name}." if name else "") for rows in specs)
        # torchvision's SSD keeps its count as `num_columns`, and so does its box regression (4).
        for attribute in ("num_classes", "num_columns") if holds_rows else ("num_classes",):
            value = module.__dict__.get(attribute)
            if type(value) is int and value in counts:
                setattr(module, attribute, value + num_new - num_old)
