"""Loading the weights of a run's checkpoint into its task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regrow.errors import BadInput
from regrow.models import masks
from regrow.models.checkpoint import (
    net_state,
    provenance_of,
    read,
    take_dtypes_,
)
from regrow.models.record import buffers, structure
from regrow.models.task import Task


def load_weights_(task: Task, path: Path) -> None:
    """Load the weights, masks and scores of a checkpoint into the task of its run, in place.

    Args:
        task: The network; where that of the file has other widths, it takes them.
        path: The checkpoint.

    Raises:
        BadInput: If it is of another network.
    """
    payload = read(path)
    provenance, net = provenance_of(payload, path), _as_recorded(task, payload)
    if net is None:
        raise BadInput(f"{path}: of another network than that of the run; put the run's own back")
    task.net, state = net, net_state(payload)
    take_dtypes_(task, state)  # the old network may be kept, which was not cast for training
    task.net.load_state_dict(state)
    buffers.rebuild_(task.net, payload["regrow"].get("buffers", {}))
    masks.unmask_(task.net)
    masks.rebuild_(task.net, payload["regrow"].get("masks", {}))
    task.provenance.scores = provenance.scores


def is_of(task: Task, payload: Mapping[str, Any]) -> bool:
    """Whether the weights of a checkpoint are those of a task's network, as its record cuts it."""
    return _as_recorded(task, payload) is not None


def _as_recorded(task: Task, payload: Mapping[str, Any]) -> nn.Module | None:
    """Return the network of a task in the widths of a checkpoint; None where it has none such."""
    wanted = _shapes(net_state(payload))
    if _shapes(task.net.state_dict()) == wanted:
        return task.net
    with torch.random.fork_rng(devices=[]):
        net = task.fresh_net()
    try:
        structure.rebuild_(net, payload["regrow"].get("structure"))
    except BadInput:
        return None
    is_same = _shapes(net.state_dict()) == wanted
    return net.to(task.mean).train(task.training) if is_same else None


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}
