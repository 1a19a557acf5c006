"""A pruned network is as wide as before, does what it did, and can learn with what came back."""

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from regrow.errors import BadInput
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.masks import mask_weights_, masks_of
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Plan, widths
from regrow.prune.channels.surgery import cut_, exact_copy
from regrow.prune.cost_model import costs_of
from regrow.prune.widening.widen import asked_for, widen_

# Largest difference in float64, of the largest output.
ROUNDING = 1e-12
NAMES = [
    "plain", "residual", "concat", "squeeze", "depthwise", "grouped", "split", "shuffle", "padded",
    "flat", "transposed", "group_norm", "vit", "timm_vit", "levit", "coatnet", "mobilenet_v3_small",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("swin", "swin_v2", "timm_swin", "resnet18"))
]  # fmt: skip
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}
TASKS = [
    pytest.param(Classification, "timm/vit_tiny_patch16_224", VIT, 32, id="vit"),
    pytest.param(Classification, "small", {}, 32, id="classification"),
    pytest.param(Detection, "small", {}, 64, id="detection"),
    pytest.param(Segmentation, "small", {}, 32, id="segmentation"),
    pytest.param(Segmentation, "lraspp", {}, 32, id="lraspp"),
    pytest.param(Classification, "cifar_resnet20", {}, 32, id="cifar", marks=pytest.mark.slow),
    *(
        pytest.param(Detection, net, args, size, id=net, marks=pytest.mark.slow)
        for net, args, size in [
            ("fcos", {"backbone": "timm/mobilenetv3_small_050"}, 64),
            ("torchvision/ssdlite320_mobilenet_v3_large", {}, 320),
            ("torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", {}, 128),
        ]
    ),
]


def make(task_class: type[Task], net: str, args: dict[str, Any], size: int) -> Task:
    torch.manual_seed(0)
    return task_class(["a", "b", "c"], (size, size), net=net, net_args=args)


def batch(task: Task, count: int = 4) -> tuple[Tensor, Any]:
    images, size = task.example_images(count), task.size[0]
    if task.kind == "labels":
        return images, torch.arange(count) % 3
    if task.kind == "masks":
        return images, (torch.arange(size) % 3).to(torch.uint8).expand(count, size, size)
    boxes = torch.tensor([[2.0, 3.0, 30.0, 28.0], [size - 30.0, 5.0, size - 4.0, 40.0]])
    return images, [{"boxes": boxes, "labels": torch.tensor([i % 3, 1])} for i in range(count)]


def wide_task(make_task: Callable, name: str) -> Any:
    if name in ("resnet18", "mobilenet_v3_small"):
        return make_task(get_model(name, weights=None), 32)
    return make_task(name, 32 if "swin" in name else 16)


