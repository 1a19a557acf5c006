import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Group, Member
from regrow.prune.contributions import contributions, one_by_one, some
from regrow.prune.criteria import Taylor


def batches(count: int = 3, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (
            torch.randint(0, 256, (size, 3, 16, 16), generator=generator, dtype=torch.uint8),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def test_units_that_are_read_without_a_call_are_scored_by_their_weights(make_task):
    class Uncalled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            x = nn.functional.conv2d(self.first(x).relu(), self.second.weight, self.second.bias)
            return x.mean((2, 3))

    task = make_task(Uncalled())
    units = tuple((channel,) for channel in range(4))
    group = Group("first", (Member("first", "out", units), Member("second", "in", units)))
    (data,) = batches(1)
    (scores,) = Taylor(1).scores(task, [group], [data])
    task.net.eval()
    nn.functional.cross_entropy(task(data[0])["logits"], data[1]).backward()
    first, second = task.net.first, task.net.second
    made = (first.weight * first.weight.grad).flatten(1).sum(1) + first.bias * first.bias.grad
    read = (second.weight * second.weight.grad).transpose(0, 1).flatten(1).sum(1)
    torch.testing.assert_close(scores, ((made + read) / 2).abs().detach(), rtol=1e-4, atol=1e-7)


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


def test_the_first_batches_and_single_images_in_order():
    given = batches(3, size=2)
    assert [len(images) for images, _ in some(given, 2)] == [2, 2]
    singles = list(one_by_one(given))
    assert [tuple(images.shape) for images, _ in singles] == [(1, 3, 16, 16)] * 6
    assert torch.equal(torch.cat([t for _, t in singles]), torch.cat([t for _, t in given]))
    with pytest.raises(BadInput, match="ranking needs training images"):
        next(some(None, 1))
    with pytest.raises(BadInput, match="there are no training images to rank by"):
        next(some([], 1))


def test_a_unit_contributes_what_scaling_it_changes(make_task):
    """The derivative of the loss of each image by a factor on a channel, by finite differences."""
    task = make_task("plain").double()
    task.net.eval()
    groups = find_groups(task).groups
    images, targets = batches(1, size=3)[0]
    (first, _) = contributions(task, groups, images, targets)
    reader = task.net.body[1][0]

    def losses(channel: int, factor: float) -> Tensor:
        scale = torch.ones(16, dtype=torch.double)
        scale[channel] = factor
        handle = reader.register_forward_pre_hook(lambda _, x: (x[0] * scale[:, None, None],))
        with torch.no_grad():
            logits = task(images)["logits"]
        handle.remove()
        return nn.functional.cross_entropy(logits, targets, reduction="none")

    for channel in (0, 7):
        slope = (losses(channel, 1 + 1e-5) - losses(channel, 1 - 1e-5)) / 2e-5
        assert first[:, channel].tolist() == pytest.approx(slope.tolist(), rel=1e-3, abs=1e-8)
