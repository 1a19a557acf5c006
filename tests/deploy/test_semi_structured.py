"""2:4 weights run through the kernels of the GPU, where it has them."""

import pytest
import torch
from torch import nn

from regrow.deploy.semi_structured import is_compressible, semi_structured
from regrow.errors import BadInput


class Kind(nn.Linear):
    """A kind of linear layer, which something may read without calling it."""


def two_of_four(rows: int, columns: int) -> torch.Tensor:
    """Return weights of which in each block of four the first and the last are zero."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    return weight * torch.tensor([0.0, 1, 1, 0]).repeat(columns // 4)


def test_a_machine_without_kernels_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="need a CUDA device, and there is none"):
        semi_structured(nn.Linear(64, 32))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(BadInput, match=r"this GPU has 7\.5"):
        semi_structured(nn.Linear(64, 32))


def test_a_network_without_sparse_layers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    with pytest.raises(BadInput, match="no linear layer can use 2:4 kernels"):
        semi_structured(nn.Linear(64, 32).half())


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (two_of_four(32, 64).half(), True),
        (two_of_four(64, 128).bfloat16(), True),
        (two_of_four(32, 64), False),
        (two_of_four(16, 64).half(), False),
        (two_of_four(32, 32).half(), False),
        (torch.ones(32, 64).half(), False),
        (torch.zeros(32, 64).half(), True),
    ],
    ids=["half", "bfloat16", "float32", "few rows", "few columns", "dense", "empty"],
)
def test_what_the_kernels_take(weight: torch.Tensor, expected: bool) -> None:
    assert is_compressible(weight) is expected


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_compressed_layers_give_what_the_dense_ones_give(dtype: torch.dtype) -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("the GPU has no 2:4 kernels")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 64), Kind(64, 32))
    net.append(nn.Linear(32, 10))
    with torch.no_grad():
        net[0].weight.copy_(two_of_four(256, 128))
        net[2].weight.copy_(two_of_four(64, 256))
        net[3].weight.copy_(two_of_four(32, 64))
    net = net.to("cuda", dtype)
    images = torch.randn(2, 5, 128, device="cuda", dtype=dtype)
    twin, names = semi_structured(net)
    assert names == ["0", "2"]
    assert type(net[0].weight.data) is torch.Tensor
    assert type(twin[3].weight.data) is type(twin[4].weight.data) is torch.Tensor
    with torch.no_grad():
        expected, got = net(images), twin(images)
    # The order of the sums differs, in 16 bits.
    step = torch.finfo(dtype).eps
    assert (got - expected).abs().max() <= 8 * step * expected.abs().max()
