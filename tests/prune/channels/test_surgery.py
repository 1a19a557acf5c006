import copy
import random
from collections.abc import Callable

import pytest
import torch
from timm.layers import GroupNorm1
from timm.models.metaformer import MetaFormer
from torch import nn
from torchvision.models import get_model
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.ops import FrozenBatchNorm2d

from regrow.models.nets.padded_norm import forget_
from regrow.models.record.structure import rebuild_, record
from regrow.prune.channels.disturbing import disturb_
from regrow.prune.channels.exactness import check_exact, probe
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Group, Member, removal
from regrow.prune.channels.surgery import clone, cut_, exact_copy, mask_
from regrow.prune.cost_model import CostModel, costs_of
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target

SMALL = [
    "plain", "residual", "concat", "squeeze", "depthwise", "grouped", "split", "shuffle", "padded",
    "flat", "transposed", "group_norm",
]  # fmt: skip
LARGE = ["resnet18", "mobilenet_v3_small"]


def task_of(name: str, make_task):
    return make_task(name) if name in SMALL else make_task(get_model(name, weights=None), 32)


def random_plan(task, share: float = 0.4, seed: int = 5):
    generator = random.Random(seed)
    return [
        (g, sorted(generator.sample(range(g.num_units), max(1, int(share * g.num_units)))))
        for g in find_groups(task).groups
    ]


@pytest.mark.parametrize("name", SMALL + LARGE)
def test_cutting_is_the_same_as_masking(make_task, name):
    task = task_of(name, make_task)
    plan = random_plan(task)
    masked, cut = clone(task), clone(task)
    assert mask_(masked, plan) == cut_(cut, plan)
    # The mask changes what the net says, or the comparison would be empty.
    assert check_exact(task, masked) > 1e-6
    assert check_exact(masked, cut) <= 1e-9
    assert sum(p.numel() for p in cut.net.parameters()) < sum(
        p.numel() for p in task.net.parameters()
    )


@pytest.mark.parametrize("name", SMALL + LARGE)
def test_a_planted_dead_channel_once_cut_changes_nothing(make_task, name):
    task = task_of(name, make_task)
    plan = random_plan(task, 0.2, seed=9)
    # Planted by hand: what makes the channel is zero, what reads it is not.
    for (layer, side), channels in removal(plan).items():
        if side == "in" or layer.endswith("num_groups"):
            continue
        module = task.net.get_submodule(layer)
        with torch.no_grad():
            dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
            module.weight.index_fill_(dim, torch.tensor(channels), 0)
            if module.bias is not None:
                module.bias[channels] = 0
    reference = exact_copy(task)
    cut = exact_copy(task)
    cut_(cut, plan)
    images = task.example_images(2)
    with torch.no_grad():
        before, after = reference(images)["logits"], cut(images)["logits"]
    assert before.abs().max() > 1e-6
    assert (before - after).abs().max() <= 1e-9 * before.abs().max()


def test_cutting_by_hand_worked_weights(make_task):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1))
    weight, bias, reads = net[0].weight.clone(), net[0].bias.clone(), net[1].weight.clone()
    group = Group(
        "0", (Member("0", "out", ((0,), (1,), (2,))), Member("1", "in", ((0,), (1,), (2,))))
    )
    task = make_task(net)
    assert cut_(task, [(group, [1])]) == {("0", "out"): [1], ("1", "in"): [1]}
    assert torch.equal(net[0].weight, weight[[0, 2]])
    assert torch.equal(net[0].bias, bias[[0, 2]])
    assert torch.equal(net[1].weight, reads[:, [0, 2]])
    assert (net[0].out_channels, net[1].in_channels) == (2, 2)


def test_depthwise_convolutions_stay_depthwise(make_task):
    task = make_task("depthwise")
    groups = find_groups(task).groups
    cut_(task, [(groups[0], [0, 5])])
    depthwise = task.net.body[1][0]
    assert (depthwise.groups, depthwise.in_channels, depthwise.out_channels) == (14, 14, 14)
    assert depthwise.weight.shape == (14, 1, 3, 3)


def test_cuts_one_after_another_are_one_cut(make_task):
    together, apart = make_task("concat"), make_task("concat")
    plan = random_plan(together)
    cut_(together, plan)
    groups = [group for group, _ in plan]
    for place, (_, units) in enumerate(plan):
        removed = cut_(apart, [(groups[place], units)])
        groups = [g.after(removed, units if i == place else ()) for i, g in enumerate(groups)]
    for one, other in zip(together.net.parameters(), apart.net.parameters(), strict=True):
        assert torch.equal(one, other)
    # The renumbered groups are those of the smaller net.
    found = {group.layer: group for group in find_groups(apart).groups}
    assert {group.layer: group.num_units for group in groups} == {
        layer: group.num_units for layer, group in found.items()
    }
    for group in groups:
        assert set(group.members) == set(found[group.layer].members)


def test_flags_modes_and_hooks_live_on(make_task):
    task = make_task("residual")
    task.net.train()
    task.net.body.b.eval()
    task.net.body.stem.requires_grad_(False)
    calls = []
    task.net.body.a[0].register_forward_hook(lambda *_: calls.append(1))
    modes = [module.training for module in task.net.modules()]
    flags = {name: p.requires_grad for name, p in task.net.named_parameters()}
    cut_(task, random_plan(task))
    assert [module.training for module in task.net.modules()] == modes
    assert {name: p.requires_grad for name, p in task.net.named_parameters()} == flags
    assert not all(flags.values())
    calls.clear()
    task(task.example_images(2))["logits"].sum().backward()
    assert calls
    assert task.net.body.a[0].weight.grad is not None
    assert task.net.body.stem[0].weight.grad is None


