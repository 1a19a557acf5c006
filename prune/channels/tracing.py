"""The dependency graph of a network's layers, and the channels that are coupled in it."""

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch_pruning.dependency import Node
from torch_pruning.dependency.index_mapping import update_index_mapping
from torch_pruning.dependency.shape_infer import init_shape_information
from torch_pruning.ops import OPTYPE

from regrow.errors import BadInput
from regrow.models.modes import evaluating, thawed
from regrow.models.nets.padded_norm import forget_
from regrow.models.task import Task
from regrow.prune.channels import surgery
from regrow.prune.channels.edges import Calls, correct_
from regrow.prune.channels.fixed import frozen_norms
from regrow.prune.channels.heads import open_
from regrow.prune.channels.records import Side
from regrow.prune.memory import is_out_of_memory

# More pairs of coupled channels than any network needs whose channels can be told apart.
MAX_PAIRS = 1_000_000
# What running a layer counts as, in pairs of channels that are followed.
LAYER = 100


class Channel(NamedTuple):
    """A channel of some layer, and the channel of the root that it goes with.

    The names are those that torch-pruning's index mappings read.
    """

    idx: int
    root_idx: int


# Each layer or operation that sees a root's channels, by side, with the channels it sees.
Pairs = dict[tuple[Node, Side], set[Channel]]


class LeftWhole(Exception):
    """The reason why a layer's outputs cannot be pruned."""


class OutOfWork(BaseException):
    """The end of the allowed work; no `Exception`, since proofs catch those of a network."""


class Effort:
    """A limit on counted work, which ends a search at the same place on any machine.

    Args:
        limit: The work there is: pairs of channels that are followed, and `LAYER` for each layer
            that is run.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit

    def __deepcopy__(self, memo: dict[int, Any]) -> "Effort":
        # Copies of a network that is watched work on the same account.
        return self

    def spend(self, work: int = LAYER) -> None:
        """Take from the work that is left.

        Raises:
            OutOfWork: If nothing is.
        """
        self.left -= work
        if self.left < 0:
            raise OutOfWork

    def watch_(self, net: nn.Module) -> None:
        """Count each layer of a network, and of its copies, that is run."""
        for module in net.modules():
            module.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.spend()


def refuse_unready(net: nn.Module) -> None:
    """Refuse a network whose layers cannot be looked into.

    Raises:
        BadInput: If one of them is compiled, or has no shape yet.
    """
    for name, module in net.named_modules():
        layer = name or "the network"
        if isinstance(module, torch.jit.ScriptModule):
            raise BadInput(f"{layer} is TorchScript; give the module it was made from")
        if any(map(is_lazy, (*module._parameters.values(), *module._buffers.values()))):
            raise BadInput(
                f"{layer} is a {type(module).__name__} that has no shape yet; run the network once "
                "on an image, or give the layer its sizes"
            )


class Graph(torch_pruning.DependencyGraph):  # type: ignore[misc]
    """torch-pruning's graph, which goes on where a guess about one operation fails.

    Attributes:
        equal: The splits of channels into equal parts, with the first channel of each.
        padded: The operations that pad channels.
    """

    equal: dict[Node, list[int]]
    padded: set[Node]

    def build(
        self, net: nn.Module, images: Tensor, forward: Callable[..., Any], ignored: list[nn.Module]
    ) -> None:
        """Trace a network, as `build_dependency` does."""
        self.verbose, self.model = False, net
        self._module2name = {module: name for name, module in net.named_modules()}
        for kind in frozen_norms(net):
            self.register_customized_layer(kind, surgery.FROZEN_NORM)
        self.IGNORED_LAYERS_IN_TRACING.extend(ignored)
        self.ignored_params: list[nn.Parameter] = []
        self._param_to_name, self.unwrapped_parameters = self._detect_unwrapped_parameters(None)
        calls = Calls()
        with calls:
            self.module2node = self._trace(net, images, forward, None)
        self._build_dependency(self.module2node)
        for guess in (init_shape_information, update_index_mapping):
            for module, node in self.module2node.items():
                node.enable_index_mapping = True  # or a class token would end its splits and joins
                one = copy.copy(self)
                # An expansion of five dimensions is taken for the attention of language models.
                one.module2node = {} if node.type == OPTYPE.EXPAND else {module: node}
                with suppress(ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
                    guess(one)
        self.equal, self.padded = correct_(self, calls.joined)


def trace_(task: Task) -> Graph:
    """Build torch-pruning's graph.

    Args:
        task: A task whose network is given up for this.

    Raises:
        BadInput: If the network cannot be traced.
    """
    forget_(task.net)  # a graph shows what goes with what; a norm is one operation
    graph = Graph()
    running: list[str] = []

    def raw_outputs(_: nn.Module, images: Tensor) -> list[Tensor]:
        return [out for out in task.outputs(images).values() if out.grad_fn is not None]

    for name, module in task.net.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: running.append(name))
        module.register_forward_hook(lambda *_: running.__delitem__(-1))
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
            graph.build(task.net, images, raw_outputs, open_(task.net))
        # The network is anyone's, and torch-pruning raises what Python raises.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            at = f" at {running[-1]}" if running and running[-1] else ""
            raise BadInput(
                f"{type(task.net).__name__}: cannot be traced for pruning{at} ({error}); "
                "it must run on `task.example_images()` and be made of tensor operations"
            ) from error
    return graph


def closure(
    graph: Graph,
    root: nn.Module,
    check: Callable[[Node, Side], None],
    effort: Effort,
) -> Pairs:
    """Follow all output channels of a layer through the graph until nothing is added.

    torch-pruning's own search compares whole lists of channels, and does not end on some nets.

    Args:
        graph: The graph.
        root: The layer.
        check: Raises for what must not lose channels.
        effort: The work that it may take.

    Raises:
        LeftWhole: If the channels reach what must not lose them, or too many others.
    """
    pruner = graph.get_pruner_of_module(root)
    start = [Channel(i, i) for i in range(pruner.get_out_channels(root))]
    pairs: Pairs = defaultdict(set)
    stack = [(graph.module2node[root], pruner.prune_out_channels, start)]
    count = 0
    while stack:
        node, prune, channels = stack.pop()
        effort.spend(1 + len(channels))
        # Layers that keep the width have one function for both sides.
        side: Side = "out" if graph.is_out_channel_pruning_fn(prune) else "in"
        if (node, side) not in pairs:
            check(node, side)
        known = pairs[node, side]
        if node in graph.equal:
            channels = _in_all_parts(channels, graph.equal[node])
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


def _in_all_parts(channels: list[Channel], starts: list[int]) -> list[Channel]:
    """Return channels with those in the same place of the other parts of an equal split.

    A network that splits what there is in halves goes on to do so only if both lose as many.
    """
    size = starts[1]
    return [
        Channel(start + channel.idx % size, channel.root_idx)
        for channel in channels
        for start in starts
    ]


def is_output(node: Node, side: Side) -> bool:
    """Whether no operation reads what this one gives."""
    return node.type == OPTYPE.OUTPUT or (side == "out" and not node.outputs)
