"""Cost of a network: parameters, multiply-accumulates (MACs), peak memory, file size."""

import io
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from regrow.models.modes import evaluating, frozen
from regrow.models.task import Task


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one network.

    Args:
        params: Number of parameters.
        macs: Multiply-accumulates (MACs) of one image, without post-processing.
        latency_ms: Median time of one image, in milliseconds.
        file_bytes: Size of a file with the weights alone, in bytes.
    """

    params: int
    macs: int
    latency_ms: float | None = None
    file_bytes: int | None = None

    def figures(self) -> dict[str, int | float | None]:
        """Return the costs by the names that reports use."""
        costs = (self.params, self.macs, self.latency_ms, self.file_bytes)
        return dict(zip(("params", "macs", "latency_ms", "bytes"), costs, strict=True))


def count_params(net: nn.Module) -> int:
    """Count the parameters of a network."""
    return sum(parameter.numel() for parameter in net.parameters())


@contextmanager
def counted_attention(task: Task) -> Iterator[None]:
    """Context manager: run attention as plain matrix products, which a FLOP counter can see.

    The task is in evaluation mode meanwhile, and its parameters are frozen: the counter looks for
    the graph of what requires a gradient, and a view of a parameter has none here.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluating(task), frozen(task), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def count_macs(task: Task) -> int:
    """Count the multiply-accumulates (MACs) of one image: half of PyTorch's FLOP count.

    Convolutions and matrix products count, attention included; norms and activations do not.
    """
    counter = FlopCounterMode(display=False)
    images = task.example_images(1)
    with counted_attention(task), counter:
        task(images)
    return counter.get_total_flops() // 2


def peak_memory(task: Task, images: Tensor) -> int:
    """Measure the peak memory of an inference, in bytes.

    That is parameters and buffers plus the peak during the inference: on CUDA of PyTorch's
    allocator, on the CPU of the tensors alive at once, without the workspace of kernels. The images
    are not counted.

    Args:
        task: The network.
        images: uint8 images, (b, 3, h, w), on the device of the network.
    """
    tensors = [*task.net.parameters(), *task.net.buffers()]
    weights: int = sum(tensor.nbytes for tensor in tensors)
    with evaluating(task), torch.no_grad():
        if images.device.type == "cuda":
            return weights + _allocated_peak(lambda: task(images), images.device)
        live = _LiveBytes()
        with live:
            task(images)
        return weights + live.peak


def _allocated_peak(call: Callable[[], Any], device: torch.device) -> int:
    call()  # libraries take their workspaces at the first call
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations create, while they are alive.

    Attributes:
        peak: The largest count so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        # The result may be a view of an input that existed before.
        given = {storage._cdata for storage in _storages((args, kwargs))} - self._sizes.keys()
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            key = storage._cdata
            if key not in given and key not in self._sizes:
                self._sizes[key] = storage.nbytes()
                weakref.finalize(storage, self._sizes.pop, key)
        self.peak = max(self.peak, sum(self._sizes.values()))
        return made


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def measure(task: Task) -> Cost:
    """Measure parameters, MACs and file size; for latency see `regrow.models.Clock`.

    Examples:
        >>> from regrow.models import Classification, measure
        >>> cost = measure(Classification(["cat", "dog"], (32, 32), net="cifar_resnet20"))
        >>> cost.params, cost.macs
        (269202, 40550528)
    """
    return Cost(count_params(task.net), count_macs(task), None, file_size(task.net))


def file_size(net: nn.Module) -> int:
    """Compute the size of a file with the weights alone, in bytes."""
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    return file.tell()
