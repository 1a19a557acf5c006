"""Simulated INT8 computes what ONNX Runtime does with the graph, and leaves nothing behind."""

import copy
from collections import OrderedDict
from contextlib import nullcontext

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from regrow.models.classification import Classification
from regrow.models.onnx.embedding import weighted_layers
from regrow.models.onnx.graph import build_graph
from regrow.models.onnx.quantization import Quantized, quantized
from regrow.models.onnx.simulation import Grid, Simulation, rounded_weight, simulation_of
from regrow.models.task import Task
from regrow.training.distillation import hooked

LAST = {"labels": 1, "boxes": 3, "masks": 1}  # the layers that nothing but the decoding reads


def batches_for(task: Task, count: int = 4, seed: int = 3) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, (2, 3, *task.size), dtype=np.uint8) for _ in range(count)]


class Chain(nn.Module):
    """Convolutions with norms, one of them depthwise, and a linear layer, without branches."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, bias=False)
        self.first_norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, groups=6)
        self.second_norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 4 * 4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        images = self.first_norm(self.first(images)).relu()
        images = self.second_norm(self.second(images)).relu()
        return self.head(images.flatten(1))


class Twice(nn.Module):
    """One layer runs twice, on other ranges, and two have the same filters up to a factor."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.shared = nn.Conv2d(4, 4, 1)
        self.one, self.other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.other.weight.copy_(2 * self.one.weight)
        self.head = nn.Linear(4 * 8 * 8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        images = self.shared(self.stem(images).relu()).relu()
        images = self.shared(5 * images).relu()
        return self.head(self.other(self.one(images).relu()).relu().flatten(1))


class Weighed(nn.Module):
    """A layer whose filters are made anew at each pass, so that the graph has others."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.odd = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        images = self.stem(images).relu()
        weight = self.odd.weight - self.odd.weight.mean((1, 2, 3), keepdim=True)
        images = nn.functional.conv2d(images, weight, padding=1).relu()
        return self.head(images.mean((2, 3)))


def own(net: type[nn.Module], side: int = 8) -> Classification:
    torch.manual_seed(0)
    task = Classification(["a", "b", "c"], (side, side), net=f"{__name__}.{net.__name__}").eval()
    norms = [part for part in task.net.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.copy_(torch.linspace(-2, 3, len(norm.weight)))  # factors of either sign
            norm.bias.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return task


def in_int8(task: Task, **options: bool) -> tuple[onnx.ModelProto, Quantized, Simulation]:
    model = build_graph(task)
    made = quantized(model, batches_for(task), **options)
    return model, made, simulation_of(task, model, made.model)


@pytest.fixture(scope="module")
def chain() -> tuple[Classification, Quantized, Simulation]:
    task = own(Chain)
    return (task, *in_int8(task)[1:])


def tensors(model: onnx.ModelProto, names: list[str], images: np.ndarray) -> list[np.ndarray]:
    """Run a graph as it stands, and return what it computes within."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    given = {output.name for output in probe.graph.output}
    for name in set(names) - given:
        probe.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(names, {"images": images})


def test_each_layer_computes_what_the_graph_does(
    chain: tuple[Classification, Quantized, Simulation],
) -> None:
    """All that differs is the bias, which the graph rounds to steps of input times weight."""
    task, made, simulation = chain
    assert (simulation.left, simulation.num_simulated) == ((), 3)
    (images,) = batches_for(task, 1, seed=8)
    nodes = list(weighted_layers(made.model.graph))
    wanted = tensors(made.model, [node.output[0] for node in nodes], images)
    parts = ["first_norm", "second_norm", "head"]
    seen: dict[str, Tensor] = {}
    with simulation.on(task), torch.no_grad(), hooked(task.net, parts, seen.__setitem__):
        task(torch.from_numpy(images))
    held = {w.name: numpy_helper.to_array(w) for w in made.model.graph.initializer}
    makers = {node.output[0]: node for node in made.model.graph.node}
    for node, part, graph in zip(nodes, parts, wanted, strict=True):
        inputs, weights = (held[makers[name].input[1]] for name in node.input[:2])
        step = (inputs * weights).reshape(-1, *[1] * (graph.ndim - 2)) / 2
        gap = np.abs(np.maximum(seen[part].numpy(), 0) - np.maximum(graph, 0))
        # A value in the middle between two numbers of the grid may be rounded either way.
        assert (gap <= step + 1e-5).mean() > 0.99, part
        assert gap.max() <= 0.05 * np.abs(graph).max(), part


def test_weights_are_rounded_as_the_quantiser_does(
    chain: tuple[Classification, Quantized, Simulation],
) -> None:
    task, made, _ = chain
    held = {w.name: numpy_helper.to_array(w) for w in made.model.graph.initializer}
    makers = {node.output[0]: node for node in made.model.graph.node}
    for node, layer in zip(
        weighted_layers(made.model.graph), ("first", "second", "head"), strict=True
    ):
        integers = held[makers[node.input[1]].input[0]]
        weight = task.net.get_submodule(layer).weight.detach()
        rounded = rounded_weight(weight)
        steps = weight.flatten(1).abs().amax(1).reshape(-1, *[1] * (weight.ndim - 1)) / 64
        signs = 1.0
        if layer != "head":
            factors = task.net.get_submodule(f"{layer}_norm").weight.detach()
            signs = factors.sign().reshape(-1, 1, 1, 1)
        np.testing.assert_allclose((rounded / steps * signs).numpy(), integers, atol=1e-3)
    assert rounded_weight(torch.zeros(2, 3)).equal(torch.zeros(2, 3))


def test_a_network_is_nearer_to_its_graph(task: Task, model: onnx.ModelProto) -> None:
    made = quantized(model, batches_for(task))
    simulation = simulation_of(task, model, made.model)
    assert simulation.left == ()
    assert simulation.num_simulated == made.num_quantized
    images = batches_for(task, 1, seed=8)[0]
    # The output layers have no norms, so a graph has their outputs as the network does.
    last, parts = LAST[task.kind], list(simulation.grids)
    nodes = list(weighted_layers(made.model.graph))[-last:]
    wanted = tensors(made.model, [node.output[0] for node in nodes], images)
    gaps = []
    for is_on in (True, False):
        seen: dict[str, Tensor] = {}
        rounds = simulation.on(task) if is_on else nullcontext()
        with torch.no_grad(), hooked(task.net, parts[-last:], seen.__setitem__), rounds:
            task(torch.from_numpy(images))
        found = [seen[part].numpy() for part in parts[-last:]]
        gaps.append(sum(np.square(a - b).mean() for a, b in zip(found, wanted, strict=True)))
    assert gaps[0] < 0.5 * gaps[1]


def test_what_stays_in_float_is_not_simulated() -> None:
    _, made, simulation = in_int8(own(Chain), keeps_ends=True)
    assert list(simulation.grids) == ["second"]
    assert simulation.num_simulated == made.num_quantized == 1


def test_each_call_of_a_shared_layer_has_its_own_grid() -> None:
    task = own(Twice)
    _, made, simulation = in_int8(task)
    assert simulation.num_simulated == made.num_quantized == 6
    assert list(simulation.grids) == ["stem", "shared", "one", "other", "head"]
    first, second = simulation.grids["shared"]
    assert isinstance(first, Grid)
    assert isinstance(second, Grid)
    assert first.scale != second.scale
    seen: list[Tensor] = []
    with simulation.on(task), torch.no_grad():
        note = task.net.shared.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for _ in range(2):
            task(task.example_images(2))
    note.remove()
    for values, grid in zip(seen, (first, second) * 2, strict=True):
        steps = values / grid.scale
        assert (steps - steps.round()).abs().max() < 1e-3


def test_a_layer_that_is_not_found_is_told_and_left() -> None:
    task = own(Weighed)
    model, made, simulation = in_int8(task)
    (odd,) = [n.name for n in list(weighted_layers(model.graph))[1:2]]
    assert simulation.left == (odd,)
    assert list(simulation.grids) == ["stem", "head"]
    assert simulation.num_simulated == made.num_quantized - 1


def test_nothing_is_left_on_the_network(
    chain: tuple[Classification, Quantized, Simulation],
) -> None:
    task, simulation = copy.deepcopy(chain[0]).train(), chain[2]
    before = OrderedDict((name, value.clone()) for name, value in task.net.state_dict().items())
    parameters = dict(task.net.named_parameters())
    record = task.record()
    with simulation.on(task):
        task(task.example_images(2))["logits"].sum().backward()
        assert [*task.net.state_dict()] == [*before]
        # Another shape is refused within the layer, after its weights are rounded.
        with pytest.raises(RuntimeError):
            task.net.first(torch.zeros(1, 5, 8, 8))
    after = task.net.state_dict()
    assert all(value.equal(after[name]) for name, value in before.items()), "running statistics too"
    assert all(parameters[name] is value for name, value in task.net.named_parameters())
    assert all(
        value.grad is not None and value.grad.abs().sum() > 0 for value in parameters.values()
    )
    assert all(part.training for part in task.net.modules())
    assert not any(p._forward_pre_hooks or p._forward_hooks for p in task.net.modules())
    assert {n: v for n, v in task.record().items() if n == "args"} == {"args": record["args"]}


def test_gradients_pass_straight_through_and_stop_at_the_ends() -> None:
    grid = Grid(scale=0.5, zero_point=10, least=0, most=255)
    values = torch.tensor([-100.0, -4.9, 0.26, 7.0, 1000.0], requires_grad=True)
    rounded = grid.rounded(values)
    assert rounded.tolist() == [-5.0, -5.0, 0.5, 7.0, 122.5]
    rounded.sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 0]
