"""Dropout against the libraries' own operations, against masking, and against expectations."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import drop_block2d

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, mask_
from regrow.prune.criteria import Magnitude
from regrow.prune.dropout import (
    DropBlock,
    Dropout,
    HeadDropout,
    SpatialDropout,
    TargetedDropout,
    draw_kept,
    find_maps,
)

KINDS = [HeadDropout(0.5), SpatialDropout(0.5), DropBlock(0.5), TargetedDropout(1.0)]
ids = [kind.name for kind in KINDS]


def settled(task: Classification) -> Classification:
    """Let dropout act while norms keep their statistics."""
    task.eval()
    task.net.training = True
    return task


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    return settled(Classification(["a", "b", "c"], (32, 32)))


def sigmas(share: float, count: int) -> float:
    """Return five standard deviations of a share of independent draws."""
    return 5 * (share * (1 - share) / count) ** 0.5


@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_it_acts_in_training_alone_and_leaves_no_trace(kind: Dropout, task: Classification) -> None:
    images, before = task.example_images(4), task.state_dict()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in task.modules()]
    plain = task(images)["logits"]
    with kind.applied(task):
        assert not torch.equal(task(images)["logits"], plain)
        assert task.state_dict().keys() == before.keys()
        task.eval()
        assert torch.equal(task(images)["logits"], plain)
    task.net.training = True
    assert torch.equal(task(images)["logits"], plain)
    with pytest.raises(ZeroDivisionError), kind.applied(task):
        1 // 0  # noqa: B018
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in task.modules()]
    assert after == hooks
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())


@pytest.mark.parametrize("kind", KINDS[:3], ids=ids[:3])
def test_draws_are_a_function_of_the_seed(kind: Dropout, task: Classification) -> None:
    images = task.example_images(4)
    with kind.applied(task):
        outputs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outputs.append(task(images)["logits"])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("kind", KINDS, ids=ids)
@pytest.mark.parametrize("task_class", [Detection, Segmentation])
def test_it_acts_on_every_task(kind: Dropout, task_class: type) -> None:
    torch.manual_seed(0)
    task = settled(task_class(["a", "b", "c"], (64, 64)))
    images = task.example_images(2)
    plain = task(images)
    with kind.applied(task):
        dropped = task(images)
    assert any(not torch.equal(plain[name], dropped[name]) for name in plain)


def test_features_before_the_last_layer_are_dropped_as_pytorch_does(task: Classification) -> None:
    seen: list[Tensor] = []
    features = torch.ones(1000, 64)
    with HeadDropout(0.3).applied(task):
        handle = task.net.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        torch.manual_seed(5)
        task.net.head(features)
        handle.remove()
    torch.manual_seed(5)
    assert torch.equal(seen[0], F.dropout(features, 0.3))
    dropped = float((seen[0] == 0).float().mean())
    assert dropped == pytest.approx(0.3, abs=sigmas(0.3, features.numel()))
    # What stays makes up for what does not.
    assert float(seen[0].mean()) == pytest.approx(1, abs=sigmas(0.3, features.numel()) / 0.7)


def last_norm(task: Classification) -> nn.Module:
    norms = [m for m in task.net.modules() if isinstance(m, nn.BatchNorm2d)]
    return norms[-1]


def test_channels_are_dropped_whole(task: Classification) -> None:
    norm, maps = last_norm(task), torch.rand(200, 64, 4, 4) + 1
    plain = norm(maps)
    with SpatialDropout(0.2).applied(task):
        ratio = norm(maps) / plain
    channels = ratio.flatten(2)
    assert torch.allclose(channels.amin(2), channels.amax(2))
    values = channels.mean(2)
    is_zero = values == 0
    assert torch.allclose(values[~is_zero], torch.tensor(1 / 0.8))
    assert float(is_zero.float().mean()) == pytest.approx(0.2, abs=sigmas(0.2, values.numel()))


def test_blocks_are_square_and_the_mean_stays(task: Classification) -> None:
    norm, maps = last_norm(task), torch.rand(20, 64, 9, 9) + 1
    plain = norm(maps)
    with DropBlock(0.1, block_size=3).applied(task):
        torch.manual_seed(3)
        dropped = norm(maps)
    torch.manual_seed(3)
    assert torch.equal(dropped, drop_block2d(plain, 0.1, 3))
    is_zero = (dropped == 0).float()
    # Every dropped place lies in a block of 3x3 that is dropped whole: opening changes nothing.
    eroded = 1 - F.max_pool2d(1 - is_zero, 3, 1)
    opened = F.max_pool2d(F.pad(eroded, [2] * 4), 3, 1)
    assert torch.equal(opened, is_zero)
    assert 0 < float(is_zero.mean()) <= 0.1 + sigmas(0.1, 20 * 64 * 9)
    assert float((dropped / plain).detach().mean()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "block", "expected"), [(4, 7, 3), (2, 3, 1), (5, 5, 5), (8, 1, 1)]
)
def test_blocks_fit_into_small_maps(size: int, block: int, expected: int) -> None:
    maps = torch.ones(4, 8, size, size)
    torch.manual_seed(0)
    dropped = DropBlock(0.3, block).drop(maps)
    torch.manual_seed(0)
    assert torch.equal(dropped, drop_block2d(maps, 0.3, expected))


def test_blocks_keep_the_mean_in_bfloat16_too() -> None:
    maps = torch.ones(8, 64, 32, 32)
    torch.manual_seed(0)
    dropped = DropBlock(0.3).drop(maps.bfloat16())
    torch.manual_seed(0)
    assert dropped.dtype == torch.bfloat16
    assert torch.equal(dropped, drop_block2d(maps, 0.3, 3).bfloat16())


@pytest.mark.parametrize(("depth", "count"), [(1.0, 9), (0.5, 4), (0.01, 1)])
def test_depth_is_the_share_of_the_last_norms(depth: float, count: int) -> None:
    task = Classification(["a", "b", "c"], (32, 32))
    norms = [m for m in task.net.modules() if isinstance(m, nn.BatchNorm2d)]
    with SpatialDropout(0.5, depth).applied(task):
        hooked = [bool(norm._forward_hooks) for norm in norms]
    assert hooked == [False] * (9 - count) + [True] * count


class Backwards(nn.Module):
    """Layers that are called in another order than they are made in; one is never called."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.second, self.unused, self.first = norm(4), norm(4), norm(4)
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.out = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.second(self.first(self.conv(images)))
        return self.fc(self.out(maps).mean((2, 3)))


