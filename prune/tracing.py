"""The graph of a network's layers, and which channels of which layers hang together in it."""

import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch_pruning
from torch import Tensor, nn
from torch_pruning.dependency import Node
from torch_pruning.dependency.index_mapping import update_concat_index_mapping
from torch_pruning.dependency.shape_infer import infer_out_channels_recursively
from torch_pruning.ops import OPTYPE
from torchvision.ops import FrozenBatchNorm2d

from regrow.data.errors import BadInput
from regrow.models.modes import evaluating, thawed
from regrow.models.task import Task
from regrow.prune import surgery
from regrow.prune.attention import open_
from regrow.prune.channels import Side

# More pairs of coupled channels than any network needs whose channels can be told apart.
MAX_PAIRS = 1_000_000


class Channel(NamedTuple):
    """A channel of some layer, and the channel of the root that it goes with.

    The names are those that torch-pruning's index mappings read.
    """

    idx: int
    root_idx: int


# Each layer or operation that sees a root's channels, by side, with the channels it sees.
Pairs = dict[tuple[Node, Side], set[Channel]]


class LeftWhole(Exception):
    """Why a layer's outputs cannot be pruned."""


class OutOfTime(BaseException):
    """Not an error of a network, which proofs catch whatever it is."""


class Deadline:
    """Ends what takes too long.

    Args:
        seconds: The time there is from now.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def check(self, *_: object) -> None:
        """Go on if there is time left.

        Raises:
            OutOfTime: If there is none.
        """
        if time.monotonic() > self.end:
            raise OutOfTime

    def watch_(self, net: nn.Module) -> None:
        """Check before each layer of a network, and of its copies.

        Raises:
            BadInput: If one of them is compiled, and can be neither watched nor cut.
        """
        for name, module in net.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                layer = name or "the network"
                raise BadInput(f"{layer} is TorchScript; give the module it was made from")
            module.register_forward_pre_hook(self.check)


def trace_(task: Task) -> torch_pruning.DependencyGraph:
    """Build torch-pruning's graph.

    Args:
        task: A task whose network is given up for this.

    Raises:
        BadInput: If the network cannot be traced.
    """
    graph = torch_pruning.DependencyGraph()

    def raw_outputs(_: nn.Module, images: Tensor) -> list[Tensor]:
        return [out for out in task.outputs(images).values() if out.grad_fn is not None]

    # Everything is traced, frozen parts too.
    with (
        evaluating(task.net),
        torch.inference_mode(False),
        torch.enable_grad(),
        thawed(task.net),
        warnings.catch_warnings(),
    ):
        # Its guesses of shapes warn by the thousand; wrong ones are found out by the proof.
        warnings.simplefilter("ignore")
        images = task.prepare(task.example_images(1)).detach()
        try:
            graph.build_dependency(
                task.net,
                images,
                forward_fn=raw_outputs,
                customized_pruners={FrozenBatchNorm2d: surgery.FROZEN_BATCH_NORM},
                ignored_layers=open_(task.net),
                verbose=False,
            )
        # The network is anyone's, and torch-pruning raises what Python raises.
        except Exception as error:
            raise BadInput(
                f"{type(task.net).__name__}: cannot be traced for pruning ({error}); "
                "it must run on `task.example_images()` and be made of tensor operations"
            ) from error
    for node in graph.module2node.values():
        if node.type == OPTYPE.SLICE:
            _correct_slice_(graph, node)
        elif node.type == OPTYPE.CONCAT and not node.enable_index_mapping:
            # Any parameter of three dimensions before it was taken for a class token.
            node.enable_index_mapping = True
            update_concat_index_mapping(graph, node)
    return graph


def _correct_slice_(graph: torch_pruning.DependencyGraph, node: Node) -> None:
    """Let a slice of places keep all channels, where torch-pruning takes the second dimension.

    Swin has its channels last, and merges every second row and column.
    """
    sizes = getattr(node.grad_fn, "_saved_self_sym_sizes", ())
    dim = getattr(node.grad_fn, "_saved_dim", len(sizes))
    channels = [infer_out_channels_recursively(graph, source, [0]) for source in node.inputs]
    if dim >= len(sizes) or {None, sizes[dim]}.intersection(channels):
        return
    for source in node.inputs:
        for one, other in ((node, source), (source, node)):
            for dependency in one.dependencies:
                if dependency.target is other:
                    dependency.index_mapping[0] = None


def closure(
    graph: torch_pruning.DependencyGraph,
    root: nn.Module,
    check: Callable[[Node, Side], None],
    deadline: Deadline,
) -> Pairs:
    """Follow all output channels of a layer through the graph until nothing is added.

    torch-pruning's own search compares whole lists of channels, and does not end on some nets.

    Args:
        graph: The graph.
        root: The layer.
        check: Raises for what must not lose channels.
        deadline: Says how long it may take.

    Raises:
        LeftWhole: If the channels reach what must not lose them, or too many others.
    """
    pruner = graph.get_pruner_of_module(root)
    start = [Channel(i, i) for i in range(pruner.get_out_channels(root))]
    pairs: Pairs = defaultdict(set)
    stack = [(graph.module2node[root], pruner.prune_out_channels, start)]
    count = 0
    while stack:
        deadline.check()
        node, prune, channels = stack.pop()
        # Layers that keep the width have one function for both sides.
        side: Side = "out" if graph.is_out_channel_pruning_fn(prune) else "in"
        if (node, side) not in pairs:
            check(node, side)
        known = pairs[node, side]
        new = [channel for channel in channels if channel not in known]
        known.update(new)
        count += len(new)
        if count > MAX_PAIRS:
            raise LeftWhole("its channels are coupled with too many others")
        for dependency in node.dependencies if new else ():
            if dependency.is_triggered_by(prune):
                mapped = new
                for mapping in dependency.index_mapping:
                    mapped = mapped if mapping is None else mapping(mapped)
                if mapped:
                    stack.append((dependency.target, dependency.handler, mapped))
    return pairs


def is_output(node: Node, side: Side) -> bool:
    """Say whether nothing reads what an operation gives."""
    return node.type == OPTYPE.OUTPUT or (side == "out" and not node.outputs)
