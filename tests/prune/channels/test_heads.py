"""Heads of attention as units: found, cut exactly, rebuilt, scored and paid for."""

import copy
import json
import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from regrow.models.nets.attention import is_converted
from regrow.models.record.structure import rebuild_, record
from regrow.prune.channels.disturbing import disturb_
from regrow.prune.channels.exactness import check_exact
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.heads import find_heads
from regrow.prune.channels.records import Member
from regrow.prune.channels.surgery import clone, cut_, exact_copy, mask_
from regrow.prune.contributions import contributions
from regrow.prune.cost_model import CostModel, costs_of
from regrow.prune.criteria import Magnitude, Taylor


def random_plan(groups, seed: int = 5):
    generator = random.Random(seed)
    return [(g, sorted(generator.sample(range(g.num_units), g.num_units // 2))) for g in groups]


def heads_of(task):
    return [group for group in find_groups(task).groups if group.layer in find_heads(task.net)]


def test_heads_are_found_cut_exactly_and_paid_for(transformer):
    task, heads = transformer
    found = find_groups(task)
    assert {group.layer: group.num_units for group in heads_of(task)} == heads
    plan = random_plan(found.groups)
    disturb_(task.net)
    masked, cut = clone(task), clone(task)
    mask_(masked, plan)
    cut_(cut, plan)
    assert check_exact(task, masked) > 1e-6
    assert check_exact(masked, cut) <= 1e-9
    model = CostModel(task)
    assert model.predict([]) == costs_of(task)
    assert model.predict(plan) == costs_of(cut) != costs_of(task)
    # What prunes one layer alone is paid for too.
    for group, units in plan:
        cut = clone(task)
        cut_(cut, [(group, units)])
        assert model.predict([(group, units)]) == costs_of(cut)


def test_a_network_without_some_heads_is_rebuilt_and_trains(transformer):
    task, _ = transformer
    dense, untouched = copy.deepcopy(task.net), copy.deepcopy(task.net)
    cut_(task, random_plan(find_groups(task).groups))
    made = json.loads(json.dumps(record(task.net, dense)))
    rebuild_(dense, made)
    dense.load_state_dict(task.net.state_dict())
    images = task.example_images(2)
    with torch.no_grad():
        expected = task.net.eval()(task.prepare(images))
        assert torch.equal(dense.eval()(task.prepare(images)), expected)
    assert record(dense, untouched) == record(task.net, untouched)
    task.net.train()
    losses = task.losses(task(images), torch.tensor([0, 2]))
    losses["ce"].backward()
    missing = [name for name, p in task.net.named_parameters() if p.grad is None]
    assert not missing


def test_what_is_left_is_pruned_again(transformer):
    task, heads = transformer
    groups = find_groups(task).groups
    plan = [(group, [0]) for group in groups]
    removed = cut_(task, plan)
    after = [group.after(removed, [0]) for group in groups if group.num_units > 2]
    found = {group.layer: group for group in find_groups(task).groups}
    left = {name: count - 1 for name, count in heads.items() if count > 2}
    assert left.items() <= {group.layer: group.num_units for group in found.values()}.items()
    for group in after:
        assert set(group.members) == set(found[group.layer].members)


def test_finding_and_scoring_convert_nothing(transformer):
    task, _ = transformer
    kinds = [type(module) for module in task.net.modules()]
    groups = find_groups(task).groups
    CostModel(task)
    Taylor(1).scores(task, groups, [(task.example_images(2), torch.tensor([0, 2]))])
    assert [type(module) for module in task.net.modules()] == kinds
    assert not any(module._forward_pre_hooks for module in task.net.modules())
    # Also when timm keeps what it has computed.
    assert check_exact(task, clone(task)) == 0


def test_only_attention_that_loses_heads_is_converted(make_task):
    task = make_task("vit")
    first, second = heads_of(task)
    attention = task.net.get_submodule(first.layer)
    weight = attention.in_proj_weight.detach().clone()
    cut_(task, [(first, [1])])
    assert task.net.get_submodule(first.layer) is attention
    assert is_converted(attention)
    assert not is_converted(task.net.get_submodule(second.layer))
    # Heads are 4 wide; queries, keys and values lie one after another.
    rows = [row for row in range(48) if row % 16 not in range(4, 8)]
    assert torch.equal(attention.in_proj_weight, weight[rows])
    assert (attention.num_heads, attention.out_proj.in_features) == (3, 12)


def test_the_members_of_a_head_worked_by_hand(make_task):
    group = heads_of(make_task("vit"))[0]
    name = "encoder.layers.encoder_layer_0.self_attention"
    read = tuple(tuple(range(4 * head, 4 * head + 4)) for head in range(4))
    made = tuple(tuple(16 * part + c for part in range(3) for c in unit) for unit in read)
    assert set(group.members) == {
        Member(f"{name}.out_proj", "in", read),
        Member(f"{name}.in_proj_weight", "out", made, 0),
        Member(f"{name}.in_proj_bias", "out", made, 0),
        Member(f"{name}.num_heads", "out", ((0,), (1,), (2,), (3,)), is_count=True),
    }
    assert group.members[0].layer == f"{name}.out_proj"
    assert (group.layer, group.width) == (name, 16)


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_the_last_head_stays(make_task, name):
    task = make_task(name, 32 if name == "swin" else 16)
    group = heads_of(task)[0]
    with pytest.raises(ValueError, match="would be left without channels"):
        cut_(task, [(group, list(range(group.num_units)))])


class Strange(nn.Module):
    """Attention that looks like any other, and depends on its width."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.qkv, self.proj = nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v, scale=d**-0.5)
        return self.proj(x.transpose(1, 2).reshape(b, n, d))


class Mixed(Strange):
    """Attention whose heads are normalised over all of them."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v).softmax(1)
        return self.proj(x.transpose(1, 2).flatten(2))


class Weights(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x, need_weights=False)[0]


class Asked(nn.Module):
    """PyTorch's attention, asked for its weights, which are averaged over the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(24, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, weights = self.inner(x, x, x)
        return out + weights.square().mean()


@pytest.mark.parametrize(
    ("attention", "layer", "reason"),
    [
        (Strange, "attn", "heads are not told apart: cutting it fails"),
        (Mixed, "attn", "heads are not told apart: cutting it is not exact"),
        (lambda: Weights(24, 3, batch_first=True), "attn", "heads are not told apart"),
        (Asked, "attn.inner", "heads are not told apart: cutting it is not exact"),
    ],
)
def test_attention_that_is_not_understood_is_left_whole_by_name(
    make_task, attention, layer, reason
):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.attn = nn.Conv2d(3, 24, 4, 4), attention()
            self.hidden, self.fc = nn.Linear(24, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x).flatten(2).transpose(1, 2)
            return self.fc(self.hidden((x + self.attn(x)).mean(1)).relu())

    found = find_groups(make_task(Net()))
    assert reason in found.left_whole[layer]
    assert "hidden" in {group.layer for group in found.groups}
    assert layer not in {group.layer for group in found.groups}
    makers = [name for name in found.left_whole if name.endswith("qkv")]
    assert all("makes the heads of attn" in found.left_whole[name] for name in makers)


@pytest.mark.parametrize("name", ["vit", "swin", "timm_vit"])
def test_a_head_contributes_to_each_image_what_scaling_it_would_change(make_task, name):
    task = exact_copy(make_task(name, 32 if name == "swin" else 16))
    disturb_(task.net)
    group = heads_of(task)[1]
    images, targets = task.example_images(3), torch.tensor([0, 1, 2])
    found = contributions(task, [group], images, targets)[0]
    assert found is not None
    assert found.shape == (3, group.num_units)
    reader = group.members[0]
    whole = task.net.get_submodule(reader.layer).weight.detach().clone()
    for unit, channels in enumerate(reader.units):
        for image in range(3):
            one = slice(image, image + 1)

            def loss(factor: float, channels=channels, one=one) -> float:
                with torch.no_grad():
                    weight = task.net.get_submodule(reader.layer).weight
                    weight.copy_(whole)
                    weight[:, list(channels)] *= factor
                    return float(task.losses(task(images[one]), targets[one])["ce"])

            slope = (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5
            assert float(found[image, unit]) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_what_attention_has_computed_from_its_weights_is_forgotten_when_they_are_cut(make_task):
    task = make_task("levit")
    task.net.eval()
    with torch.no_grad():
        # In evaluation timm's LeViT keeps its biases of all heads.
        task(task.example_images(1))
        assert task.net.attn.attention_bias_cache
        plan = [(heads_of(task)[0], [0])]
        masked = clone(task)
        mask_(masked, plan)
        cut_(task, plan)
        got = task(task.example_images(1))["logits"]
    expected = masked(task.example_images(1))["logits"]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_norm_of_a_head_is_that_of_what_makes_and_reads_it(make_task):
    task = make_task("vit")
    group = heads_of(task)[0]
    attention = task.net.get_submodule(group.layer)
    # Queries, keys and values of four heads, each 4 wide.
    made = (
        attention.in_proj_weight.detach().view(3, 4, 4, 16).transpose(0, 1).flatten(1).norm(dim=1)
    )
    read = attention.out_proj.weight.detach().view(16, 4, 4).transpose(0, 1).flatten(1).norm(dim=1)
    (scores,) = Magnitude(2).scores(task, [group], None)
    torch.testing.assert_close(scores, (made + read) / 2)
