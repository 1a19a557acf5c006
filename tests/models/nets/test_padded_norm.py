import copy
import pickle
from collections.abc import Callable

import onnxruntime
import pytest
import torch
from timm.layers import GroupNorm1, LayerNormAct2d
from timm.layers import LayerNorm2d as TimmLayerNorm2d
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.nets.padded_norm import PaddedNorm, cut_norm_, is_paddable, pad_
from regrow.models.onnx.graph import export_graph
from regrow.models.record.structure import rebuild_, record
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import cut_

KEPT = [0, 2, 3, 5, 9]


def by_hand(norm: nn.Module, x: Tensor, dims: tuple[int, ...], count: int, missing: int) -> Tensor:
    """Compute the norm as arXiv 2606.14346 has it: over `count` values, some of which are left."""
    mean = x.sum(dims, keepdim=True) / count
    spread = (x - mean).square().sum(dims, keepdim=True) + missing * mean.square()
    x = (x - mean) / (spread / count + norm.eps).sqrt()  # type: ignore[operator]
    shape = [-1 if dim == (1 if 1 in dims else x.ndim - 1) else 1 for dim in range(x.ndim)]
    return x * norm.weight.view(shape) + norm.bias.view(shape)  # type: ignore[operator,union-attr]


NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "tokens": (lambda: nn.LayerNorm(12, eps=0.1), (-1,), False),
    "maps": (lambda: LayerNorm2d(12, eps=1e-6), (1,), False),
    "timm": (lambda: TimmLayerNorm2d(12), (1,), False),
    "activated": (lambda: LayerNormAct2d(12), (1,), True),
    "group": (lambda: nn.GroupNorm(1, 12), (1, 2, 3), False),
    "timm_group": (lambda: GroupNorm1(12), (1, 2, 3), False),
}


def narrow(norm: nn.Module, kept: list[int] = KEPT) -> nn.Module:
    pad_(norm)
    cut_norm_(norm, kept)
    return norm


@pytest.fixture(params=NORMS)
def norm(request) -> tuple[nn.Module, tuple[int, ...], bool]:
    make, dims, is_activated = NORMS[request.param]
    made = make().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(12, generator=generator))
    return made, dims, is_activated


def images(dims: tuple[int, ...], width: int = len(KEPT)) -> Tensor:
    x = 2 + torch.randn(2, width, 3, 4, generator=torch.Generator().manual_seed(1)).double()
    return x if 1 in dims else x.movedim(1, -1).contiguous()


def test_statistics_count_the_channels_that_are_gone(norm):
    norm, dims, is_activated = norm
    norm = narrow(norm)
    x = images(dims)
    places = 12 if len(dims) > 1 else 1
    expected = by_hand(norm, x, dims, 12 * places, 7 * places)
    got = norm(x)
    torch.testing.assert_close(got, expected.relu() if is_activated else expected)
    assert got.is_contiguous() or 1 in dims


def test_a_norm_that_has_lost_nothing_gives_the_same_bits(norm):
    norm, dims, _ = norm
    x = images(dims, 12)
    before = norm(x)
    pad_(norm)
    assert torch.equal(norm(x), before)


def test_a_second_cut_counts_those_of_the_first(norm):
    norm, dims, _ = norm
    once, twice = copy.deepcopy(norm), norm
    narrow(once, [2, 5])
    cut_norm_(narrow(twice), [1, 3])
    x = images(dims, 2)
    assert torch.equal(once(x), twice(x))


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_compute_the_same(norm, twin_of):
    norm, dims, _ = norm
    norm = narrow(norm)
    twin = twin_of(norm)
    assert type(twin) is type(norm)
    assert twin.weight is not norm.weight
    assert torch.equal(twin(images(dims)), norm(images(dims)))


def test_it_is_rebuilt_from_its_record(norm):
    norm, dims, _ = norm
    dense = nn.Sequential(copy.deepcopy(norm))
    net = nn.Sequential(narrow(norm))
    made = record(net, dense)
    rebuild_(dense, made)
    dense.load_state_dict(net.state_dict())
    assert torch.equal(dense(images(dims)), net(images(dims)))
    assert dense[0].full_width == 12


