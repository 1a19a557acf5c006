"""Loading of initial weights from plain state dicts, without running any code."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.logs import log
from regrow.models.torch_file import is_state_dict, read_torch


def load_weights_(net: nn.Module, path: Path) -> None:
    """Load a local file with a plain state dict into a network or its backbone, in place.

    A head with another number of classes keeps its fresh weights; all other weights must fit.

    Raises:
        BadInput: If the file is missing, needs pickled code, or does not fit.
    """
    if not path.is_file():
        raise BadInput(f"weights {path}: no such file; give `DEFAULT` or a local state dict")
    try:
        state = read_torch(path)
    except BadInput as error:
        raise BadInput(
            f"weights {error}; not a plain state dict that loads safely; save it anew, by "
            "`torch.save(net.state_dict(), FILE)`"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("regrow"), Mapping):
        raise BadInput(f"weights {path}: a checkpoint of regrow's; give it with --warm-start")
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not is_state_dict(state):
        raise BadInput(f"weights {path}: not a plain state dict of tensors")
    backbone = getattr(net, "backbone", None)
    targets = [net, *([backbone] if isinstance(backbone, nn.Module) else [])]
    target = max(targets, key=lambda part: len(part.state_dict().keys() & state.keys()))
    own = target.state_dict()
    fitting = {n: v for n, v in state.items() if n in own and own[n].shape == v.shape}
    missing = [n for n in own if n not in fitting and not n.endswith("num_batches_tracked")]
    is_head = {n for n in missing if n in state and own[n].shape[1:] == state[n].shape[1:]}
    strangers = [n for n in missing if n not in is_head]
    if strangers or not fitting:
        raise BadInput(
            f"weights {path}: does not fit, {len(strangers)} of {len(own)} tensors have no "
            f"counterpart of the same shape, such as {', '.join(strangers[:3])}"
        )
    target.load_state_dict({**own, **fitting})
    if is_head:
        log.info("%s: the head has another number of classes and stays fresh", path)


def with_trunk_of(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Load the weights of a state dict that fit; those of another shape stay fresh."""
    own = net.state_dict()
    net.load_state_dict({n: state[n] if state[n].shape == v.shape else v for n, v in own.items()})
    return net
