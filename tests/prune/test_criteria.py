import math

import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Group, Member
from regrow.prune.criteria import (
    ActivationGradient,
    ConsumerMagnitude,
    Fisher,
    Lamp,
    Magnitude,
    NormScale,
    Random,
    Taylor,
    fisher,
    lamp,
    magnitude,
    normalised,
    score_groups,
)


def test_magnitude_by_hand():
    weight = torch.tensor([[3.0, -4.0], [0.0, 0.0], [1.0, 1.0]])
    assert magnitude(weight).tolist() == pytest.approx([5, 0, math.sqrt(2)])
    assert magnitude(weight, 1).tolist() == [7, 0, 2]


def test_fisher_by_hand():
    weight = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    squares = torch.tensor([[0.5, 1.0], [2.0, 4.0]])
    # (1 * 0.5 + 4 * 1) / 2, and (9 * 2 + 1 * 4) / 2
    assert fisher(weight, squares).tolist() == [2.25, 11]
    with pytest.raises(ValueError, match=r"squares has shape \(3,\), the weights \(2,\)"):
        fisher(torch.zeros(2), torch.zeros(3))


def test_fisher_is_the_loss_of_removing_a_channel_from_a_parabola():
    # The loss is 3/2 |w - 1|^2 at its minimum: no slope, and a curvature of 3.
    weight = torch.ones(2, 4)
    for channel in range(2):
        without = weight.clone()
        without[channel] = 0
        cost = 1.5 * (without - 1).square().sum()
        assert fisher(weight, torch.full((2, 4), 3.0))[channel] == pytest.approx(float(cost))


def test_lamp_by_hand():
    # Squares 9, 1, 4: 9 / 9, 1 / 14, 4 / 13.
    assert lamp(torch.tensor([3.0, 1.0, 2.0])).tolist() == pytest.approx([1, 1 / 14, 4 / 13])
    assert lamp(torch.tensor([2.0, 2.0])).tolist() == pytest.approx([0.5, 1])
    assert lamp(torch.zeros(2)).tolist() == [0, 0]


def test_consumers_count_by_the_weights_that_read_a_unit_and_nothing_else(make_task):
    task = make_task("residual")
    groups = {group.layer: group for group in find_groups(task).groups}
    stem, inner = groups["body.stem.0"], groups["body.a.0"]
    (found,) = score_groups(task, [inner], ConsumerMagnitude(), normalizer="none")
    norms = task.net.body.b[0].weight.detach().square().sum((0, 2, 3)).sqrt()
    assert torch.allclose(found, norms / norms.max())
    # The stream is read by the next branch and by the classifier, each in a scale of its own.
    branch = task.net.body.a[0].weight.detach().square().sum((0, 2, 3)).sqrt()
    readers = [branch, task.net.fc.weight.detach().norm(dim=0)]
    (found,) = score_groups(task, [stem], ConsumerMagnitude(), normalizer="none")
    assert torch.allclose(found, sum(norm / norm.max() for norm in readers) / 2)
    with torch.no_grad():
        task.net.body.stem[0].weight[3] *= 100
        task.net.body.stem[1].weight[3] *= 100
    (again,) = score_groups(task, [stem], ConsumerMagnitude(), normalizer="none")
    assert torch.equal(found, again)


def test_units_that_no_layer_reads_count_by_what_makes_them(make_task):
    task = make_task("plain")
    group = find_groups(task).groups[0]
    makers = [member for member in group.members if member.layer == group.layer]
    alone = Group(group.layer, tuple(member for member in makers if member.side == "out"))
    (found,) = score_groups(task, [alone], ConsumerMagnitude(), normalizer="none")
    weight = task.net.get_submodule(group.layer).weight.detach()
    assert torch.allclose(found, weight.flatten(1).norm(dim=1))


def test_raw_scores_differ_from_normalised_ones_by_the_mean_of_their_group(make_task):
    task = make_task("residual")
    groups = find_groups(task).groups
    raw = score_groups(task, groups, Magnitude(), normalizer="none")
    by_mean = score_groups(task, groups, Magnitude())
    for one, other in zip(raw, by_mean, strict=True):
        assert torch.allclose(one / one.mean(), other)
        assert not torch.allclose(one, other)
    # Scores that compare as they are stay so.
    lamps = [score_groups(task, groups, Lamp(), normalizer=name) for name in ("none", "mean")]
    assert all(torch.equal(*pair) for pair in zip(*lamps, strict=True))