def test_what_an_earlier_version_cut_is_counted_from_what_it_left():
    """It left plain norms of fewer channels; when these are cut again, that is all there was."""
    dense = nn.Sequential(nn.LayerNorm(12))
    early = nn.Sequential(nn.LayerNorm(8))
    assert record(early, dense)["converted"] == []
    net = nn.Sequential(narrow(nn.LayerNorm(8), [0, 2, 3, 5, 7]))
    made = record(net, dense)
    assert made["attributes"] == {"0": {"full_width": 8, "normalized_shape": (5,)}}
    rebuild_(dense, made)
    dense.load_state_dict(net.state_dict())
    x = torch.randn(3, 5)
    assert torch.equal(dense(x), net(x))


@pytest.mark.parametrize(
    "changed", [{"full_width": 13}, {"full_width": 0}, {"normalized_shape": [13]}, {"is_first": 1}]
)
def test_sizes_that_pruning_cannot_have_left_are_refused(changed):
    made = {"converted": ["0"], "attributes": {"0": changed}}
    with pytest.raises(BadInput, match="its structure sets"):
        rebuild_(nn.Sequential(nn.LayerNorm(12)), made)


def test_gradients_are_those_of_the_wide_norm_with_zeros(norm):
    norm, dims, _ = norm
    wide, x = copy.deepcopy(norm), images(dims)
    gone = [channel for channel in range(12) if channel not in KEPT]
    axis = 1 if 1 in dims else -1
    full = torch.zeros_like(images(dims, 12)).index_copy(axis, torch.tensor(KEPT), x)
    full.requires_grad_()
    wide(full).index_select(axis, torch.tensor(KEPT)).pow(3).sum().backward()
    norm = narrow(norm)
    x.requires_grad_()
    norm(x).pow(3).sum().backward()
    torch.testing.assert_close(x.grad, full.grad.index_select(axis, torch.tensor(KEPT)))
    torch.testing.assert_close(norm.weight.grad, wide.weight.grad[KEPT])
    assert wide.weight.grad[gone].count_nonzero() == 0


def test_it_runs_compiled(norm):
    norm, dims, _ = norm
    norm = narrow(norm)
    compiled = torch.compile(norm, backend="eager")
    torch.testing.assert_close(compiled(images(dims)), norm(images(dims)))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("timm/vit_tiny_patch16_224", {"depth": 1, "embed_dim": 24, "num_heads": 2}),
        ("timm/convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 20]}),
    ],
)
def test_onnx_runtime_computes_the_same(name, args, tmp_path):
    torch.manual_seed(0)
    size = 224 if "vit" in name else 32
    task = Classification(["a", "b", "c"], (size, size), net=name, net_args=args).eval()
    cut_(task, [(g, list(range(0, g.num_units, 2))) for g in find_groups(task).groups])
    assert any(isinstance(module, PaddedNorm) for module in task.net.modules())
    file = export_graph(task, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    images = task.example_images(3)
    with torch.no_grad():
        expected = task.decode(task(images))
    names = [output.name for output in session.get_outputs()]
    for key, value in zip(names, session.run(None, {"images": images.numpy()}), strict=True):
        torch.testing.assert_close(torch.from_numpy(value), expected[key], rtol=0, atol=1e-5)


def test_norms_without_weights_count_too():
    norm = narrow(nn.LayerNorm(12, elementwise_affine=False).double())
    x = images((-1,))
    mean = x.sum(-1, keepdim=True) / 12
    variance = ((x - mean).square().sum(-1, keepdim=True) + 7 * mean.square()) / 12
    torch.testing.assert_close(norm(x), (x - mean) / (variance + norm.eps).sqrt())


def test_only_norms_over_all_channels_are_converted():
    assert is_paddable(nn.LayerNorm(2))
    assert is_paddable(nn.GroupNorm(1, 4))
    padded = narrow(nn.LayerNorm(12))
    assert isinstance(padded, PaddedNorm)
    assert isinstance(padded, nn.LayerNorm)
    others = [padded, nn.GroupNorm(2, 4), nn.LayerNorm((4, 3, 3)), nn.BatchNorm2d(4)]
    for module in others:
        assert not is_paddable(module)
        with pytest.raises(BadInput, match="no norm over its channels"):
            pad_(module)
