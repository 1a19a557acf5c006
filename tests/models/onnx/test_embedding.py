"""The embedding is what the last layers of a network read; nothing else of its graph changes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from onnx import TensorProto, helper
from torch import nn

from regrow.models.classification import Classification
from regrow.models.modes import evaluating
from regrow.models.onnx.embedding import Features, features_of, with_embedding
from regrow.models.onnx.graph import build_graph
from regrow.models.onnx.metadata import metadata
from regrow.models.onnx.quantization import quantized
from regrow.models.task import Task

LITE0 = "timm/tf_efficientnet_lite0"


def _run(model: onnx.ModelProto, images: torch.Tensor) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images.numpy()}), strict=True))


def _read_by(layer: nn.Module, task: Task, images: torch.Tensor) -> torch.Tensor:
    """Return what a layer of the torch network is given."""
    read: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, given, made: read.append(given[0]))
    with evaluating(task), torch.no_grad():
        task(images)
    handle.remove()
    return read[0]


# The layers that read the features at the end of the encoder of regrow's own networks, 64 wide.
READERS = {"labels": "head", "boxes": "cls_logits", "masks": "two.1.second"}


def test_it_is_what_the_network_computes_there_and_all_other_outputs_stay(
    task: Task, model: onnx.ModelProto
) -> None:
    before = model.SerializeToString()
    made = with_embedding(model)
    assert made is not None
    assert model.SerializeToString() == before
    onnx.checker.check_model(made, full_check=True)
    images = torch.randint(0, 256, (2, 3, *task.size), dtype=torch.uint8)
    found, plain = _run(made, images), _run(model, images)
    embedding = found.pop("embedding")
    assert found.keys() == plain.keys()
    for name, values in plain.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-4)
    layer = dict(task.net.named_modules())[READERS[task.kind]]
    np.testing.assert_allclose(embedding, _read_by(layer, task, images).numpy(), atol=1e-4)
    axis = metadata({e.key: e.value for e in made.metadata_props})["embedding"]["axis"]
    assert embedding.shape[axis] == 64


def test_that_of_a_graph_in_int8_is_near_it(task: Task, model: onnx.ModelProto) -> None:
    images = torch.randint(0, 256, (2, 3, *task.size), dtype=torch.uint8)
    small = quantized(model, [images.numpy()]).model
    made = with_embedding(small)
    assert made is not None
    found, plain = _run(made, images), _run(small, images)
    embedding = found.pop("embedding")
    for name, values in plain.items():
        np.testing.assert_array_equal(found[name], values)
    layer = dict(task.net.named_modules())[READERS[task.kind]]
    wanted = _read_by(layer, task, images).numpy()
    assert embedding.shape == wanted.shape
    assert 0 < np.abs(embedding - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.slow
def test_that_of_efficientnet_is_its_pooled_features() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = Classification(["ant", "bee"], (32, 32), net=LITE0).eval()
    made = with_embedding(build_graph(task))
    assert made is not None
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    net: Any = task.net
    assert isinstance(net, timm.models.EfficientNet)
    found = _run(made, images)["embedding"]
    assert found.shape == (2, 1280)
    np.testing.assert_allclose(found, _read_by(net.classifier, task, images).numpy(), atol=1e-4)


def _graph(nodes: Sequence[onnx.NodeProto], weights: dict[str, tuple[int, ...]]) -> Any:
    """Return a graph from `images` to `y`."""
    tensors = [
        helper.make_tensor(name, TensorProto.FLOAT, dims, np.ones(dims).ravel())
        for name, dims in weights.items()
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, 8, 8])
    y = onnx.ValueInfoProto(name="y")
    return helper.make_model(helper.make_graph(nodes, "g", [images], [y], tensors))


def _node(kind: str, inputs: str, output: str, **own: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **own)


STEM = _node("Conv", "images w", "a")
GRAPHS: dict[str, tuple[list[onnx.NodeProto], dict[str, tuple[int, ...]], Features | None]] = {
    "a convolution as head reads the pooled map": (
        [STEM, _node("GlobalAveragePool", "a", "p"), _node("Conv", "p v", "y")],
        {"w": (6, 3, 1, 1), "v": (2, 6, 1, 1)},
        Features("p", 1),
    ),
    "a matrix as head reads channels that come last": (
        [STEM, _node("GlobalAveragePool", "a", "p"), _node("Flatten", "p", "f"),
         _node("MatMul", "f v", "m"), _node("Softmax", "m", "y")],
        {"w": (6, 3, 1, 1), "v": (6, 2)},
        Features("f", -1),
    ),
    "a product of two tensors is no layer": (
        [STEM, _node("GlobalAveragePool", "a", "p"), _node("Flatten", "p", "f"),
         _node("Gemm", "f v", "m"), _node("MatMul", "m m", "y")],
        {"w": (6, 3, 1, 1), "v": (6, 2)},
        Features("f", -1),
    ),
    "the widest map before anything is enlarged": (
        [STEM, _node("Conv", "a v", "b"), _node("Resize", "b  s", "c"),
         _node("Conv", "c u", "d"), _node("Conv", "d t", "y")],
        {"w": (4, 3, 1, 1), "v": (8, 4, 1, 1), "u": (32, 8, 1, 1), "t": (2, 32, 1, 1), "s": (4,)},
        Features("a", 1),
    ),
    "of the same width the last one, and groups count": (
        [STEM, _node("Conv", "a v", "b", group=4), _node("Relu", "b", "c"),
         _node("Conv", "c u", "y")],
        {"w": (4, 3, 1, 1), "v": (4, 1, 1, 1), "u": (2, 4, 1, 1)},
        Features("c", 1),
    ),
    "a convolution of the images alone has none": (
        [_node("Conv", "images w", "y")], {"w": (2, 3, 1, 1)}, None,
    ),
    "no layer at all": ([_node("Relu", "images", "y")], {}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_features_are_found_by_the_graph_alone(name: str) -> None:
    nodes, weights, wanted = GRAPHS[name]
    model = _graph(nodes, weights)
    assert features_of(model) == wanted
    assert (with_embedding(model) is None) == (wanted is None)
