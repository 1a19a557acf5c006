import math

import pytest
import torch
from torch import Tensor, nn

from regrow.data.errors import BadInput
from regrow.prune.channels import Group, Member
from regrow.prune.criteria import (
    Magnitude,
    Random,
    Taylor,
    magnitude,
    normalised,
    score_groups,
    taylor,
)
from regrow.prune.groups import find_groups


def test_magnitude_by_hand():
    weight = torch.tensor([[3.0, -4.0], [0.0, 0.0], [1.0, 1.0]])
    assert magnitude(weight).tolist() == pytest.approx([5, 0, math.sqrt(2)])
    assert magnitude(weight, 1).tolist() == [7, 0, 2]


def test_taylor_by_hand():
    weight = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    grad = torch.tensor([[0.5, -1.0], [2.0, 1.0]])
    # 0.5 - 2 = -1.5, and 6 - 1 = 5
    assert taylor(weight, grad).tolist() == [1.5, 5]


def test_taylor_refuses_another_shape():
    with pytest.raises(ValueError, match=r"grad has shape \(3,\), the weights \(2,\)"):
        taylor(torch.zeros(2), torch.zeros(3))


def test_taylor_is_the_loss_of_removing_a_linear_channel():
    # The loss is linear in the weights, so first order is exact.
    weight = torch.tensor([[2.0, 1.0], [-1.0, 3.0]], requires_grad=True)
    inputs = torch.tensor([0.5, -2.0])

    def loss(values: Tensor) -> Tensor:
        return (values @ inputs).sum()

    loss(weight).backward()
    for channel in range(2):
        without = weight.detach().clone()
        without[channel] = 0
        change = abs((loss(without) - loss(weight)).item())
        assert taylor(weight.detach(), weight.grad)[channel] == pytest.approx(change)


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


def test_grouped_convolutions_are_gathered_from_every_block(make_task):
    task = make_task("grouped")
    group = find_groups(task).groups[0]
    reader = next(member for member in group.members if member.side == "in")
    only = Group(reader.layer, (reader,))
    scores = Magnitude().scores(task, [only], None)[0]
    weight = task.net.body[1][0].weight.detach()
    assert scores.tolist() == pytest.approx(weight.transpose(0, 1).flatten(1).norm(dim=1).tolist())


def batches(count: int = 3, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (
            torch.randint(0, 256, (size, 3, 16, 16), generator=generator, dtype=torch.uint8),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def test_taylor_takes_the_absolute_value_before_it_averages_batches(make_task):
    task = make_task("plain")
    groups = find_groups(task).groups
    data = batches(2)
    both = Taylor(2).scores(task, groups, data)
    single = [Taylor(1).scores(task, groups, [batch]) for batch in data]
    for index, scores in enumerate(both):
        mean = (single[0][index] + single[1][index]) / 2
        assert torch.allclose(scores, mean, rtol=1e-5)


def test_taylor_by_brute_force_gradients(make_task):
    task = make_task("plain")
    group = find_groups(task).groups[0]
    images, targets = batches(1)[0]
    scores = Taylor(1).scores(task, [group], [(images, targets)])[0]
    task.net.eval()
    loss = nn.functional.cross_entropy(task(images)["logits"], targets)
    loss.backward()
    made, norm, reads = task.net.body[0][0], task.net.body[0][1], task.net.body[1][0]
    expected = (made.weight * made.weight.grad).flatten(1).sum(1).abs()
    # A norm's scale and shift each count, and so do the columns that read the channel.
    expected = (
        expected + (norm.weight * norm.weight.grad).abs() + (norm.bias * norm.bias.grad).abs()
    )
    expected = expected + (reads.weight * reads.weight.grad).transpose(0, 1).flatten(1).sum(1).abs()
    assert torch.allclose(scores, expected.detach() / 3, rtol=1e-4)


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


def test_taylor_leaves_the_task_as_it_was_and_sees_frozen_layers(make_task):
    task = make_task("residual")
    groups = find_groups(task).groups
    plain = Taylor(1).scores(task, groups, batches(1))
    task.net.train()
    task.net.body.a.eval()
    task.net.body.stem.requires_grad_(False)
    modes = [module.training for module in task.net.modules()]
    flags = [parameter.requires_grad for parameter in task.net.parameters()]
    state = {name: value.clone() for name, value in task.net.state_dict().items()}
    with torch.no_grad():
        frozen = Taylor(1).scores(task, groups, batches(1))
    for one, other in zip(plain, frozen, strict=True):
        assert torch.allclose(one, other, rtol=1e-5)
    assert [module.training for module in task.net.modules()] == modes
    assert [parameter.requires_grad for parameter in task.net.parameters()] == flags
    assert all(parameter.grad is None for parameter in task.net.parameters())
    for name, value in task.net.state_dict().items():
        assert torch.equal(value, state[name])


def test_taylor_reads_as_many_batches_as_asked_for(make_task):
    task = make_task("plain")
    groups = find_groups(task).groups

    def two_then_fail():
        yield from batches(2)
        pytest.fail("a third batch was read")

    read = Taylor(2).scores(task, groups, two_then_fail())
    for one, other in zip(read, Taylor(2).scores(task, groups, batches(5)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Taylor(0), "criterion.num_batches is 0"),
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
    with pytest.raises(BadInput, match="got no training images"):
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