def test_scores_are_normalised_to_mean_one_and_zeros_stay():
    assert normalised(torch.tensor([1.0, 3.0])).tolist() == [0.5, 1.5]
    assert normalised(torch.zeros(2)).tolist() == [0, 0]


def two_layers() -> tuple[nn.Sequential, Group]:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        net[0].bias.copy_(torch.tensor([100.0, 200.0]))
        net[1].weight.copy_(torch.tensor([[2.0, -6.0]]))
    units = ((0,), (1,))
    return net, Group("0", (Member("0", "out", units), Member("1", "in", units)))


def test_magnitude_of_a_group_averages_what_makes_and_what_reads_a_channel(make_task):
    net, group = two_layers()
    # Norms 5 and 1 of the rows, 2 and 6 of the columns; biases do not count.
    assert Magnitude().scores(make_task(net), [group], None)[0].tolist() == [3.5, 3.5]
    assert Magnitude(p=1).scores(make_task(net), [group], None)[0].tolist() == [4.5, 3.5]
    (scores,) = score_groups(make_task(net), [group], Magnitude(p=1))
    assert scores.tolist() == pytest.approx([4.5 / 4, 3.5 / 4])


def test_a_layer_that_sees_part_of_the_units_counts_for_these_only(make_task):
    net, _ = two_layers()
    group = Group("0", (Member("0", "out", ((0,), (1,))), Member("1", "in", ((), (1,)))))
    assert Magnitude().scores(make_task(net), [group], None)[0].tolist() == [5, 3.5]


def test_a_unit_of_several_channels_is_scored_as_a_whole(make_task):
    net, _ = two_layers()
    group = Group("0", (Member("0", "out", ((0, 1),)),))
    expected = math.sqrt(3**2 + 4**2 + 1)
    assert Magnitude().scores(make_task(net), [group], None)[0].tolist() == pytest.approx(
        [expected]
    )


def batches(count: int = 3, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (
            torch.randint(0, 256, (size, 3, 16, 16), generator=generator, dtype=torch.uint8),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def per_image(task, group, data) -> Tensor:
    """What each image's loss owes to each unit: weights times gradients of what reads it."""
    rows = []
    for images, targets in data:
        for image, target in zip(images, targets, strict=True):
            task.net.eval()
            task.net.zero_grad()
            nn.functional.cross_entropy(task(image[None])["logits"], target[None]).backward()
            row = torch.zeros(group.num_units)
            for member in group.members:
                if member.side == "in":
                    layer = task.net.get_submodule(member.layer)
                    product = (layer.weight * layer.weight.grad).transpose(0, 1).flatten(1).sum(1)
                    for unit, channels in enumerate(member.units):
                        row[unit] += product[list(channels)].sum().detach()
            rows.append(row)
    task.net.zero_grad()
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["plain", "residual", "concat", "depthwise", "squeeze", "flat"])
def test_gradient_criteria_by_brute_force_image_by_image(make_task, name):
    task, data = make_task(name), batches(2)
    groups = find_groups(task).groups
    sizes = Taylor(2).scores(task, groups, data)
    squares = Taylor(2, power=2).scores(task, groups, data)
    signed = ActivationGradient(2).scores(task, groups, data)
    for index, group in enumerate(groups):
        rows = per_image(task, group, data)
        assert rows.abs().max() > 0
        torch.testing.assert_close(sizes[index], rows.abs().mean(0), rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(squares[index], rows.square().mean(0), rtol=1e-3, atol=1e-8)
        mean = rows.mean(0).abs()
        torch.testing.assert_close(signed[index], mean / mean.norm(), rtol=1e-3, atol=1e-5)


def test_what_images_disagree_about_is_worth_something_to_taylor_alone(make_task):
    # The unit is the input; one image gains by it what the other loses.
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 2, bias=False), nn.Linear(2, 3, bias=False))
    task = make_task(net)
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[:, 0] = 1
        net[2].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    images = torch.full((2, 3, 16, 16), 255, dtype=torch.uint8)
    units = ((0,), (1,))
    group = Group("1", (Member("1", "out", units), Member("2", "in", units)))
    # Classes 0 and 1 get p and q: the derivatives are 0.5 (p - 1 - q) and 0.5 (p - q + 1).
    p, q, r = torch.tensor([0.5, -0.5, 0.0]).softmax(0).tolist()
    one, other = 0.5 * (p - 1 - q), 0.5 * (p - q + 1)
    assert r > 0
    (sizes,) = Taylor(1).scores(task, [group], [(images, torch.tensor([0, 1]))])
    assert sizes.tolist() == pytest.approx([(abs(one) + abs(other)) / 2, 0], abs=1e-6)
    (signed,) = ActivationGradient(1).scores(task, [group], [(images, torch.tensor([0, 1]))])
    assert signed.tolist() == pytest.approx([1, 0])


