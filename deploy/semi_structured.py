"""Linear layers with 2:4 masks, run through PyTorch's semi-structured kernels on CUDA."""

import warnings

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from regrow.errors import BadInput
from regrow.models.masks import is_n_of_m
from regrow.models.modes import copied

# Source: the shapes that both backends of torch/sparse/semi_structured.py take in 16 bits.
ROWS, COLUMNS = 32, 64
CAPABILITY = (8, 0)


def semi_structured(net: nn.Module) -> tuple[nn.Module, list[str]]:
    """Copy a network for inference, with the 2:4 sparse weights of its linear layers compressed.

    The copy can be neither trained nor saved. PyTorch has such kernels for linear layers alone; it
    calls them a prototype.

    Args:
        net: The network on CUDA, in float16 or bfloat16.

    Returns:
        The copy in evaluation mode, and the names of the layers that are compressed.

    Raises:
        BadInput: If the machine has no such kernels, or no layer can use them.
    """
    if not torch.cuda.is_available():
        raise BadInput("2:4 kernels need a CUDA device, and there is none; run the network dense")
    capability = torch.cuda.get_device_capability()
    if capability < CAPABILITY:
        raise BadInput(
            "2:4 kernels need compute capability 8.0 or more, this GPU has "
            f"{capability[0]}.{capability[1]}; run the network dense"
        )
    twin = copied(net).eval()
    # A subclass, such as the last layer of nn.MultiheadAttention, may be read without being called.
    layers = {name: m for name, m in twin.named_modules() if type(m) is nn.Linear}
    layers = {n: m for n, m in layers.items() if m.weight.is_cuda and is_compressible(m.weight)}
    if not layers:
        raise BadInput(
            "no linear layer can use 2:4 kernels: its weight must be 2:4, on CUDA, in float16 "
            f"or bfloat16, with a multiple of {ROWS} outputs and of {COLUMNS} inputs"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The PyTorch API of SparseSemiStructuredTensor")
        for layer in layers.values():
            compressed = to_sparse_semi_structured(layer.weight.detach().contiguous())
            layer.weight = nn.Parameter(compressed, requires_grad=False)
    return twin, list(layers)


def is_compressible(weight: Tensor) -> bool:
    """Whether the kernels take a weight: its type, its shape, and two zeros in each four.

    Args:
        weight: The weight of a linear layer, (out, in).
    """
    has_type = weight.dtype in (torch.float16, torch.bfloat16)
    has_shape = weight.shape[0] % ROWS == 0 and weight.shape[1] % COLUMNS == 0
    return has_type and has_shape and is_n_of_m(weight != 0)