def test_maps_are_found_in_the_order_of_their_calls(make_task) -> None:
    task = make_task(Backwards(nn.BatchNorm2d))
    assert find_maps(task) == [task.net.first, task.net.second]
    grouped = make_task(Backwards(lambda width: nn.GroupNorm(2, width)))
    assert find_maps(grouped) == [grouped.net.first, grouped.net.second]


def test_without_norms_convolutions_that_are_no_outputs_give_the_maps(make_task) -> None:
    task = make_task(Backwards(lambda width: nn.Identity()), output_layers=("out",))
    assert find_maps(task) == [task.net.conv]


def test_a_network_without_maps_is_refused(make_task) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.BatchNorm1d(8))
    with pytest.raises(BadInput, match="Sequential: no layer gives maps"):
        SpatialDropout().attach(make_task(net))


def test_only_the_lowest_units_are_drawn() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    assert draw_kept(scores, 0.5, 1.0).tolist() == [1, 0, 0, 1, 1]  # two of five
    assert draw_kept(scores, 0.6, 1.0).tolist() == [0, 0, 0, 1, 1]
    assert draw_kept(scores, 0.5, 0.0).tolist() == [1] * 5
    torch.manual_seed(0)
    kept = torch.stack([draw_kept(scores, 0.5, 0.3) for _ in range(4000)])
    assert kept[:, [0, 3, 4]].all()
    for unit in (1, 2):
        assert float(1 - kept[:, unit].mean()) == pytest.approx(0.3, abs=sigmas(0.3, 4000))
    # Each for itself.
    both = float((kept[:, 1] + kept[:, 2] == 0).float().mean())
    assert both == pytest.approx(0.09, abs=sigmas(0.09, 4000))