def cut_half_(task: Any, *, normed: bool = False) -> Plan:
    generator = random.Random(3)
    plan = [
        (group, sorted(generator.sample(range(group.num_units), group.num_units // 2)))
        for group in find_groups(task).groups
        if normed or not group.is_normed  # these do not come back
    ]
    cut_(task, plan)
    return plan


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}


def distance(before: Any, after: Any) -> float:
    """Return the largest difference of the outputs in float64, of the largest output."""
    images = before.example_images(3)
    with torch.no_grad():
        one, other = exact_copy(before)(images), exact_copy(after)(images)
    assert one.keys() == other.keys()
    return max(
        float((other[n] - value).abs().max() / value.abs().max()) for n, value in one.items()
    )


def loss_of(task: Any, images: Tensor, targets: Any) -> Tensor:
    return torch.stack(list(task.losses(task(images), targets).values())).sum()


@pytest.mark.parametrize("name", NAMES)
def test_a_wide_network_does_what_the_narrow_one_did(make_task: Callable, name: str) -> None:
    task, dense = wide_task(make_task, name), wide_task(make_task, name).net
    full, state = widths(task.net), shapes(task.net)
    plan = cut_half_(task)
    narrow = copy.deepcopy(task)
    with torch.no_grad():
        assert exact_copy(task)(task.example_images(3))["logits"].std() > 1e-6
    result = widen_(task, dense)
    assert widths(narrow.net) != full
    assert widths(task.net) == full
    assert shapes(task.net) == state
    assert distance(narrow, task) <= ROUNDING
    lost = {g.layer: len(u) * (1 if g.is_heads else g.channels_per_unit) for g, u in plan if u}
    assert result.gained == lost
    assert not result.left_narrow


@pytest.mark.parametrize(("task_class", "net", "args", "size"), TASKS)
def test_networks_of_every_task_widen_learn_and_are_pruned_again(
    task_class: Any, net: str, args: dict, size: int, tmp_path: Any
) -> None:
    task = make(task_class, net, args, size)
    full = widths(task.net)
    for parameter in task.output_layers():
        nn.init.normal_(task.net.get_submodule(parameter).weight)
    cut_half_(task)
    narrow = copy.deepcopy(task)
    widen_(task)
    assert widths(task.net) == full
    assert distance(narrow, task) <= ROUNDING
    task.net.float()
    with torch.no_grad():
        for name, value in narrow.eval()(task.example_images(2)).items():
            after = task.eval()(task.example_images(2))[name]
            assert (after - value).abs().max() <= 1e-5 * value.abs().max()
    save(tmp_path / "wide.ckpt", task)
    again = load(tmp_path / "wide.ckpt")
    assert all(torch.equal(v, again.net.state_dict()[n]) for n, v in task.net.state_dict().items())
    task.train()
    loss_of(task, *batch(task)).backward()
    assert all(torch.isfinite(p.grad).all() for p in task.net.parameters() if p.grad is not None)
    cut_half_(task)
    assert widths(task.net) == widths(narrow.net)


def test_what_reads_new_channels_learns_first_and_then_what_makes_them() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    cut_half_(task)
    widen_(task)
    task.train()
    # Half of the stream's and of each block's channels are new, and the last ones.
    inner, outer = task.net.two[1].first[0].weight, task.net.two[1].second.weight
    half = len(inner) // 2
    images, labels = task.example_images(8), torch.arange(8) % 2
    loss_of(task, images, labels).backward()
    assert not outer[:half, half:].any()
    assert inner.grad[half:].count_nonzero() == 0
    assert (outer.grad[:half, half:].flatten(2).norm(dim=(0, 2)) > 0).all()
    assert (task.net.head.weight.grad[:, 8:].abs().sum(0) > 0).any()
    torch.optim.SGD(task.net.parameters(), lr=0.1).step()
    task.net.zero_grad()
    loss_of(task, images, labels).backward()
    assert (inner.grad[half:].flatten(1).norm(dim=1) > 0).all()


def test_widening_by_hand_worked_weights(make_task: Callable) -> None:
    def chain(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, width, 1),
            nn.ReLU(), nn.Conv2d(width, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip

    task, dense = make_task(chain(3)), chain(5)
    old = copy.deepcopy(task.net)
    assert widen_(task, dense).gained == {"0": 2, "2": 2}
    net = task.net
    # What makes new channels is what the dense network drew, wherever it reads from.
    for layer in (0, 2):
        assert torch.equal(net[layer].weight[3:], dense[layer].weight[3:])
        assert torch.equal(net[layer].bias, torch.cat([old[layer].bias, dense[layer].bias[3:]]))
    assert torch.equal(net[0].weight[:3], old[0].weight)
    assert torch.equal(net[2].weight[:3, :3], old[2].weight)
    assert torch.equal(net[4].weight[:, :3], old[4].weight)
    assert not net[2].weight[:3, 3:].any()
    assert not net[4].weight[:, 3:].any()
    assert torch.equal(net[1].running_mean, torch.cat([old[1].running_mean, torch.zeros(2)]))
    assert net[1].running_var.tolist() == [*old[1].running_var.tolist(), 1, 1]
    assert (net[0].out_channels, net[1].num_features, net[2].in_channels) == (5, 5, 5)


def test_flags_modes_hooks_and_objects_live_on() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    cut_half_(task)
    task.net.stem.requires_grad_(False)
    task.net.train()
    task.net.stem.eval()
    called = []
    task.net.two.register_forward_hook(lambda *_: called.append(1))
    modules = list(task.net.modules())
    modes = [module.training for module in modules]
    widen_(task)
    assert [id(m) for m in task.net.modules()] == [id(m) for m in modules]
    assert [module.training for module in modules] == modes
    assert not any(parameter.requires_grad for parameter in task.net.stem.parameters())
    assert all(parameter.requires_grad for parameter in task.net.two.parameters())
    called.clear()
    task(task.example_images())
    assert called == [1]


def test_masks_stay_where_they_were_and_new_weights_have_none() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    cut_half_(task)
    names = [n for n, w in task.net.named_parameters() if w.ndim == 4]
    old = {n: torch.rand(task.net.get_parameter(n).shape) < 0.5 for n in names}
    mask_weights_(task.net, old)
    narrow = copy.deepcopy(task)
    widen_(task)
    for name, kept in masks_of(task.net).items():
        rows, columns = old[name].shape[:2]
        assert torch.equal(kept[:rows, :columns], old[name])
        assert kept.sum() == old[name].sum() + kept.numel() - old[name].numel()
        assert not task.net.get_parameter(name)[~kept].any()
    assert masks_of(task.net).keys() == old.keys()
    assert distance(narrow, task) <= ROUNDING


def test_momenta_of_new_weights_are_zero() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    cut_half_(task)
    weight = task.net.two[1].second.weight
    momentum, step = torch.randn_like(weight), torch.tensor(7.0)
    task.momenta = {
        "two.1.second.weight": {"exp_avg": momentum, "step": step},
        "two.1.first.0.weight": {"row": torch.ones(3)},
        "head.bias": {"exp_avg": torch.ones(2)},
    }
    widen_(task)
    state = task.momenta["two.1.second.weight"]
    wide = task.net.two[1].second.weight
    assert state["exp_avg"].shape == wide.shape
    assert torch.equal(state["exp_avg"][: len(weight), : weight.shape[1]], momentum)
    assert state["exp_avg"].count_nonzero() == momentum.numel()
    assert state["step"] == 7
    assert task.momenta["two.1.first.0.weight"] == {}
    assert task.momenta["head.bias"]["exp_avg"].tolist() == [1, 1]


def test_widths_that_norms_span_stay_and_are_named() -> None:
    task = make(Classification, "timm/convnext_atto", CONVNEXT, 32)
    full = widths(task.net)
    cut_half_(task, normed=True)
    narrow = copy.deepcopy(task)
    result = widen_(task)
    streams = {group.layer for group in find_groups(narrow).groups if group.is_normed}
    assert streams == result.left_narrow.keys() != set()
    assert all("norms take statistics" in reason for reason in result.left_narrow.values())
    assert result.gained
    assert all(widths(task.net)[n] == full[n] > widths(narrow.net)[n] for n in result.gained)
    assert all(widths(task.net)[n] == widths(narrow.net)[n] < full[n] for n in streams)
    assert distance(narrow, task) <= ROUNDING


def test_a_whole_network_gets_nothing_and_stays() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    before = {name: id(parameter) for name, parameter in task.net.named_parameters()}
    result = widen_(task)
    assert not result.gained
    assert not result.left_narrow
    assert {name: id(parameter) for name, parameter in task.net.named_parameters()} == before


def test_fresh_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    cut_half_(task)
    wide = [copy.deepcopy(task) for _ in range(3)]
    state = torch.random.get_rng_state()
    for twin, seed in zip(wide, (0, 0, 1), strict=True):
        widen_(twin, seed=seed)
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second, third = (twin.net.two[0][0].weight for twin in wide)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


# ---- where gradients ask


def test_the_score_is_the_squared_slope_of_the_loss_along_what_reads_a_unit(
    make_task: Callable,
) -> None:
    task = make_task("concat").double()
    groups = find_groups(task).groups
    batches = [(task.example_images(3), torch.tensor([0, 1, 2]))]
    scores = asked_for(task, groups, batches)
    task.eval()

    def slope(weight: Tensor, index: tuple[int, ...]) -> float:
        with torch.no_grad():
            losses = []
            for sign in (1, -1):
                weight[index] += sign * 1e-5
                losses.append(float(loss_of(task, *batches[0])))
                weight[index] -= sign * 1e-5
        return (losses[0] - losses[1]) / 2e-5

    # The stem's second channel is read by `a` and, at two places, by `b`.
    net = task.net.body
    expected = 0.0
    for layer, channels in ((net.a[0], [1]), (net.b[0], [1, 17])):
        for out in range(layer.out_channels):
            for channel in channels:
                for place in range(9):
                    index = (out, channel, place // 3, place % 3)
                    expected += slope(layer.weight, index) ** 2
    stem = next(i for i, group in enumerate(groups) if group.layer == "body.stem.0")
    assert float(scores[stem][1]) == pytest.approx(expected, rel=1e-4)


class Alike(nn.Module):
    """Layers of one shape, whose channels cost the same."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(3, 8, 3, padding=1) for _ in range(4))
        self.outer = nn.ModuleList(nn.Conv2d(8, 3, 3, padding=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = x + outer(inner(x).relu())
        return x.mean((2, 3))


def test_channels_come_back_where_gradients_ask_until_the_limit(
    make_task: Callable,
) -> None:
    task, dense = make_task(Alike()), Alike()
    cut_half_(task)
    narrow, whole = copy.deepcopy(task), copy.deepcopy(task)
    batches = [(task.example_images(8), torch.arange(8) % 3)]
    widen_(whole, dense, batches=batches)
    low, high = costs_of(narrow)["macs"], costs_of(whole)["macs"]
    limit = (low + high) // 2
    result = widen_(task, dense, limit={"macs": limit}, batches=batches)
    got, groups = costs_of(task)["macs"], find_groups(whole).groups
    assert low < got <= limit
    assert limit - got < (high - low) / sum(group.num_units // 2 for group in groups)
    assert distance(narrow, task) <= ROUNDING
    before, after = widths(narrow.net), widths(task.net)
    scores = zip(groups, asked_for(whole, groups, batches), strict=True)
    new = sorted(((float(v), g.layer) for g, s in scores for v in s[before[g.layer] :]))
    back = {group.layer: after[group.layer] - before[group.layer] for group in groups}
    chosen = [layer for _, layer in new[-sum(back.values()) :]]
    assert {layer: chosen.count(layer) for layer in back} == back
    assert len(set(back.values())) > 1
    assert result.gained == {layer: count for layer, count in back.items() if count}
    assert all("gradients ask for others" in reason for reason in result.left_narrow.values())
    assert result.left_narrow.keys() == {g.layer for g in groups if after[g.layer] < g.width}


def test_norms_of_new_channels_are_measured_and_others_stay() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    cut_half_(task)
    before = task.net.stem[1].running_mean.clone().fill_(0.25)
    task.net.stem[1].running_mean.copy_(before)
    images = task.example_images(8)
    widen_(task, batches=[(images, torch.arange(8) % 2)])
    with torch.no_grad():
        maps = task.net.stem[0](task.prepare(images))
    norm = task.net.stem[1]
    assert torch.equal(norm.running_mean[:2], before)
    torch.testing.assert_close(norm.running_mean[2:], maps.mean((0, 2, 3))[2:])
    torch.testing.assert_close(norm.running_var[2:], maps.var((0, 2, 3))[2:])
    assert norm.num_batches_tracked == 0


# ---- bad input


def test_a_limit_needs_images_and_room() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    cut_half_(task)
    with pytest.raises(BadInput, match="a limit on what comes back needs training images"):
        widen_(task, limit={"macs": 1e9})
    batches = [(task.example_images(2), torch.tensor([0, 1]))]
    with pytest.raises(BadInput, match=r"has \d+ macs already.*raise the limit"):
        widen_(task, limit={"macs": 10}, batches=batches)
    with pytest.raises(BadInput, match="a limit of 'watts'.*macs, params"):
        widen_(task, limit={"watts": 10}, batches=batches)


def test_a_network_whose_outputs_would_move_is_refused_and_stays(
    make_task: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task("plain")
    cut_half_(task)
    before = shapes(task.net)
    # With nothing to read them as zeros, new channels reach the old ones.
    monkeypatch.setattr("regrow.prune.widening.placement.read_by", lambda *_: None)
    with pytest.raises(BadInput, match="cannot be widened: its outputs would move by"):
        widen_(task, make_task("plain").net)
    assert shapes(task.net) == before


def test_a_network_of_another_kind_is_refused(make_task: Callable) -> None:
    task = make_task("plain")
    with pytest.raises(BadInput, match="Head cannot be widened: its dense form would be a Flat"):
        widen_(task, make_task("flat").net)


def test_a_network_that_no_cut_leaves_is_refused_and_stays(make_task: Callable) -> None:
    def chain(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.Conv2d(8, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    task = make_task(chain(2))  # its outputs were cut, which must stay
    before = shapes(task.net)
    with pytest.raises(BadInput, match=r"1\.weight has the shape \(2, 8, 1, 1\), which no cut"):
        widen_(task, chain(3))
    assert shapes(task.net) == before
