"""Costs against numbers worked by hand."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from regrow.models.classification import Classification
from regrow.models.cost import (
    _allocated_peak,
    count_macs,
    count_params,
    file_size,
    measure,
    peak_memory,
)
from regrow.models.latency import latency_ms
from regrow.models.segmentation import Segmentation


def _task(net: nn.Module, size: tuple[int, int] = (8, 12)) -> Classification:
    task = Classification(["ant", "bee"], size)
    task.net = net
    return task


class Attention(nn.Module):
    """One head of self-attention over 96 tokens, and one score."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 1, batch_first=True)
        self.embed = nn.Conv2d(3, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)


def test_multiply_accumulates_of_convolutions_worked_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),  # 8x12 places, 8 filters of 3*3*3
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4),  # 4x6 places, 16 filters of 2*3*3
        nn.Conv2d(16, 16, (1, 3), groups=16, padding=(0, 1)),  # 4x6 places, 16 filters of 3
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    assert count_macs(_task(net)) == 96 * 8 * 27 + 24 * 16 * 18 + 24 * 16 * 3 + 16 * 5


def test_multiply_accumulates_see_attention() -> None:
    # 96 tokens of width 8: embedding, three projections, scores, weighted sum, projection.
    tokens, width = 96, 8
    expected = tokens * 3 * width + 4 * tokens * width**2 + 2 * tokens**2 * width
    task = _task(Attention())
    task.net.train()
    fast = torch.backends.mha.get_fastpath_enabled()
    assert count_macs(task) == expected
    task.eval()
    assert count_macs(task) == expected
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Seen(TorchDispatchMode):
    """Writes down the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def test_attention_is_counted_as_products_whatever_kernel_would_run() -> None:
    # Not every version of PyTorch counts every fused kernel.
    with Seen() as seen:
        count_macs(_task(Attention()))
    assert "aten::bmm" in seen.names
    assert not [name for name in seen.names if "attention" in name]


class Encoder(nn.Module):
    """torchvision's and timm's kind of block: PyTorch's own, of which it has a fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 1)
        self.block = nn.TransformerEncoderLayer(8, 1, 16, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.block(self.embed(images).flatten(2).transpose(1, 2)).mean(1)


def test_multiply_accumulates_see_an_encoder_of_pytorch() -> None:
    tokens, width, hidden = 96, 8, 16
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    expected = tokens * 3 * width + attention + 2 * tokens * width * hidden
    task = _task(Encoder())
    assert count_macs(task.eval()) == expected


class Query(nn.Module):
    """A layer that is given a view of a parameter, as class tokens are."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 8))
        self.first, self.fixed = nn.Linear(8, 4), nn.Linear(4, 2)
        self.fixed.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.fixed(self.first(self.token.expand(5, -1)))


def test_layers_that_are_given_views_of_parameters_count() -> None:
    task = _task(Query())
    assert count_macs(task) == 5 * 8 * 4 + 5 * 4 * 2
    flags = {name: p.requires_grad for name, p in task.net.named_parameters()}
    assert flags == {name: not name.startswith("fixed") for name in flags}


def test_parameters_are_as_trainable_after_an_error_as_before() -> None:
    task = _task(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(7, 2)))
    task.net[0].bias.requires_grad_(False)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count_macs(task)
    assert [p.requires_grad for p in task.net.parameters()] == [True, False, True, True]


def test_counting_changes_no_mode_and_no_statistics() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten()).train()
    net[1].eval()
    count_macs(_task(net))
    assert [module.training for module in net] == [True, False, True]
    assert int(net[1].num_batches_tracked) == 0


def test_fewer_channels_cost_their_share() -> None:
    wide = _task(nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 3)))
    narrow = _task(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)))
    assert count_macs(wide) == 2 * count_macs(narrow)


def test_parameters_worked_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5))
    assert count_params(net) == (8 * 27 + 8) + (8 + 8) + (40 + 5)
    net.append(net[2])
    assert count_params(net) == 285, "a shared layer counts once"


def test_measure_gives_what_the_parts_give() -> None:
    task = Segmentation(["sky", "sea"], (16, 16))
    cost = measure(task)
    file = io.BytesIO()
    torch.save(task.net.state_dict(), file)
    assert cost.params == sum(p.numel() for p in task.net.parameters())
    assert cost.macs == count_macs(task) > 0
    assert cost.latency_ms is None
    assert cost.file_bytes == file_size(task.net) == len(file.getvalue()) > 4 * cost.params
    assert cost.figures() == {
        "params": cost.params, "macs": cost.macs, "latency_ms": None, "bytes": cost.file_bytes
    }  # fmt: skip


def test_peak_memory_worked_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 2, 1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    task = _task(net)
    for count in (1, 2):
        # Two images of 8x12 places in float32: what the ReLU reads and what it makes are there at
        # once, 8 channels each, and the prepared images, held by the caller.
        maps, prepared = 8 * 96 * 4 * count, 3 * 96 * 4 * count
        expected = (3 * 8 + 8 * 2) * 4 + 2 * maps + prepared
        assert peak_memory(task, task.example_images(count)) == expected


def test_peak_memory_counts_weights_and_buffers_once_and_views_not_at_all() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1000, 2))
            self.register_buffer("table", torch.zeros(50))

        def forward(self, images: Tensor) -> Tensor:
            return self.weight.t()[:1, :2] + self.table[0]

    task = _task(Views())
    # Most is there when images are prepared: as floats, less the mean, over the deviation.
    prepared = 3 * (3 * 96 * 4)
    assert peak_memory(task, task.example_images(1)) == 2000 * 4 + 50 * 4 + prepared
    assert task.training


def test_memory_of_the_allocator_is_that_above_what_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first call also takes a workspace that stays.
    now, peak, calls = [1000], [9999], iter([(64, 300), (0, 300)])

    def call() -> None:
        stays, needed = next(calls)
        now[0] += stays
        peak[0] = max(peak[0], now[0] + needed)

    fakes = {
        "synchronize": lambda device: None,
        "reset_peak_memory_stats": lambda device: peak.__setitem__(0, now[0]),
        "memory_allocated": lambda device: now[0],
        "max_memory_allocated": lambda device: peak[0],
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(f"torch.cuda.{name}", fake)
    assert _allocated_peak(call, torch.device("cuda")) == 300


@pytest.mark.gpu
def test_memory_and_time_on_cuda() -> None:
    task = _task(nn.Conv2d(3, 64, 1, bias=False), (128, 128)).cuda()
    images = task.example_images(16)
    made = 16 * 64 * 128 * 128 * 4
    weights = 3 * 64 * 4
    assert weights + made <= peak_memory(task, images) < weights + 3 * made
    large = torch.rand(8192, 8192, device="cuda")
    calls = (lambda: large @ large, lambda: large @ large[:, :8])
    by_events = latency_ms(*calls, repeats=5, device=torch.device("cuda"))
    by_wall = latency_ms(*calls, repeats=5)
    # Events do not count the call itself, which a large product hides.
    assert 0 < by_events[1] < by_events[0] <= 1.5 * by_wall[0]


@pytest.mark.slow
def test_vision_transformer_costs_what_is_published() -> None:
    # torchvision's documentation of ViT_B_16_Weights: 17.56 GMACs, 86,567,656 parameters.
    names = [str(number) for number in range(1000)]
    task = Classification(names, (224, 224), net="torchvision/vit_b_16")
    assert count_params(task.net) == 86_567_656
    assert count_macs(task) == pytest.approx(17.56e9, rel=0.01)