@pytest.mark.parametrize(
    "net",
    ["plain", "residual", "concat", "squeeze", "depthwise", "grouped", "flat", "transposed"],
)
def test_a_targeted_batch_sees_the_network_without_the_units(net: str, make_task) -> None:
    task = make_task(net)
    groups = find_groups(task).groups
    scores = Magnitude().scores(task, groups, None)
    plan = [
        (group, values.argsort()[: int(0.5 * group.num_units)].tolist())
        for group, values in zip(groups, scores, strict=True)
    ]
    masked = clone(settled(task))
    mask_(masked, plan)
    images = task.example_images(3)
    plain, expected = task(images)["logits"], masked(images)["logits"]
    with TargetedDropout(rate=1.0, share=0.5).applied(task):
        assert torch.allclose(task(images)["logits"], expected, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-5)


def test_dropped_units_get_no_gradient_and_norms_keep_their_statistics(make_task) -> None:
    task = make_task("plain")
    (first, second) = find_groups(task).groups
    lowest = Magnitude().scores(task, [first], None)[0].argsort()[:8]
    conv, norm = task.net.body[0][0], task.net.body[0][1]
    images = task.example_images(8)
    task.train()
    with TargetedDropout(rate=1.0, share=0.5).applied(task):
        task(images)["logits"].square().sum().backward()
    for parameter in (conv.weight, norm.weight, norm.bias):
        size = parameter.grad.flatten(1).norm(dim=1) if parameter.ndim > 1 else parameter.grad.abs()
        is_lowest = torch.isin(torch.arange(16), lowest)
        assert (size[is_lowest] == 0).all()
        assert (size[~is_lowest] > 0).all()
    other = make_task("plain")
    other.train()
    other(images)
    assert torch.equal(norm.running_var, other.net.body[0][1].running_var)


def test_units_are_ranked_anew_after_some_batches(make_task) -> None:
    task = settled(make_task("plain"))
    images, conv = task.example_images(2), task.net.body[1][0]
    read: list[Tensor] = []
    with TargetedDropout(rate=1.0, share=0.1, rank_every=2).applied(task):
        handle = conv.register_forward_pre_hook(
            lambda _, inputs: read.append(inputs[0].abs().sum((0, 2, 3)) == 0)
        )
        for _ in range(4):
            task(images)
            with torch.no_grad():
                # Whichever unit was the lowest is now the highest.
                for layer in (task.net.body[0][0], task.net.body[0][1]):
                    layer.weight[read[-1]] = 9.0
        handle.remove()
    units = [dropped.nonzero().flatten().tolist() for dropped in read]
    assert units[0] == units[1]
    assert units[1] != units[2] == units[3]


def test_names_tell_the_rate() -> None:
    assert ids == ["dropout-0.5", "spatial-0.5", "dropblock-0.5", "targeted-1"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: HeadDropout(1.0), r"rate is 1\.0"),
        (lambda: SpatialDropout(-0.1), r"rate is -0\.1"),
        (lambda: SpatialDropout(depth=0), "SpatialDropout: depth is 0"),
        (lambda: DropBlock(block_size=4), "block_size is 4, it must be odd"),
        (lambda: DropBlock(block_size=-1), "block_size is -1"),
        (lambda: DropBlock(depth=1.5), r"DropBlock: depth is 1\.5"),
        (lambda: TargetedDropout(rate=1.1), r"rate is 1\.1"),
        (lambda: TargetedDropout(share=1.0), r"share is 1\.0"),
        (lambda: TargetedDropout(rank_every=0), "rank_every is 0"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Dropout], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        make()


def test_nothing_to_target_is_refused(make_task) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    with pytest.raises(BadInput, match="nothing to target"):
        TargetedDropout().attach(make_task(net, output_layers=("1",)))