def test_fisher_by_brute_force_image_by_image(make_task):
    task, data = make_task("plain"), batches(2)
    group = find_groups(task).groups[0]
    (scores,) = Fisher(num_images=6).scores(task, [group], data)
    made, norm, reads = task.net.body[0][0], task.net.body[0][1], task.net.body[1][0]
    weights = [made.weight, norm.weight, norm.bias, reads.weight]
    squares = [torch.zeros_like(weight) for weight in weights]
    images, targets = (torch.cat(parts)[:6] for parts in zip(*data, strict=True))
    task.net.eval()
    for image, target in zip(images, targets, strict=True):
        loss = nn.functional.cross_entropy(task(image[None])["logits"], target[None])
        for square, grad in zip(squares, torch.autograd.grad(loss, weights), strict=True):
            square += grad.square() / 6
    costs = [0.5 * w.detach().square() * s for w, s in zip(weights, squares, strict=True)]
    expected = costs[0].flatten(1).sum(1) + costs[1] + costs[2]
    expected = expected + costs[3].transpose(0, 1).flatten(1).sum(1)
    torch.testing.assert_close(scores, expected / 3, rtol=1e-3, atol=1e-9)


def test_norm_scale_is_the_size_of_the_scale(make_task):
    task = make_task("plain")
    groups = find_groups(task).groups
    with torch.no_grad():
        task.net.body[0][1].weight.copy_(torch.linspace(-1, 0.5, 16))
        task.net.body[0][1].bias.fill_(9)
    scores = NormScale().scores(task, groups, None)[0]
    torch.testing.assert_close(scores, torch.linspace(-1, 0.5, 16).abs())
    net, group = two_layers()
    with pytest.raises(BadInput, match="0: no batch norm scales its channels"):
        NormScale().scores(make_task(net), [group], None)


def test_lamp_compares_between_layers_as_it_is(make_task):
    task = make_task("plain")
    groups = find_groups(task).groups
    for given, norms in zip(
        score_groups(task, groups, Lamp()), Magnitude().scores(task, groups, None), strict=True
    ):
        assert given.max() == 1
        assert torch.equal(given, lamp(norms))


def test_taylor_finds_the_dead_channel(make_task):
    task = make_task("residual")
    groups = find_groups(task).groups
    with torch.no_grad():
        task.net.body.a[1].weight[7] = 0
        task.net.body.a[1].bias[7] = 0
        task.net.body.b[0].weight[:, 7] = 0
    index = [group.layer for group in groups].index("body.a.0")
    scores = score_groups(task, groups, Taylor(), batches())[index]
    assert scores[7] == 0 < scores.max()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Taylor(0), "criterion.num_batches is 0"),
        (lambda: ActivationGradient(0), "criterion.num_batches is 0"),
        (lambda: Fisher(0), "criterion.num_images is 0"),
        (lambda: Magnitude(0.5), "criterion.p is 0.5"),
    ],
)
def test_criteria_refuse_values_out_of_range(make, said):
    with pytest.raises(BadInput, match=said):
        make()


def test_taylor_without_images_is_bad_input(make_task):
    task = make_task("plain")
    with pytest.raises(BadInput, match="needs training images"):
        score_groups(task, [], Taylor())
    with pytest.raises(BadInput, match="no training images to rank by"):
        score_groups(task, [], Taylor(), [])


def test_scores_that_are_no_numbers_are_bad_input(make_task):
    net, group = two_layers()
    with torch.no_grad():
        net[0].weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match="0: its channels score NaN or infinity by Magnitude"):
        score_groups(make_task(net), [group], Magnitude())


def test_random_repeats_itself_and_differs_by_seed(make_task):
    task = make_task("plain")
    groups = find_groups(task).groups
    one, again, other = (Random(seed).scores(task, groups, None) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])