def test_frozen_batch_norms_are_cut(make_task):
    norm = FrozenBatchNorm2d(8)
    norm.running_mean.copy_(torch.arange(8.0))
    task = make_task(nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 3, 3)))
    plan = [(find_groups(task).groups[0], [2, 3])]
    assert probe(task, plan) is None
    cut_(task, plan)
    assert norm.running_mean.tolist() == [0, 1, 4, 5, 6, 7]


def test_a_layer_is_never_emptied(make_task):
    task = make_task("plain")
    group = find_groups(task).groups[0]
    with pytest.raises(ValueError, match=r"body\.0\.0 would be left without channels"):
        cut_(task, [(group, list(range(16)))])


def test_a_clone_shares_nothing_that_cutting_changes(make_task):
    task = make_task("plain")
    task.net.eval()
    state = copy.deepcopy(task.net.state_dict())
    twin = exact_copy(task)
    cut_(twin, random_plan(task))
    assert twin(task.example_images())["logits"].dtype == torch.float64
    assert task(task.example_images())["logits"].dtype == torch.float32
    for name, value in task.net.state_dict().items():
        assert torch.equal(value, state[name])


NORMED = ["vit", "swin", "swin_v2", "timm_vit", "group_norm", "convnext", "metaformer"]


@pytest.mark.parametrize("name", NORMED)
def test_widths_that_norms_span_are_cut_as_masks_say(make_task, name):
    nets: dict[str, Callable[[], nn.Module]] = {
        "convnext": lambda: ConvNeXt(
            [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)], num_classes=3
        ),
        "metaformer": lambda: MetaFormer(
            depths=(1, 1), dims=(8, 12), num_classes=3, downsample_norm=None,
            norm_layers=GroupNorm1, layer_scale_init_values=0.1, res_scale_init_values=None,
            use_mlp_head=False,
        ),
    }  # fmt: skip
    task = make_task(nets[name]() if name in nets else name, 32 if "vit" not in name else 16)
    dense = copy.deepcopy(task.net)
    found = find_groups(task)
    assert set(found.left_whole) == set(last_layers(task))
    assert any(group.is_normed for group in found.groups) == (name != "group_norm")
    disturb_(task.net)
    plan = [(group, list(range(max(1, group.num_units // 4)))) for group in found.groups]
    masked, cut = clone(task), clone(task)
    mask_(masked, plan)
    cut_(cut, plan)
    assert check_exact(masked, cut) <= 1e-9
    # Not so if the norms forget how many channels there were, unless their groups go whole.
    forgetful = clone(cut)
    forget_(forgetful.net)
    error = check_exact(masked, forgetful)
    assert error <= 1e-9 if name == "group_norm" else error > 1e-6
    model = CostModel(task)
    assert model.predict(plan) == costs_of(cut) != costs_of(task)
    rebuild_(dense, record(cut.net, dense))
    dense.load_state_dict(cut.net.state_dict())
    images = cut.prepare(cut.example_images(2))
    with torch.no_grad():
        assert torch.equal(dense.eval()(images), cut.net.eval()(images))
    cut.net.train()
    cut.losses(cut(cut.example_images(2)), torch.tensor([0, 2]))["ce"].backward()
    assert not [name for name, p in cut.net.named_parameters() if p.grad is None]
    # What is left is found and cut again, and the norms go on to count all that there was.
    again = {group.layer for group in find_groups(cut).groups if group.num_units > 1}
    assert again == {g.layer for g, units in plan if g.num_units - len(units) > 1}
    further = [(g, [0]) for g in find_groups(cut).groups]
    masked, twice = clone(cut), clone(cut)
    mask_(masked, further)
    cut_(twice, further)
    assert check_exact(masked, twice) <= 1e-9
    forget_(twice.net)
    assert (check_exact(masked, twice) > 1e-6) == (name != "group_norm")


def last_layers(task) -> list[str]:
    """Name the layer of a classifier that makes the logits."""
    linear = [name for name, m in task.net.named_modules() if isinstance(m, nn.Linear)]
    return [name for name in linear if task.net.get_submodule(name).out_features == 3][-1:]


class Dusk(nn.Module):
    """Looks at some of its channels once more where an image is of one grey, as none made up is."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 48, 3)
        self.fc = nn.Linear(48, 3)

    def forward(self, x):
        seen = self.stem(x).relu()
        y = self.body(seen).mean((2, 3))
        flat = (1 - 1e3 * x.std((1, 2, 3))).clamp(min=0)[:, None]  # no number that can be led
        return self.fc(y * (1 - flat) + flat * y * seen[:, :8].mean((1, 2, 3))[:, None])


def test_a_choice_that_only_some_images_make_is_proved_on_these(make_task):
    task = make_task(Dusk())
    grey = torch.full((1, 3, *task.size), 90, dtype=torch.uint8)
    (group,) = (g for g in find_groups(task).groups if g.layer == "stem")
    plan = [(group, list(range(8)))]
    assert probe(task, plan) is None
    assert "not exact" in str(probe(task, plan, grey))
    assert "not exact" in find_groups(task, images=grey).left_whole["stem"]
    noise = task.example_images(8)
    labels = torch.zeros(9, dtype=torch.long)
    batches = [(torch.cat([noise, grey]), labels)]
    channels = Channels(task, Target(macs=0.8), Selection(round_to=8))
    channels.cut_(task, batches, {"macs": 0.8}, tightly=True)
    assert "not exact" in channels.refused["stem"]
